"""Ways to draw the ancestors of the next particles: each particle has on average `num_particles` times its weight."""

from collections.abc import Callable

import torch

Resampler = Callable[[torch.Tensor], torch.Tensor]
"""Takes normalised weights, shape (run, particle); returns ancestors, places of particles, of the same shape."""


def multinomial(weights: torch.Tensor) -> torch.Tensor:
    """Independent draws: the most noise.

    Args:
        weights: of each particle, shape (run, particle), with a sum of one over the particles.

    Returns:
        The ancestors, places of particles, shape (run, particle).

    Gordon, Salmond and Smith (1993), Novel approach to nonlinear/non-Gaussian Bayesian state estimation.
    """
    below_one = 1.0 - torch.finfo(weights.dtype).eps
    return torch.searchsorted(_ends(weights), torch.rand_like(weights).clamp_max(below_one), right=True)


def stratified(weights: torch.Tensor) -> torch.Tensor:
    """One draw in each of `num_particles` equal slices of the cumulative weights; arguments as `multinomial`.

    Kitagawa (1996), Monte Carlo filter and smoother for non-Gaussian nonlinear state space models.
    """
    return _one_from_each_slice(weights, torch.rand_like(weights))


def systematic(weights: torch.Tensor) -> torch.Tensor:
    """The same place in every slice, one random number for each run; arguments as `multinomial`.

    Carpenter, Clifford and Fearnhead (1999), Improved particle filter for nonlinear problems.
    """
    return _one_from_each_slice(weights, torch.rand_like(weights[:, :1]).expand_as(weights))


def residual(weights: torch.Tensor) -> torch.Tensor:
    """As many whole copies as the weight says, the rest by independent draws; arguments as `multinomial`.

    Liu and Chen (1998), Sequential Monte Carlo methods for dynamic systems.
    """
    num_particles = weights.shape[1]
    expected = weights * num_particles
    copies = expected.floor()
    ends = copies.cumsum(1)
    whole = torch.searchsorted(ends, _steps(weights).expand_as(weights).contiguous(), right=True)
    rest = expected - copies
    # where every weight is whole nothing is left to draw, and nothing of what is drawn here is taken
    rest = torch.where(rest.sum(1, keepdim=True) > 0.0, rest, torch.ones_like(rest))
    drawn = multinomial(rest / rest.sum(1, keepdim=True))
    return torch.where(_steps(weights) < ends[:, -1:], whole.clamp_max(num_particles - 1), drawn)


RESAMPLERS: dict[str, Resampler] = {
    "systematic": systematic,
    "stratified": stratified,
    "multinomial": multinomial,
    "residual": residual,
}


def resample(
    log_weights: torch.Tensor, needed: torch.Tensor, resampler: Resampler
) -> tuple[torch.Tensor, torch.Tensor]:
    """Resample the runs that need it; their particles weigh the same afterwards.

    Args:
        log_weights: normalised, nats, shape (run, particle).
        needed: which runs, shape (run,).
        resampler: how.

    Returns:
        Ancestors and the new normalised log weights, both of shape (run, particle).
    """
    num_particles = log_weights.shape[1]
    own = torch.arange(num_particles, device=log_weights.device).expand(log_weights.shape)
    ancestors = torch.where(needed[:, None], resampler(log_weights.exp()), own)
    equal = torch.full_like(log_weights, 1.0 / num_particles).log()
    return ancestors, torch.where(needed[:, None], equal, log_weights)


def _steps(weights: torch.Tensor) -> torch.Tensor:
    return torch.arange(weights.shape[1], dtype=weights.dtype, device=weights.device)


def _ends(weights: torch.Tensor) -> torch.Tensor:
    """Cumulative weights, the last of them exactly one."""
    ends = weights.cumsum(1)
    return ends / ends[:, -1:]


def _one_from_each_slice(weights: torch.Tensor, heights: torch.Tensor) -> torch.Tensor:
    """The particles at these heights, from 0 to 1, of `num_particles` equal slices; never one of weight zero."""
    num_particles = weights.shape[1]
    ends = num_particles * _ends(weights)
    whole = ends.floor()
    slices = whole.long()
    reached = heights.gather(1, slices.clamp_max(num_particles - 1)) < ends - whole
    # how many children a particle and those before it have, then the first particle that has more than each place
    children = slices + (reached & (slices < num_particles))
    marks = torch.zeros(len(weights), num_particles + 1, dtype=torch.long, device=weights.device)
    return marks.scatter_add_(1, children, torch.ones_like(children))[:, :-1].cumsum(1)
