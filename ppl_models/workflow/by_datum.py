"""`ppl.check_by_datum`: whose local latents does the guide miss?"""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro.poutine as poutine
import torch
from pyro.poutine.trace_struct import Trace

from ppl_models.diagnostics import Check, check_khat_by_datum, khat_limit
from ppl_models.diagnostics.by_datum import NAME
from ppl_models.errors import OptionError
from ppl_models.inference import Fit
from ppl_models.options import check_count
from ppl_models.program import map_draws
from ppl_models.program.handlers import FromValues
from ppl_models.program.nodes import is_point, nodes_of, sites_of, summed
from ppl_models.seeds import check_seed, child_seed

Frames = frozenset[tuple[str, int]]
"""Plates by name and batch axis."""


@dataclass(frozen=True)
class LocalPlates:
    """The plates that hold latents of their own: by name, and why the weights of some cannot be had.

    Attributes:
        measured: name of one plate, or of several with a comma between, and the plates.
        refused: the same names, and the reason.
    """

    measured: dict[str, Frames]
    refused: dict[str, str]


def log_ratio_by_datum(fit: Fit, num_draws: int = 4_000, *, seed: int = 0) -> dict[str, np.ndarray]:
    """The importance weight of each datum's own latents.

    The log weight of element i of a plate is log p(z_i, y_i | globals) - log q(z_i | globals, data): the sum over the
    sites inside that element, at one draw of the guide. Given the globals, the elements are independent.

    Args:
        fit: what `ppl.fit` returned.
        num_draws: draws of the guide.
        seed: of these draws.

    Returns:
        By plate, log ratios in nats, shape (draw, element); elements of nested or crossed plates in row-major order
        under their names, as "school, pupil". Plates whose weights cannot be had are left out.

    Raises:
        OptionError: `fit` is no fit, or an option is out of its range.
    """
    _check_fit(fit)
    check_count("num_draws", num_draws)
    plates = _local_plates(fit).measured
    if not plates:
        return {}
    with fit.program.isolated(seed=child_seed(check_seed(seed), "draws")), torch.no_grad():
        drawn = map_draws(lambda: _log_ratios(fit, plates), num_draws, size_hint=fit.program.size_hint)
    return {name: value.double().cpu().numpy() for name, value in drawn.items()}


def check_by_datum(fit: Fit, *, num_draws: int = 4_000, seed: int = 0) -> tuple[Check, ...]:
    """Judge a guide datum by datum where latents belong to the elements of a plate.

    Args:
        fit: what `ppl.fit` returned.
        num_draws: draws of the guide; at least 1,000.
        seed: of these draws.

    Returns:
        One check for each plate with latents of its own, none for a model without. Guides that draw all latents as one
        vector have no weight of one datum: those checks are not measured.

    Raises:
        OptionError: `fit` is no fit, or an option is out of its range.
    """
    _check_fit(fit)
    check_count("num_draws", num_draws, least=1_000)
    found = _local_plates(fit)
    ratios = log_ratio_by_datum(fit, num_draws, seed=seed)
    labels = {name: _labels(fit, name, frames) for name, frames in found.measured.items()}
    measured = [check_khat_by_datum(ratio, labels[name], where=name) for name, ratio in ratios.items()]
    limit = khat_limit(num_draws)
    return (
        *measured,
        *(
            Check(f"{NAME} ({name})", np.nan, limit, None, "", detail=f"not measured: {reason}")
            for name, reason in found.refused.items()
        ),
    )


def _check_fit(fit: Any) -> None:
    if not isinstance(fit, Fit):
        raise OptionError(f"fit: found {type(fit).__name__}, wanted the result of ppl.fit.")


