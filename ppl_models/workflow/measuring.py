"""What the checks of one fit are made on: its draws, flat and labelled, and the model's log density with gradients."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch.distributions import biject_to
from torch.distributions.transforms import ComposeTransform, ExpTransform, SigmoidTransform, Transform

from ppl_models.diagnostics import Check, psis_weights
from ppl_models.diagnostics.labelled import LabelledDraws, labelled_draws
from ppl_models.inference import Fit
from ppl_models.inference.draws import unconstrained
from ppl_models.program import Program
from ppl_models.program.batching import NOT_VECTORISABLE
from ppl_models.program.sites import Site
from ppl_models.seeds import child_seed
from ppl_models.workflow.clock import Clock
from ppl_models.workflow.weighing import Scale

LEAST_SCORES, SCORES_PER_LATENT = 2_000, 20
"""Draws at which gradients are taken."""
MOST_NUMBERS = 40_000_000
"""Draws times latents that are held flat."""


@dataclass(frozen=True)
class Measured:
    """Draws of a guide, and what can be computed at them.

    Attributes:
        fit: whose draws they are.
        tree: as `fit.sample` gives them.
        draws: the tree's posterior.
        labelled: the same as a matrix.
        log_ratio: log p - log q in nats, shape (draw,).
    """

    fit: Fit
    tree: xr.DataTree
    draws: xr.Dataset
    labelled: LabelledDraws
    log_ratio: np.ndarray

    @classmethod
    def of(cls, fit: Fit, num_draws: int, seed: int) -> "Measured":
        """Draw from a fit, with the seed that reports draw with."""
        tree = fit.sample(num_draws, seed=child_seed(seed, "check"))
        draws = tree["posterior"].to_dataset()
        return cls(fit, tree, draws, labelled_draws(draws), log_ratio_of(tree))

    @property
    def values(self) -> np.ndarray:
        """Scalar parameters, shape (draw, parameter)."""
        return self.labelled.values.reshape(-1, len(self.labelled.labels))


@dataclass(frozen=True)
class Flat:
    """The draws of a guide in unconstrained space.

    Attributes:
        points: shape (draw, dim).
        labels: of the coordinates: `mu`, `log(tau)`, `theta[Choate]`.
        scale: the model's log density with gradients, and parameters at any points.
    """

    points: np.ndarray = field(repr=False)
    labels: tuple[str, ...]
    scale: Scale

    @classmethod
    def of(cls, measured: Measured) -> "Flat | str":
        """The draws of a guide in unconstrained space; why not where there are none."""
        program = measured.fit.program
        if program.sites.discrete:
            return "a latent is discrete"
        if program.batched:
            return "the data come in batches"
        if program.num_dims * len(measured.log_ratio) > MOST_NUMBERS:
            return f"{program.num_dims:,} latents are too many"
        points = _unconstrained(program, measured.draws)
        if points is None or not np.isfinite(points).all():
            return "some draws have no finite unconstrained value"
        return cls(points, _labels(program, measured.labelled.labels), Scale(program))

    def scores(self, num_draws: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Some points, shape (draw, dim), and the gradients of the log density there, of the same shape."""
        wanted = num_draws or max(LEAST_SCORES, SCORES_PER_LATENT * self.points.shape[1])
        points = self.points[:wanted]
        return points, self.scale.gradients(points)


def held_against(
    table: Callable[..., pd.DataFrame],
    joint: Callable[..., Check | None],
    log_ratio: np.ndarray,
    khat: Check,
    clock: Clock,
    *,
    name: str,
    corrected: bool,
) -> dict[str, Any]:
    """The table and the joint check against a reference, and those of the draws corrected by their weights.

    Args:
        table: compares the marginals; takes `log_weights`.
        joint: compares combinations; takes `log_weights`.
        log_ratio: log p - log q in nats of the draws, shape (draw,).
        khat: of their weights.
        clock: counts the seconds.
        name: of the table among what `decide` takes.
        corrected: whether the draws are judged with their weights, and no others.
    """
    weights = psis_weights(log_ratio)[0] if corrected or khat.passed else None
    own = weights if corrected else None
    found: dict[str, Any] = {}
    with clock.on("marginals"):
        found[name] = table(log_weights=own)
    with clock.on("joint"):
        found["joint"] = joint(log_weights=own)
    if weights is not None and not corrected:
        with clock.on("corrected"):
            found["corrected_table"] = table(log_weights=weights)
            found["corrected_joint"] = joint(log_weights=weights)
    return found


def log_ratio_of(tree: xr.DataTree) -> np.ndarray:
    """Log p - log q in nats of a fit's draws, shape (draw,)."""
    stats = tree["sample_stats"].to_dataset()
    return (stats["log_p"] - stats["log_q"]).values.reshape(-1)


def _unconstrained(program: Program, draws: xr.Dataset) -> np.ndarray | None:
    latents = {
        site.name: torch.as_tensor(
            draws[site.name].transpose("chain", "draw", ...).to_numpy(), dtype=program.dtype, device=program.device
        ).flatten(0, 1)
        for site in program.sites.latent
    }
    with program.isolated(seed=0, num_threads=1):
        try:
            return unconstrained(program, latents)
        except NOT_VECTORISABLE:
            return None


def _labels(program: Program, known: tuple[str, ...]) -> tuple[str, ...]:
    """A name for each unconstrained coordinate: the parameter's own, in the function that unconstrains it."""
    found: list[str] = []
    for site in program.sites.latent:
        own = [label for label in known if label == site.name or label.startswith(f"{site.name}[")]
        shape = site.unconstrained_shape
        assert shape is not None
        if shape == site.shape and len(own) == shape.numel():
            function = _function(site)
            found += [function.format(label) for label in own] if function else own
        else:
            found += [f"{site.name}[free {index}]" for index in range(shape.numel())]
    return tuple(found)


def _function(site: Site) -> str:
    parts = _parts(biject_to(site.support))
    if any(isinstance(part, ExpTransform) for part in parts):
        return "log({})"
    return "logit({})" if any(isinstance(part, SigmoidTransform) for part in parts) else ""


def _parts(transform: Transform) -> list[Transform]:
    return list(transform.parts) if isinstance(transform, ComposeTransform) else [transform]
