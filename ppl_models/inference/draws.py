"""Draws of a guide's latents."""

from collections.abc import Callable
from typing import Any

import pyro.poutine as poutine
import torch

from ppl_models.program import Program, map_draws
from ppl_models.program.nodes import nodes_of

LOG_Q = "log q"


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
