"""Markov chains over the latents and the missing values of rows, all rows and chains at once."""

from dataclasses import dataclass, field

import torch

from ppl_models.workflow.representation.adaptive_steps import AdaptiveSteps
from ppl_models.workflow.representation.conditional import Conditional, Scored
from ppl_models.workflow.representation.coordinates import RowCoordinates
from ppl_models.workflow.representation.drawing import Draws

NUM_FIRST = 20
"""Draws of the guide whose variances the random walk starts with."""


@dataclass
class Course:
    """What chains came to, after their warm-up.

    Attributes:
        latents: unconstrained latents and the log density of the known values, at each step (chain * row, dim + 1).
        kept: draws of the data by site, at each step that is kept.
        kept_latents: the latents at these steps.
        means: sum of the likelihood's means over the steps, and of their squares.
        values: sum of the draws over the steps, and of their squares.
        by_guide: steps at which each row took the guide's proposal, shape (chain * row,).
        by_walk: steps at which it took an adaptive proposal.
        steps: number of steps.
    """

    latents: list[torch.Tensor] = field(default_factory=list)
    kept: list[Draws] = field(default_factory=list)
    kept_latents: list[Draws] = field(default_factory=list)
    means: dict[str, list[torch.Tensor]] = field(default_factory=dict)
    values: dict[str, list[torch.Tensor]] = field(default_factory=dict)
    by_guide: torch.Tensor | float = 0.0
    by_walk: torch.Tensor | float = 0.0
    steps: int = 0


def run_chains(
    conditional: Conditional,
    coordinates: RowCoordinates,
    num_chains: int,
    num_steps: int,
    num_kept: int,
    *,
    walk: bool = True,
) -> Course:
    """Metropolis within Gibbs on p(z, missing | observed), in the caller's Pyro state and random numbers.

    Each step moves z with the missing values summed out, on p(z) p(observed | z), by a random walk and by independent
    draws in turn, both fitted to the row's chains during the warm-up; draws the missing values given z; and moves z by
    the guide's proposal at the data so completed, taken or left by Metropolis and Hastings' rule for
    p(z | observed, missing). The first half of the steps is warm-up.

    Args:
        conditional: of the rows, each repeated for each of its chains.
        coordinates: of the latents.
        num_chains: how often each row comes.
        num_steps: of each chain.
        num_kept: states to keep, evenly spaced.
        walk: whether to take adaptive steps, where the latents are continuous.

    Mattei and Frellsen (2018), Leveraging the exact likelihood of deep latent variable models, section 3 (the guide's
    proposal); van Dyk and Park (2008), Partially collapsed Gibbs samplers (the order of the steps).
    """
    data = conditional.start()
    first = [conditional.propose(data)[0] for _ in range(NUM_FIRST)]
    latents = first[0]
    flats = torch.stack([coordinates.flat(one) for one in first])
    per_row = flats.reshape(NUM_FIRST * num_chains, -1, flats.shape[-1])
    steps = AdaptiveSteps(per_row, num_chains) if walk and coordinates.exists else None
    num_warmup = num_steps // 2
    stride = max((num_steps - num_warmup) // max(num_kept, 1), 1)
    course = Course()
    log_known = conditional.score(latents, data).log_known
    for step in range(num_steps):
        if steps is not None:
            jump = steps.can_jump and step % 2 == 1
            latents, moved = _adaptive(conditional, coordinates, steps, latents, data, log_known, jump=jump)
            course.by_walk = course.by_walk + moved * (step >= num_warmup)
            if step < num_warmup:
                if step == num_warmup // 2:
                    steps.forget()
                steps.adapt(coordinates.flat(latents), None if jump else moved)
        scored = conditional.score(latents, data)
        means = conditional.means(scored, data) if step >= num_warmup else {}
        data = conditional.draw_missing(scored, data)
        if step >= num_warmup:
            keep = (step - num_warmup) % stride == 0 and len(course.kept) < num_kept
            flat = torch.cat([coordinates.flat(latents), scored.log_known[:, None]], dim=1)
            _record(course, flat, means, data, latents if keep else None)
        latents, log_known, moved = _by_guide(conditional, latents, data, scored)
        course.by_guide = course.by_guide + moved * (step >= num_warmup)
    return course


def _adaptive(
    conditional: Conditional,
    coordinates: RowCoordinates,
    steps: AdaptiveSteps,
    latents: Draws,
    data: Draws,
    log_known: torch.Tensor,
    *,
    jump: bool,
) -> tuple[Draws, torch.Tensor]:
    state = coordinates.flat(latents)
    _, own_jacobian = coordinates.values(state)
    point, log_q = steps.jump(state) if jump else (steps.walk(state), 0.0)
    proposal, jacobian = coordinates.values(point)
    other = conditional.score(proposal, data)
    return _taken(conditional, latents, proposal, other.log_known + jacobian - log_known - own_jacobian - log_q)


def _by_guide(
    conditional: Conditional, latents: Draws, data: Draws, scored: Scored
) -> tuple[Draws, torch.Tensor, torch.Tensor]:
    """The latents after the guide's proposal, their log density with the known values, and which rows moved."""
    log_joint = scored.log_known + conditional.log_missing(scored.nodes, data)
    proposal, log_q = conditional.propose(data)
    _, own_log_q = conditional.propose(data, latents)
    other = conditional.score(proposal, data)
    found, moved = _taken(conditional, latents, proposal, other.log_joint - log_q - log_joint + own_log_q)
    return found, torch.where(moved, other.log_known, scored.log_known), moved


def _taken(conditional: Conditional, own: Draws, other: Draws, log_ratio: torch.Tensor) -> tuple[Draws, torch.Tensor]:
    """The other latents in the rows whose ratio allows it, and which these are, shape (row,)."""
    # a ratio of NaN is taken for a density of zero
    moved = torch.rand_like(log_ratio).log() < log_ratio.nan_to_num(nan=-torch.inf)
    found = {}
    for name, value in own.items():
        axis = conditional.representation.axis(name)
        shape = [1] * value.dim()
        shape[axis] = -1
        found[name] = torch.where(moved.reshape(shape), other[name], value)
    return found, moved


def _record(course: Course, flat: torch.Tensor, means: Draws, data: Draws, kept: Draws | None) -> None:
    course.steps += 1
    course.latents.append(flat)
    for sums, found in ((course.means, means), (course.values, data)):
        for name, value in found.items():
            wide = value.double()
            before = sums.get(name, [torch.zeros_like(wide)] * 2)
            sums[name] = [before[0] + wide, before[1] + wide**2]
    if kept is not None:
        course.kept.append(data)
        course.kept_latents.append(kept)
