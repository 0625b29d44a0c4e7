"""Hamiltonian transitions that leave a tempered density invariant, for many chains and data at once."""

from dataclasses import dataclass

import torch

from ppl_models.inference.evidence.tempered_path import States, TemperedPath

JITTER = 0.2
"""By what share the step size varies from one transition to the next, so that no orbit closes."""


@dataclass(frozen=True)
class Steps:
    """How far one transition goes.

    Attributes:
        size: leapfrog step in units of `scale`, unitless, shape (datum,) or (chain, datum).
        scale: length of each direction, shape (datum, dim of one) or (chain, datum, dim of one).
        count: leapfrog steps in one transition.
    """

    size: torch.Tensor
    scale: torch.Tensor
    count: int


def transition(
    path: TemperedPath, states: States, temperature: torch.Tensor, steps: Steps, generator: torch.Generator
) -> tuple[States, torch.Tensor]:
    """One Hamiltonian transition of every chain, which each datum accepts or rejects for itself.

    A trajectory that leaves the support, or diverges, is rejected.

    Args:
        path: the densities.
        states: where the chains stand.
        temperature: inverse temperature, of a shape that goes with (chain, datum).
        steps: step sizes, which must not depend on the chains' states.
        generator: of all randomness.

    Returns:
        The next states, and the probability of acceptance, shape (chain, datum).

    Neal (2011), MCMC using Hamiltonian dynamics.
    """
    points = states.points
    kind = {"dtype": points.dtype, "device": points.device, "generator": generator}
    wobble = 1.0 + JITTER * (2.0 * torch.rand(*points.shape[:2], 1, **kind) - 1.0)
    length = wobble * steps.size[..., None]
    reach = length * steps.scale
    momentum = torch.randn(points.shape, **kind)
    before = path.log_density(states, temperature) - 0.5 * momentum.square().sum(-1)
    other = states
    momentum = momentum + 0.5 * reach * path.slope(other, temperature)
    for number in range(steps.count):
        other = path.at(other.points + reach * momentum)
        last = number == steps.count - 1
        momentum = momentum + (0.5 if last else 1.0) * reach * path.slope(other, temperature)
    after = path.log_density(other, temperature) - 0.5 * momentum.square().sum(-1)
    probability = (after - before).nan_to_num(-torch.inf, torch.inf, -torch.inf).clamp(max=0.0).exp()
    accepted = torch.rand(probability.shape, **kind) < probability
    return states.replaced(other, accepted), probability
