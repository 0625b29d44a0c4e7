"""Coordinates for a fit: a normal approximation of the target, found first, gives every direction its unit."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyro.infer.autoguide import AutoGuide

from ppl_models.engine import Coordinates, Target
from ppl_models.inference.preconditioning.blocks import joined
from ppl_models.inference.preconditioning.families import blocks_of, is_flow, start_of
from ppl_models.inference.preconditioning.initial import Initial
from ppl_models.inference.preconditioning.pilot import Normal, approximate, num_pairs
from ppl_models.inference.preconditioning.starts import starting_points
from ppl_models.program import Parameters, Program, isolated

MOST_NUMBERS = 5_000_000
"""Programs that hold more numbers than this are fitted without a look at the whole of their data."""
CHEAP_NUMBERS = 300_000
"""A look costs little where all its points together hold fewer numbers; then several starts are tried."""
MORE_STARTS = 3
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
        evaluations: points at which the log density was computed.
    """

    coordinates: Coordinates | None = None
    normal: Normal | None = None
    note: str = ""
    endless: tuple[str, ...] = ()
    evaluations: int = 0


def precondition(
    guide: Callable[..., Any],
    program: Program,
    seed: int,
    *,
    init_scale: float,
    shrink: float = 1.0,
    from_prior: bool = False,
    initial: Initial | None = None,
    target: Target | None = None,
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
        initial: where the user wants it to begin. A normal is taken as it is, without a look; from values the look
            begins, and goes nowhere else.
        target: the program's log density, where it is there already.
    """
    if not isinstance(guide, AutoGuide) or program.batched or not program.num_dims:
        return Preconditioning()
    begin = start_of(guide, program)
    if begin is None:
        return Preconditioning()
    if initial is not None and initial.normal is not None and not from_prior:
        return Preconditioning(_coordinates(guide, program, initial.normal, shrink), initial.normal)
    if program.size_hint > MOST_NUMBERS:
        return Preconditioning(note=f"no look at the target: it holds more than {MOST_NUMBERS:,} numbers")
    count = 2 * num_pairs(program.num_dims)
    world = isolated(
        seed=seed, dtype=program.dtype, parameters=Parameters.from_store(), full_data=True, device=program.device
    )
    with world:
        target = target or Target(program)
        held = program.num_dims + sum(site.shape.numel() for site in program.sites.observed)
        others = MORE_STARTS if count * held <= CHEAP_NUMBERS and initial is None else 0
        begin = begin if initial is None else initial.point(program, begin)
        starts, note = starting_points(target, begin, others, from_prior=from_prior)
        rng = np.random.default_rng(seed)
        scale = np.full(program.num_dims, init_scale)
        found = [approximate(target, start, scale, rng) for start in starts]
    if not found:
        return Preconditioning(note=note, evaluations=target.evaluations)
    best = max(found, key=lambda normal: normal.elbo)
    chosen = found[0] if found[0].elbo > best.elbo - CLEARLY_BETTER else best
    if not np.isfinite(chosen.elbo):
        note = "no look at the target: its log density was not finite around any start"
        return Preconditioning(note=note, evaluations=target.evaluations)
    endless = _names(program, chosen.endless)
    coordinates = _coordinates(guide, program, chosen, shrink)
    return Preconditioning(coordinates, chosen, note, endless, target.evaluations)


def _coordinates(guide: AutoGuide, program: Program, normal: Normal, shrink: float) -> Coordinates | None:
    blocks = blocks_of(guide, program, normal, shrink)
    return joined(blocks, program.dtype, identified=not is_flow(guide)) if blocks else None


def _names(program: Program, dims: tuple[int, ...]) -> tuple[str, ...]:
    found = []
    for name, (place, _) in program.slices.items():
        if any(place.start <= dim < place.stop for dim in dims):
            found.append(name)
    return tuple(found)
