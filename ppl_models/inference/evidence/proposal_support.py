"""What a particle filter loses to a proposal that misses a part of what the model can draw."""

import math

import torch

from ppl_models.inference.evidence.laws import State
from ppl_models.inference.evidence.state_space import StateSpace

NUM_PROBED = 1_000
NUM_TIMES = 10
MOST_LOG_RATIO = 30.0
"""Nats of the model's density over the proposal's, beyond which a proposal as good as never draws a state."""


def times_probed(num_times: int) -> set[int]:
    """A few times, spread over a series."""
    count = min(NUM_TIMES, num_times)
    return {round(place * (num_times - 1) / max(count - 1, 1)) for place in range(count)}


def nats_lost(
    space: StateSpace,
    time: int,
    before: State | None,
    log_weights: torch.Tensor,
    observed: torch.Tensor,
    increment: torch.Tensor,
) -> torch.Tensor:
    """Log evidence that a proposal loses at one time, nats, shape (): from draws of the model that it misses.

    Such draws never come from the proposal, so that no weight of its particles tells of them.

    Args:
        space: with a proposal.
        time: which.
        before: states before, shape (run * particle, *event); None at time 0.
        log_weights: their normalised log weights, nats, shape (run, particle).
        observed: at this time.
        increment: what the proposal's particles estimate this time to add to each run, nats, shape (run,).
    """
    count = min(NUM_PROBED, log_weights.numel())
    places = torch.randint(log_weights.numel(), (count,))
    weights = log_weights.reshape(-1)[places]
    given = None if before is None else {name: value[places] for name, value in before.items()}
    likelihood, ratio = space.probe(time, given, observed, count)
    missed = torch.where(ratio > MOST_LOG_RATIO, weights + likelihood, -torch.inf).logsumexp(0) - weights.logsumexp(0)
    reached = increment.logsumexp(0) - math.log(len(increment))
    return torch.where(missed.isneginf(), 0.0, torch.logaddexp(missed, reached) - reached)
