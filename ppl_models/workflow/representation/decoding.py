"""The model at given latents: what it expects of the data, draws of them, and the densities of each row."""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyro.poutine as poutine
import torch
from torch.distributions import Independent

from ppl_models.inference import Fit
from ppl_models.program import Rows, map_draws
from ppl_models.program.handlers import FromValues, Unobserve, is_latent
from ppl_models.program.nodes import nodes_of, summed
from ppl_models.seeds import child_seed
from ppl_models.workflow.representation.drawing import Draws, in_plate

MEAN, DRAW, LOG_LIKELIHOOD, LOG_PRIOR, LATENT = "mean", "draw", "log likelihood", "log prior", "latent"


@dataclass(frozen=True)
class Decoded:
    """What the model says of some rows at each draw of their latents.

    Attributes:
        mean: mean of the likelihood by observed site, shape (draw, *event); sites without a mean are left out.
        draws: draws of the data by observed site, shape (draw, *event).
        log_likelihood: log p(x | z) in nats by site that was observed, shape (draw, row).
        log_prior: log p(z) in nats, shape (draw, row).
        latents: latents that the model drew itself, by site, shape (draw, *event).
    """

    mean: Draws
    draws: Draws
    log_likelihood: Draws
    log_prior: torch.Tensor
    latents: Draws


def decoded(
    fit: Fit,
    rows: Rows,
    values: Mapping[str, torch.Tensor],
    num_draws: int,
    seed: int,
    *,
    unknown: Iterable[str] = (),
    wanted: Iterable[str] = (MEAN, DRAW, LOG_LIKELIHOOD),
) -> Decoded:
    """Run the model at draws of its latents.

    Args:
        fit: at the rows.
        rows: the plate over them.
        values: latents of the rows and those that they share, shape (draw, *event); the model draws those not given.
        num_draws: how many draws there are.
        seed: of the draws of the data.
        unknown: observed sites whose values are placeholders; they are drawn, and what depends on them follows.
        wanted: which of mean, draws and log likelihood to find.
    """
    unknown, wanted = set(unknown), set(wanted)
    model = Unobserve(unknown)(fit.program.model)
    arguments = fit.program.arguments

    def one(draw: Draws) -> dict[Any, torch.Tensor]:
        with FromValues(draw):
            nodes = nodes_of(poutine.trace(model).get_trace(*arguments.args, **arguments.kwargs))
        found: dict[Any, torch.Tensor] = {}
        for name in rows.observed:
            found |= _of_observed(name, nodes[name], rows, fit.program.sites[name].shape, wanted, name in unknown)
        prior: Any = 0.0
        for name in rows.latents:
            if in_plate(nodes[name], rows):
                prior = prior + _by_row(nodes[name], rows)
            if name not in values and is_latent(nodes[name]):
                found[LATENT, name] = nodes[name]["value"]
        found[LOG_PRIOR, ""] = prior
        return found

    with fit.program.isolated(seed=child_seed(seed, "decode")), torch.no_grad(), warnings.catch_warnings():
        flat = map_draws(one, num_draws, dict(values), size_hint=fit.program.size_hint)
    part = {
        kind: {name: value for (of, name), value in flat.items() if of == kind}
        for kind in (MEAN, DRAW, LOG_LIKELIHOOD, LATENT)
    }
    return Decoded(part[MEAN], part[DRAW], part[LOG_LIKELIHOOD], flat[LOG_PRIOR, ""], part[LATENT])


def _of_observed(
    name: str, node: Any, rows: Rows, shape: torch.Size, wanted: set[str], unknown: bool
) -> dict[Any, torch.Tensor]:
    found: dict[Any, torch.Tensor] = {}
    if MEAN in wanted:
        mean = likelihood_mean(node["fn"])
        if mean is not None:
            found[MEAN, name] = mean.expand(shape)
    if DRAW in wanted:
        drawn = node["value"] if unknown else node["fn"].sample()
        found[DRAW, name] = drawn.expand(shape)
    if LOG_LIKELIHOOD in wanted and not unknown:
        found[LOG_LIKELIHOOD, name] = _by_row(node, rows)
    return found


def _by_row(node: Any, rows: Rows) -> torch.Tensor:
    return summed(node, node["fn"].log_prob(node["value"]), [rows.dim], scaled=False)


def likelihood_mean(fn: Any) -> torch.Tensor | None:
    """Mean of a distribution, shape (*batch, *event); None where it has no closed form.

    That of a categorical distribution is the mean of the category's number.
    """
    if isinstance(fn, Independent):
        return likelihood_mean(fn.base_dist)
    if isinstance(fn, torch.distributions.Categorical):
        return (fn.probs * torch.arange(fn.probs.shape[-1], dtype=fn.probs.dtype, device=fn.probs.device)).sum(-1)
    try:
        return fn.mean
    except NotImplementedError:
        return None