def _local_plates(fit: Fit) -> LocalPlates:
    """Which plates hold latents, and of which the guide's density splits by their elements.

    It does where the sites of the guide inside the plates have as many unconstrained numbers as the model's latents
    there; a flat vector outside of all plates leaves point masses inside, which have none.
    """
    with fit.program.isolated(seed=0), torch.no_grad():
        model, guide = _traces(fit)
    latents = fit.program.sites.latent + fit.program.sites.discrete
    nodes = nodes_of(model)
    groups = {_frames(nodes[site.name]) for site in latents} - {frozenset()}
    measured, refused = {}, {}
    for frames in sorted(groups, key=_name):
        inside = [site for site in latents if frames <= _frames(nodes[site.name])]
        sizes = {site.name: (site.unconstrained_shape or site.shape).numel() for site in inside}
        found = sum(
            sizes.get(name) or node["value"].numel()
            for name, node in sites_of(guide).items()
            if frames <= _frames(node) and not is_point(node["fn"])
        )
        reason = _obstacle(fit, nodes, frames)
        if not reason and found != sum(sizes.values()):
            reason = "the guide has no density of its own for one element of this plate"
        if reason:
            refused[_name(frames)] = reason
        else:
            measured[_name(frames)] = frames
    return LocalPlates(measured, refused)


def _obstacle(fit: Fit, nodes: Mapping[str, Any], frames: Frames) -> str:
    if fit.point or not fit.has_density:
        return "a point has no density" if fit.point else "particles have no density"
    if fit.program.sites.enumerated:
        return "the model sums out discrete sites, so its density has no separate terms"
    sizes = {
        frame.name: (frame.size, frame.full_size)
        for node in nodes.values()
        if node["type"] == "sample"
        for frame in node["cond_indep_stack"]
        if (frame.name, frame.dim) in frames
    }
    part = [name for name, (size, full) in sizes.items() if full is not None and full > size]
    if part or fit.program.batched:
        return f"the plate '{part[0]}' holds a subsample" if part else "the data come in batches"
    return ""


def _traces(fit: Fit) -> tuple[Trace, Trace]:
    """Model and guide at one draw of the guide, in the caller's Pyro state."""
    program, arguments = fit.program, fit.program.arguments
    guide = poutine.trace(fit.guide).get_trace(*arguments.args, **arguments.kwargs)
    drawn = nodes_of(guide)
    names = [site.name for site in program.sites.latent + program.sites.discrete]
    with FromValues({name: drawn[name]["value"] for name in names}):
        return poutine.trace(program.model).get_trace(*arguments.args, **arguments.kwargs), guide


def _log_ratios(fit: Fit, plates: Mapping[str, Frames]) -> dict[str, torch.Tensor]:
    traces = _traces(fit)
    found = {}
    for name, frames in plates.items():
        axes = sorted(axis for _, axis in frames)
        total: Any = 0.0
        for sign, trace in zip((1.0, -1.0), traces, strict=True):
            for node in sites_of(trace).values():
                if frames <= _frames(node):
                    total = total + sign * summed(node, node["fn"].log_prob(node["value"]), axes)
        found[name] = total.reshape(-1)
    return found


def _frames(node: Any) -> Frames:
    return frozenset((frame.name, frame.dim) for frame in node["cond_indep_stack"] if frame.vectorized)


def _name(frames: Iterable[tuple[str, int]]) -> str:
    return ", ".join(name for name, _ in sorted(frames, key=lambda frame: frame[1]))


def _labels(fit: Fit, name: str, frames: Frames) -> list[str]:
    """A name for every element: the plate's, with the coordinate of each axis."""
    labels = fit.labels.of_program(fit.program)
    sites = fit.program.sites
    axes = [axis for _, axis in sorted(frames, key=lambda frame: frame[1])]
    for site in sites.latent + sites.discrete:
        num_batch = len(site.shape) - site.event_dim
        if all(-axis <= num_batch and site.plates[num_batch + axis] in dict(frames) for axis in axes):
            coords = [np.asarray(labels.coords[labels.dims[site.name][num_batch + axis]]).tolist() for axis in axes]
            return [f"{name}[{', '.join(str(value) for value in index)}]" for index in itertools.product(*coords)]
    raise AssertionError(f"no latent in the plates {name}")
