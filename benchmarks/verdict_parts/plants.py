"""Faults planted in the guide of a fit: `plant(fit, fault)` gives a fit whose draws have it.

All that the fit says of its own course stays: a fault shall be seen in the draws.
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from pyro.infer.autoguide.guides import AutoContinuous

from benchmarks.verdict_parts.planted_guide import Posterior, cut, moved, normal, planted_guide
from benchmarks.verdict_parts.subject import Mode
from ppl_models.inference import Fit
from ppl_models.program import map_draws

NUM_DRAWS = 20_000
"""Draws of the fit whose moments a planted guide takes."""
WIDTH = 1.5
"""Where tails are cut, in sds."""
HALF_WIDTH, NARROWED, SHIFTED_QUARTER = "half_width", "three_quarters_width", "shifted_quarter"
SHIFTED_HALF, SHIFTED_ONE = "shifted_half", "shifted_one"
DROPPED, TAILS_CUT, MISSED = "dropped_correlation", "tails_cut", "missed_mode"


def plant(fit: Fit, fault: str, *, seed: int = 0, mode: Mode | None = None) -> Fit:
    """The fit with another guide, which has a fault.

    Args:
        fit: what was fitted; its guide has a density.
        fault: one of `PLANTS`. "half_width" and "three_quarters_width": every deviation from the mean is
            multiplied by 0.5 or 0.75, unconstrained. "shifted_quarter", "shifted_half" and "shifted_one": the mean of
            one coordinate is off by 0.25, 0.5 or 1 sd, and those that go with it as far as they go with it, which is
            the shift of least divergence. "dropped_correlation": independent normals with
            the fit's means and sds. "tails_cut": a normal with the fit's moments, of which each standardised
            coordinate is cut off at 1.5 sd. "missed_mode": the normal of one mode.
        seed: chooses the coordinate that is shifted.
        mode: the mode that "missed_mode" keeps.

    Families of one flat vector stay what they are when they are narrowed or shifted; other guides become the normal
    that has the moments of their unconstrained draws.
    """
    draws = unconstrained_draws(fit, NUM_DRAWS, seed + 77)
    mean, covariance = draws.mean(axis=0), np.atleast_2d(np.cov(draws.T))
    inner = _own(fit) or normal(mean, covariance)
    posterior = PLANTS[fault](inner, mean, covariance, seed, mode)
    guide = planted_guide(fit.program, posterior, mean)
    return replace(fit, guide=guide, guide_name=f"{fit.guide_name}, {fault}", family=None)


def unconstrained_draws(fit: Fit, num_draws: int, seed: int) -> np.ndarray:
    """Draws of a fit's guide, shape (draw, dim)."""
    posterior, program = fit.sample(num_draws, seed=seed)["posterior"], fit.program
    latents = {
        site.name: torch.as_tensor(posterior[site.name].to_numpy()[0], dtype=program.dtype)
        for site in program.sites.latent
    }
    with program.isolated(seed=0), torch.no_grad():
        flat = map_draws(program.unconstrain, num_draws, latents, size_hint=program.size_hint)
    return flat.numpy()


def _own(fit: Fit) -> Posterior | None:
    """The guide's own distribution, where it is one of a flat vector in the program's order."""
    guide = fit.guide
    if not isinstance(guide, AutoContinuous) or list(guide._unconstrained_shapes) != list(fit.program.slices):
        return None
    return guide.get_posterior


Maker = Callable[[Posterior, np.ndarray, np.ndarray, int, Mode | None], Posterior]


def _shift(size: float) -> Maker:
    def maker(inner: Posterior, mean: np.ndarray, covariance: np.ndarray, seed: int, _: Mode | None) -> Posterior:
        which = int.from_bytes(hashlib.sha256(f"shift {seed}".encode()).digest()[:4]) % len(mean)
        along = covariance[:, which] / np.sqrt(covariance[which, which])
        return moved(inner, mean, 1.0, size * along)

    return maker


def _narrow(factor: float) -> Maker:
    def maker(inner: Posterior, mean: np.ndarray, covariance: np.ndarray, seed: int, _: Mode | None) -> Posterior:
        return moved(inner, mean, factor, np.zeros_like(mean))

    return maker


def _dropped(inner: Posterior, mean: np.ndarray, covariance: np.ndarray, seed: int, _: Mode | None) -> Posterior:
    return normal(mean, np.diag(np.diag(covariance)))


def _cut(inner: Posterior, mean: np.ndarray, covariance: np.ndarray, seed: int, _: Mode | None) -> Posterior:
    return cut(mean, covariance, WIDTH)


def _missed(inner: Posterior, mean: np.ndarray, covariance: np.ndarray, seed: int, mode: Mode | None) -> Posterior:
    assert mode is not None, "a mode can be missed where there are several"
    return normal(mode.mean, mode.covariance)


PLANTS: dict[str, Maker] = {
    HALF_WIDTH: _narrow(0.5),
    NARROWED: _narrow(0.75),
    SHIFTED_QUARTER: _shift(0.25),
    SHIFTED_HALF: _shift(0.5),
    SHIFTED_ONE: _shift(1.0),
    DROPPED: _dropped,
    TAILS_CUT: _cut,
    MISSED: _missed,
}
