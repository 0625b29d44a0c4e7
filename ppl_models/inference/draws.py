"""Draws of a guide's latents."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyro.poutine as poutine
import torch
from torch.distributions import biject_to

from ppl_models.program import Program, map_draws
from ppl_models.program.nodes import nodes_of

LOG_P, LOG_Q = "log p", "log q"


def unconstrained(program: Program, values: Mapping[str, torch.Tensor]) -> np.ndarray:
    """The flat unconstrained vectors of draws, shape (draw, dim), in the caller's Pyro state.

    Args:
        program: the model with its data.
        values: every continuous latent, constrained, by name, shape (draw, *event).
    """
    latents = {site.name: values[site.name] for site in program.sites.latent}
    count = len(next(iter(latents.values())))
    with torch.no_grad():
        if program.moving_supports:
            flat: Any = map_draws(program.unconstrain, count, latents, size_hint=program.size_hint)
        else:
            inverses = ((biject_to(site.support).inv, latents[site.name]) for site in program.sites.latent)
            flat = torch.cat([inverse(value).reshape(count, -1) for inverse, value in inverses], dim=1)
    return flat.double().cpu().numpy()


def latent_draws(
    program: Program, guide: Callable[..., Any], num_draws: int
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Draws of every latent by name, shape (draw, *event), and the guide's log density there in nats, shape (draw,).

    In the caller's Pyro state, with the parameters that are in the param store.
    """
    names = [site.name for site in program.sites.latent + program.sites.discrete]
    arguments = program.arguments

    def one() -> dict[str, torch.Tensor]:
        trace = poutine.trace(guide).get_trace(*arguments.args, **arguments.kwargs)
        log_q = torch.as_tensor(trace.log_prob_sum(), dtype=program.dtype)
        return {**{name: nodes_of(trace)[name]["value"] for name in names}, LOG_Q: log_q}

    with torch.no_grad():
        draws = map_draws(one, num_draws, size_hint=program.size_hint)
    log_q = draws.pop(LOG_Q)
    return draws, log_q


def scored(
    program: Program, values: Mapping[str, torch.Tensor], num_draws: int
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Log joint density of latents and data in nats, shape (draw,), and the deterministics, shape (draw, *event).

    In the caller's Pyro state.

    Args:
        program: the model with its data.
        values: every latent, constrained, by name, shape (draw, *event).
        num_draws: how many there are.
    """

    def one(draw: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        log_p, deterministics = program.log_joint_and_deterministics(draw)
        return {**deterministics, LOG_P: log_p}

    with torch.no_grad():
        found = map_draws(one, num_draws, dict(values), size_hint=program.size_hint)
    return found.pop(LOG_P), found
