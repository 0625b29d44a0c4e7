"""Annealed importance sampling along a tempered path, forward from its start and back from the posterior."""

from dataclasses import dataclass
from itertools import pairwise

import torch

from ppl_models.inference.evidence.hmc_transitions import transition
from ppl_models.inference.evidence.tempered_path import States, TemperedPath
from ppl_models.inference.evidence.tuning import Tuning


@dataclass(frozen=True)
class Annealed:
    """What one run of chains along a path gave.

    Attributes:
        log_weights: nats, shape (chain, datum). Of a forward run, the mean of their exponential is the evidence in
            expectation; of a reverse run from exact posterior draws, that of the exponential of their negatives is one
            over the evidence.
        acceptance: mean probability of acceptance over the chains, shape (transition, datum).
        states: where the chains ended.
    """

    log_weights: torch.Tensor
    acceptance: torch.Tensor
    states: States


def anneal(
    path: TemperedPath,
    states: States,
    temperatures: torch.Tensor,
    tuning: Tuning,
    generator: torch.Generator,
    *,
    reverse: bool = False,
) -> Annealed:
    """Carry chains along a path, one transition at each temperature between its ends.

    Args:
        path: the densities.
        states: independent draws of the start; of the posterior for a reverse run.
        temperatures: inverse temperatures, rising from 0 to 1, shape (temperature,).
        tuning: of the transitions; of a pilot run, so that it does not depend on these chains.
        generator: of all randomness.
        reverse: whether to go from the posterior to the start.

    Neal (2001), Annealed importance sampling; Grosse, Ghahramani and Adams (2015), Sandwiching the marginal likelihood
    using bidirectional Monte Carlo.
    """
    values = [float(value) for value in temperatures]
    pairs = list(pairwise(values))
    total, acceptance = torch.zeros_like(states.first), []
    for colder, hotter in pairs[::-1] if reverse else pairs:
        total = total + (hotter - colder) * path.rise(states)
        here = colder if reverse else hotter
        if 0.0 < here < 1.0:
            states, probability = transition(path, states, temperatures.new_tensor(here), tuning.at(here), generator)
            acceptance.append(probability.mean(0))
    kept = torch.stack(acceptance) if acceptance else total.new_ones(1, path.num_data)
    return Annealed(total, kept, states)
