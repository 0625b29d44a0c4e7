"""The scale of each parameter of a guide that is not automatic: from the curvature of the ELBO along it."""

from collections.abc import Callable

import torch

MAX_PARAMETERS = 1_000
ONE_BY_ONE = 24
"""Up to so many parameters, each is moved alone; beyond, all together in random directions."""
NUM_PROBES, MOST_PASSES = 12, 6
SETTLED = 0.1
"""Units that change by no more than this share are known well enough."""
DIFFERENCE = 1e-3
"""Of a parameter's present unit, in finite differences."""
SLOPE_SHARE = 0.01
SMALLEST, LARGEST = 1e-8, 1e8


def units_of(gradient: Callable[[torch.Tensor, int], torch.Tensor], flat: torch.Tensor, seed: int) -> torch.Tensor:
    """One over the root of the loss's curvature along each parameter.

    Where the loss is nearly linear (in the logarithm of a scale that has collapsed, say) its curvature says nothing
    about how far to go: there a unit changes the loss by about ten nats.

    Gradients on common noise are compared on both sides of the point. With many parameters the diagonal of the
    curvature comes from random directions (Bekas, Kokiopoulou and Saad 2007, An estimator for the diagonal of a
    matrix), again in the units found so far, in which no parameter outweighs the others.

    Args:
        gradient: takes a point and a seed of the noise; returns the loss's gradient there.
        flat: the point, shape (num_parameters,).
        seed: of noise and directions.

    Returns:
        Units, shape (num_parameters,).
    """
    units = torch.ones_like(flat)
    for number in range(MOST_PASSES):
        curvature, slope = _curvature(gradient, flat, units, seed + 101 * number)
        size = torch.maximum(curvature.abs(), SLOPE_SHARE * slope.square())
        known = torch.isfinite(size) & (size > 0.0)
        factor = torch.where(known, size, torch.ones_like(units)).rsqrt()
        before, units = units, (units * factor).clamp(SMALLEST, LARGEST)
        if bool(((units / before - 1.0).abs() < SETTLED).all()):
            break
    return units


def _curvature(
    gradient: Callable[[torch.Tensor, int], torch.Tensor], flat: torch.Tensor, units: torch.Tensor, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The diagonal of the loss's second derivative, and its gradient, both in the units given."""
    count = len(flat)
    generator = torch.Generator().manual_seed(seed)
    if count <= ONE_BY_ONE:
        directions = torch.eye(count).to(flat)
    else:
        signs = torch.randint(0, 2, (NUM_PROBES, count), generator=generator)
        directions = (2.0 * signs - 1.0).to(flat)
    total, weight = torch.zeros_like(flat), torch.zeros_like(flat)
    for direction in directions:
        away = DIFFERENCE * units * direction
        slope = gradient(flat + away, seed) - gradient(flat - away, seed)
        total += direction * slope * units / (2.0 * DIFFERENCE)
        weight += direction.square()
    return total / weight, gradient(flat, seed) * units
