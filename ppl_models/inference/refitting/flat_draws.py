"""Draws from what a method found, in the flat unconstrained space, without its guide."""

import numpy as np
import torch

from ppl_models.engine import Constrained, Target
from ppl_models.engine.proof import agree
from ppl_models.inference.methods.approximations import Approximation, Mixture, Normal, Points
from ppl_models.inference.methods.normals import component_densities, log_density, mixture_density, moved
from ppl_models.inference.refitting.swapping import SwapError
from ppl_models.program import Program


class FlatDraws:
    """Draws of the latents from normals, mixtures of them, or points. Make it, and call it, in the program's world.

    Args:
        target: the program's log density.
    """

    def __init__(self, target: Target):
        self._target, self._constrained = target, Constrained(target.program)

    def __call__(
        self, found: Approximation, num_draws: int, rng: np.random.Generator, fresh: Program
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Draws of each latent, (draw, *event), and log p - log q in nats there, (draw,); NaN where q is of points.

        `fresh` is the program with tensors of its own for the present data, with which values are compared.

        Raises:
            SwapError: the constrained values are not those that the model has at the present data.
        """
        if isinstance(found, Points):
            points, log_q = found.points[rng.integers(len(found.points), size=num_draws)], np.full(num_draws, np.nan)
        elif isinstance(found, Mixture):
            points = _of_mixture(found, num_draws, rng)
            log_q = mixture_density(found.weights, component_densities(found.normals, points))
        else:
            points = _of_normal(found, num_draws, rng)
            log_q = log_density(found, points)
        flat = self._constrained(points)
        _prove(fresh, points[0], flat[0])
        return _by_site(self._target.program, flat), self._target.values(points) - log_q


def _prove(program: Program, point: np.ndarray, found: np.ndarray) -> None:
    """Compare the values of all sites at a point with the model's own."""
    flat = torch.as_tensor(point, dtype=program.dtype, device=program.device)
    with torch.no_grad():
        values = [value.reshape(-1).to(program.dtype) for value in program.constrain(flat).values()]
    wanted = torch.cat(values)
    same = found.shape == tuple(wanted.shape) and agree(torch.as_tensor(found).to(wanted), wanted)
    if not same:
        raise SwapError("values of its sites as they were captured are not the model's own at other data")


def _of_normal(normal: Normal, num_draws: int, rng: np.random.Generator) -> np.ndarray:
    return moved(normal, rng.standard_normal((num_draws, len(normal.mean))))


def _of_mixture(mixture: Mixture, num_draws: int, rng: np.random.Generator) -> np.ndarray:
    counts = rng.multinomial(num_draws, mixture.weights / mixture.weights.sum())
    parts = [_of_normal(normal, count, rng) for normal, count in zip(mixture.normals, counts, strict=True)]
    return rng.permutation(np.concatenate(parts))


def _by_site(program: Program, flat: np.ndarray) -> dict[str, np.ndarray]:
    found, start = {}, 0
    for site in program.sites.latent:
        stop = start + site.shape.numel()
        found[site.name] = flat[:, start:stop].reshape(len(flat), *site.shape)
        start = stop
    return found
