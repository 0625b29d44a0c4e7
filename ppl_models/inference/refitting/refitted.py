"""Draws of a refit, as plain arrays."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ppl_models.inference.draws import latent_draws
from ppl_models.inference.fit_result import Fit
from ppl_models.program import Program, map_draws
from ppl_models.seeds import child_seed


@dataclass(frozen=True)
class Refitted:
    """Draws from the posterior of other data.

    Attributes:
        values: draws of each latent, constrained, by name; each of shape (draw, *event).
        log_ratio: log p - log q in nats at the draws, shape (draw,); NaN where the guide has no density.
        status: how the refit ended, as `Fit.status` has it.
        seconds: time spent, with that of the draws.
        note: what was out of the ordinary; empty otherwise.
    """

    values: dict[str, np.ndarray]
    log_ratio: np.ndarray
    status: str
    seconds: float
    note: str = ""


def draws_of(fit: Fit, num_draws: int, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Draws of a fit's latents, each of shape (draw, *event), and log p - log q in nats there, shape (draw,)."""
    with fit.program.isolated(seed=child_seed(seed, "draws")):
        values, ratio = drawn(fit.program, fit.guide, num_draws)
    return values, ratio if fit.has_density else np.full(num_draws, np.nan)


def drawn(program: Program, guide: Callable[..., Any], num_draws: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The same of a guide whose parameters are in the store, in the caller's world."""
    values, log_q = latent_draws(program, guide, num_draws)

    def density(draw: Any) -> torch.Tensor:
        return program.log_joint(draw)

    with torch.no_grad():
        log_p = map_draws(density, num_draws, values, size_hint=program.size_hint)
    arrays = {name: value.detach().cpu().numpy() for name, value in values.items()}
    return arrays, (log_p - log_q).cpu().numpy()
