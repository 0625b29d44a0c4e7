"""Draws of the guide at some rows, and of the latents that all rows share."""

from collections.abc import Mapping
from typing import Any

import pyro.poutine as poutine
import torch

from ppl_models.errors import GuideError
from ppl_models.inference import Fit
from ppl_models.program import Rows, map_draws
from ppl_models.program.handlers import FromValues
from ppl_models.program.nodes import is_point, nodes_of, sites_of, summed
from ppl_models.seeds import child_seed
from ppl_models.workflow.representation.representation import PROBE, Representation

Draws = dict[str, torch.Tensor]
"""Constrained values by site, shape (draw, *event)."""

LOG_Q = "/log q"
"""No site has a "/" in its name."""


def shared_draws(representation: Representation, num_draws: int, seed: int) -> Draws:
    """Draws of what stands outside of the data plate in the guide, which all rows share; empty where nothing does.

    Auxiliary sites of the guide are among them, so that what depends on them follows.
    """
    fit, rows = representation.fit, representation.rows
    if not rows.outside:
        return {}
    arguments = rows.take(representation.arguments, torch.arange(min(rows.num_rows, PROBE)))

    def one() -> Draws:
        nodes = sites_of(poutine.trace(fit.guide).get_trace(*arguments.args, **arguments.kwargs))
        return {name: node["value"] for name, node in nodes.items() if not in_plate(node, rows)}

    with fit.program.isolated(seed=child_seed(seed, "shared")), torch.no_grad():
        return map_draws(one, num_draws, size_hint=fit.program.size_hint)


def local_draws(
    fit: Fit, rows: Rows, num_draws: int, seed: int, shared: Mapping[str, torch.Tensor]
) -> tuple[Draws, torch.Tensor | None]:
    """Draws of q(z | x, shared) at the fit's rows, and their log density.

    Args:
        fit: at the rows.
        rows: the plate over them.
        num_draws: number of draws.
        seed: of the draws.
        shared: draws of what all rows share, shape (draw, *event).

    Returns:
        Local latents by site, shape (draw, *event), and log q(z | x) in nats, shape (draw, row); None where the guide
        has no density of one row's latents.

    Raises:
        GuideError: a latent of the rows is summed out, so that the guide does not draw it.
    """
    dense = has_row_density(fit, rows)
    arguments = fit.program.arguments

    def one(fixed: Draws) -> Draws:
        with FromValues(fixed):
            trace = poutine.trace(fit.guide).get_trace(*arguments.args, **arguments.kwargs)
        found = {name: nodes_of(trace)[name]["value"] for name in rows.latents}
        return {**found, LOG_Q: log_density(sites_of(trace), rows)} if dense else found

    with fit.program.isolated(seed=child_seed(seed, "local")), torch.no_grad():
        draws = map_draws(one, num_draws, dict(shared), size_hint=fit.program.size_hint)
    return draws, draws.pop(LOG_Q, None)


def has_row_density(fit: Fit, rows: Rows) -> bool:
    """Whether the guide's density splits by rows: its sites in the plate have as many numbers as the latents there.

    A flat vector outside of the plate leaves point masses inside.

    Raises:
        GuideError: the guide does not draw a latent of the rows.
    """
    arguments = fit.program.arguments
    with fit.program.isolated(seed=0), torch.no_grad():
        nodes = sites_of(poutine.trace(fit.guide).get_trace(*arguments.args, **arguments.kwargs))
    missing = [name for name in rows.latents if name not in nodes]
    if missing:
        raise GuideError(
            f"guide '{fit.guide_name}' does not draw '{missing[0]}', which the model sums out. Let the guide draw it, "
            "or give it in the data."
        )
    if not fit.has_density:
        return False
    sites = {name: fit.program.sites[name] for name in rows.latents}
    sizes = {name: (site.unconstrained_shape or site.shape).numel() for name, site in sites.items()}
    found = sum(
        sizes.get(name) or node["value"].numel()
        for name, node in nodes.items()
        if in_plate(node, rows) and not is_point(node["fn"])
    )
    return found == sum(sizes.values())


def log_density(nodes: Mapping[str, Any], rows: Rows) -> torch.Tensor:
    """Log density in nats of the sites of each row, unscaled, shape (row,)."""
    total: Any = 0.0
    for node in nodes.values():
        if in_plate(node, rows):
            total = total + summed(node, node["fn"].log_prob(node["value"]), [rows.dim], scaled=False)
    return total


def in_plate(node: Any, rows: Rows) -> bool:
    """Whether a site stands in the plate over the rows."""
    return any(frame.name == rows.plate and frame.vectorized for frame in node["cond_indep_stack"])
