"""Per-datum variational inference: the normal that fits each datum's own posterior best."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import norm, qmc

from ppl_models.inference.by_datum.normals import DIAGONAL, Normals
from ppl_models.inference.by_datum.target import DatumTarget

LEAST_BEND, MOST_BEND = 0.2, 5.0
"""By what one step may change a precision."""
LONGEST = 3.0
"""How many of its standard deviations one step may move a mean."""
SMALLEST_SHARE = 2.0**-12


@dataclass(frozen=True)
class BestNormals:
    """The best normals, and how they were found.

    Attributes:
        normals: the normals.
        objective: the ELBO of each at the fixed noise, nats, shape (datum,); optimistic by its overfit to that noise.
        converged: whether the last step gained less than the tolerance, shape (datum,).
    """

    normals: Normals
    objective: torch.Tensor
    converged: torch.Tensor


def best_normals(
    target: DatumTarget,
    start: Normals,
    family: str,
    *,
    num_points: int = 128,
    max_steps: int = 60,
    tolerance: float = 1e-5,
    seed: int = 0,
) -> BestNormals:
    """Maximise the ELBO of each datum over normals, by Newton steps on fixed noise, each with steps of its own.

    With z = m + L e, Stein's identity gives the mean Hessian from gradients alone, E[H] = E[g e'] L^-1. At the optimum
    the mean gradient is zero and the precision is -E[H], or its diagonal for a diagonal family; a step goes there from
    the curvature seen now, shortened until the ELBO at the fixed noise rises. The noise is a quasi-random sample with
    mean zero and covariance one, so that one step is exact where the posterior is normal.

    Args:
        target: log p(x, z) of each datum.
        start: where to begin; of a diagonal family its correlations are dropped.
        family: "diagonal" or "full_rank".
        num_points: points of the fixed noise, at least twice the latents of one datum.
        max_steps: most steps.
        tolerance: gain in nats below which a datum has converged.
        seed: of the noise.

    Opper and Archambeau (2009), The variational Gaussian approximation revisited; Khan and Rue (2023), The Bayesian
    learning rule; Giordano, Ingram and Broderick (2024), Black box variational inference with a deterministic
    objective.
    """
    noise = target.tensor(whitened_noise(max(num_points, 2 * target.num_dims), target.num_dims, seed))[:, None]
    normals = Normals.diagonal(start.mean, start.sd) if family == DIAGONAL else start
    value, slopes = _elbo(target, normals, noise)
    share = torch.ones_like(value)
    converged = torch.zeros_like(value, dtype=torch.bool)
    for _ in range(max_steps):
        proposed = _stepped(normals, slopes, noise, torch.where(converged, 0.0, share), family)
        other, other_slopes = _elbo(target, proposed, noise)
        better = (other > value) & ~converged
        gain = torch.where(better, other - value, torch.zeros_like(value))
        converged = converged | (better & (gain < tolerance) & (share > 0.4)) | (share < SMALLEST_SHARE)
        normals, value = proposed.where(better, normals), torch.where(better, other, value)
        slopes = torch.where(better[:, None], other_slopes, slopes)
        share = torch.where(better, (2.0 * share).clamp(max=1.0), 0.25 * share)
        if bool(converged.all()):
            break
    return BestNormals(normals, value, converged)


def whitened_noise(num_points: int, num_dims: int, seed: int) -> np.ndarray:
    """Quasi-random standard normal points with mean zero and covariance one exactly, shape (point, dim)."""
    half = qmc.Sobol(num_dims, rng=seed).random(2 ** int(np.ceil(np.log2(max(2, num_points // 2)))))
    one_side = norm.ppf(np.clip(half, 1e-12, 1.0 - 1e-12))
    points = np.concatenate([one_side, -one_side])
    factor = np.linalg.cholesky(points.T @ points / len(points))
    return np.linalg.solve(factor, points.T).T


def _elbo(target: DatumTarget, normals: Normals, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """ELBO of each datum at fixed noise, shape (datum,), and the gradients of log p at its points."""
    values, slopes = target(normals.points(noise))
    return values.mean(0) + normals.entropy, slopes


def _stepped(normals: Normals, slopes: torch.Tensor, noise: torch.Tensor, share: torch.Tensor, family: str) -> Normals:
    """Normals one step further, in coordinates in which each is standard now."""
    inside = normals.inside(slopes)
    slope = inside.mean(0)
    bend = -torch.einsum("pni,pj->nij", inside, noise[:, 0]) / len(noise)
    bend = 0.5 * (bend + bend.mT)
    values, vectors = torch.linalg.eigh(bend)
    values = values.clamp(LEAST_BEND, MOST_BEND)
    direction = (vectors @ ((vectors.mT @ slope[..., None])[..., 0] / values)[..., None])[..., 0]
    length = direction.norm(dim=-1, keepdim=True)
    direction = direction * (LONGEST / length.clamp(min=LONGEST)) * share[:, None]
    mean = normals.mean + (normals.factor @ direction[..., None])[..., 0]
    if family == DIAGONAL:
        own = bend.diagonal(dim1=-2, dim2=-1).clamp(LEAST_BEND, MOST_BEND)
        precision = 1.0 + share[:, None] * (own - 1.0)
        return Normals.diagonal(mean, normals.sd / precision.sqrt())
    precision = 1.0 + share[:, None] * (values - 1.0)
    root = normals.factor @ (vectors / precision.sqrt()[:, None, :])
    return Normals(mean, torch.linalg.cholesky(root @ root.mT))
