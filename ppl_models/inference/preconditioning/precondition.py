"""Coordinates for a fit: a normal approximation of the target, found first, gives every direction its unit."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pyro.infer.autoguide import AutoGuide

from ppl_models.engine import Coordinates, batched_gradient
from ppl_models.engine.batched_density import BatchedGradient
from ppl_models.inference.preconditioning.blocks import joined
from ppl_models.inference.preconditioning.families import blocks_of, is_flow, start_of
from ppl_models.inference.preconditioning.pilot import Normal, approximate, num_pairs
from ppl_models.program import Parameters, Program, isolated
from ppl_models.program.batching import NOT_VECTORISABLE

MOST_NUMBERS = 5_000_000
"""Programs that hold more numbers than this are fitted without a look at the whole of their data."""
CHEAP_NUMBERS = 300_000
"""A look costs little where all its points together hold fewer numbers; then several starts are tried."""
MORE_STARTS = 3
NUM_TRIES = 100
CLEARLY_BETTER = 1.0
"""Nats by which another start must beat the first to be taken instead."""


@dataclass(frozen=True)
class Preconditioning:
    """What the look at the target found.

    Attributes:
        coordinates: what the optimiser moves in; None for the parameters themselves.
        normal: the target's normal approximation; None where there was no look.
        note: what was out of the ordinary; empty otherwise.
        endless: latents along which the target seems to have no scale.
    """

    coordinates: Coordinates | None = None
    normal: Normal | None = None
    note: str = ""
    endless: tuple[str, ...] = ()


def precondition(
    guide: Callable[..., Any],
    program: Program,
    seed: int,
    *,
    init_scale: float,
    shrink: float = 1.0,
    from_prior: bool = False,
) -> Preconditioning:
    """Look at a program's target and take coordinates for an automatic guide from it.

    Call it in the fit's world, behind the guide's first run. The guide's parameters end at the approximation found.

    Args:
        guide: the guide; only those that Pyro's automatic families know how to read are preconditioned.
        program: the model with its data.
        seed: of the draws.
        init_scale: standard deviations at the start, unconstrained.
        shrink: factor of the scales found, where the optimiser begins.
        from_prior: begin at a draw of the prior instead of the guide's own locations.
    """
    if not isinstance(guide, AutoGuide) or program.batched or not program.num_dims:
        return Preconditioning()
    if program.size_hint > MOST_NUMBERS:
        return Preconditioning(note=f"no look at the target: it holds more than {MOST_NUMBERS:,} numbers")
    begin = start_of(guide, program)
    if begin is None:
        return Preconditioning()
    count = 2 * num_pairs(program.num_dims)
    world = isolated(
        seed=seed, dtype=program.dtype, parameters=Parameters.from_store(), full_data=True, device=program.device
    )
    with world:
        batched = _checked(batched_gradient(program, count))

        def gradient(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            values, slopes = batched(torch.as_tensor(points, dtype=program.dtype, device=program.device))
            return values.double().cpu().numpy(), slopes.double().cpu().numpy()

        held = program.num_dims + sum(site.shape.numel() for site in program.sites.observed)
        others = MORE_STARTS if count * held <= CHEAP_NUMBERS else 0
        starts, note = _starts(gradient, program, begin, others, from_prior)
        rng = np.random.default_rng(seed)
        scale = np.full(program.num_dims, init_scale)
        found = [approximate(gradient, start, scale, rng) for start in starts]
    if not found:
        return Preconditioning(note=note)
    best = max(found, key=lambda normal: normal.elbo)
    chosen = found[0] if found[0].elbo > best.elbo - CLEARLY_BETTER else best
    if not np.isfinite(chosen.elbo):
        return Preconditioning(note="no look at the target: its log density was not finite around any start")
    endless = _names(program, chosen.endless)
    blocks = blocks_of(guide, program, chosen, shrink)
    coordinates = joined(blocks, program.dtype, identified=not is_flow(guide)) if blocks else None
    return Preconditioning(coordinates, chosen, note, endless)


def _checked(batched: BatchedGradient) -> BatchedGradient:
    def gradient(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        try:
            return batched(points)
        except NOT_VECTORISABLE:
            # A Cholesky factor of what is not positive definite, for one: no place to be.
            return torch.full((len(points),), torch.nan), torch.full_like(points, torch.nan)

    return gradient


def _starts(
    gradient: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    program: Program,
    begin: np.ndarray,
    others: int,
    from_prior: bool,
) -> tuple[list[np.ndarray], str]:
    """Points with a finite log density: the guide's own, and draws of the prior."""
    wanted = max(1, others) if from_prior else 1 + others
    tries = [] if from_prior else [begin]
    for _ in range(wanted if others or from_prior else 0):
        tries.append(_prior_draw(program))
    found = [point for point in tries if _finite(gradient, point)]
    if found and (from_prior or found[0] is begin):
        return found[:wanted], ""
    for number in range(NUM_TRIES):
        if found:
            break
        uniform = 4.0 * torch.rand(program.num_dims, dtype=torch.float64).cpu().numpy() - 2.0
        point = uniform if number % 2 else _prior_draw(program)
        found = [point] if _finite(gradient, point) else []
    if not found:
        return [], f"start: the log density was not finite at {len(tries) + NUM_TRIES} points of the prior and around 0"
    return found[:wanted], "start: the log density was not finite at the initial values; begun elsewhere"


def _prior_draw(program: Program) -> np.ndarray:
    with torch.no_grad():
        return program.prior_draw().double().cpu().numpy()


def _finite(gradient: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], point: np.ndarray) -> bool:
    if not np.isfinite(point).all():
        return False
    values, slopes = gradient(point[None])
    return bool(np.isfinite(values).all() and np.isfinite(slopes).all())


def _names(program: Program, dims: tuple[int, ...]) -> tuple[str, ...]:
    found = []
    for name, (place, _) in program.slices.items():
        if any(place.start <= dim < place.stop for dim in dims):
            found.append(name)
    return tuple(found)
