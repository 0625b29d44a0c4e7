"""One normal for each datum, over its own unconstrained latents."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch

FAMILIES = DIAGONAL, FULL_RANK = ("diagonal", "full_rank")


@dataclass(frozen=True)
class Normals:
    """Normals of several data.

    Attributes:
        mean: shape (datum, dim).
        factor: lower-triangular Cholesky factors of the covariances, shape (datum, dim, dim).
    """

    mean: torch.Tensor
    factor: torch.Tensor

    @classmethod
    def diagonal(cls, mean: torch.Tensor, sd: torch.Tensor) -> "Normals":
        """Normals without correlations, from means and standard deviations of shape (datum, dim)."""
        return cls(mean, torch.diag_embed(sd))

    @classmethod
    def of_draws(cls, points: torch.Tensor, family: str = FULL_RANK) -> "Normals":
        """Normals with the moments of points, shape (point, datum, dim); of scale one where they do not vary."""
        mean, sd = points.mean(0), points.std(0)
        sd = torch.where(sd > 0, sd, torch.ones_like(sd))
        if family == DIAGONAL:
            return cls.diagonal(mean, sd)
        scaled = (points - mean) / sd
        correlation = torch.einsum("pni,pnj->nij", scaled, scaled) / (len(points) - 1)
        eye = torch.eye(points.shape[-1], dtype=points.dtype, device=points.device)
        share = points.shape[-1] / len(points) * 0.1  # keeps it positive definite where draws are few
        factor = torch.linalg.cholesky((1.0 - share) * correlation + share * eye)
        return cls(mean, sd[..., None] * factor)

    @cached_property
    def inverse_factor(self) -> torch.Tensor:
        """Shape (datum, dim, dim)."""
        eye = torch.eye(self.mean.shape[-1], dtype=self.mean.dtype, device=self.mean.device)
        return torch.linalg.solve_triangular(self.factor, eye.expand_as(self.factor), upper=False)

    @property
    def covariance(self) -> torch.Tensor:
        """Shape (datum, dim, dim)."""
        return self.factor @ self.factor.mT

    @property
    def sd(self) -> torch.Tensor:
        """Standard deviations, shape (datum, dim)."""
        return self.factor.square().sum(-1).sqrt()

    @property
    def log_volume(self) -> torch.Tensor:
        """Log determinant of the factors, shape (datum,)."""
        return self.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    @property
    def entropy(self) -> torch.Tensor:
        """Nats, shape (datum,)."""
        return 0.5 * self.mean.shape[-1] * (1.0 + math.log(2.0 * math.pi)) + self.log_volume

    def points(self, noise: torch.Tensor) -> torch.Tensor:
        """Points of standard normal noise of shape (point, 1 or datum, dim); shape (point, datum, dim)."""
        return self.mean + _times(self.factor, noise)

    def log_prob_at(self, noise: torch.Tensor) -> torch.Tensor:
        """Log density in nats at the points of such noise, shape (point, datum)."""
        constant = 0.5 * self.mean.shape[-1] * math.log(2.0 * math.pi)
        return -0.5 * noise.square().sum(-1) - constant - self.log_volume

    def noise_of(self, points: torch.Tensor) -> torch.Tensor:
        """The noise of points of shape (point, datum, dim)."""
        return _times(self.inverse_factor, points - self.mean)

    def slope_at(self, noise: torch.Tensor) -> torch.Tensor:
        """Gradient of the log density at the points of such noise, shape (point, datum, dim)."""
        return -_times(self.inverse_factor.mT, noise)

    def inside(self, slopes: torch.Tensor) -> torch.Tensor:
        """Gradients with respect to the noise, from those with respect to the points; shape (point, datum, dim)."""
        return _times(self.factor.mT, slopes)

    def take(self, index: torch.Tensor) -> "Normals":
        """Those of some data."""
        return Normals(self.mean[index], self.factor[index])

    def where(self, chosen: torch.Tensor, other: "Normals") -> "Normals":
        """These where the condition of shape (datum,) holds, the others elsewhere."""
        return Normals(
            torch.where(chosen[:, None], self.mean, other.mean),
            torch.where(chosen[:, None, None], self.factor, other.factor),
        )


def _times(matrices: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """Matrices (datum, dim, dim) times vectors (point, 1 or datum, dim)."""
    if vectors.shape[1] == 1:
        return torch.einsum("nij,pj->pni", matrices, vectors[:, 0])
    return torch.einsum("nij,pnj->pni", matrices, vectors)
