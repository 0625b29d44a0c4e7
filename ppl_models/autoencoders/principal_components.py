"""Maximum likelihood of probabilistic PCA in closed form, by the eigenvalues of the data's covariance."""

import math
from dataclasses import dataclass

import torch

from ppl_models.errors import DataError
from ppl_models.options import check_count, check_positive


@dataclass(frozen=True, eq=False)
class PrincipalComponents:
    """The eigenvalues of the covariance of data, from which all optima of probabilistic PCA follow.

    Attributes:
        mean: of each feature, shape (feature,).
        eigenvalues: of the covariance (divided by the number of rows), falling, shape (feature,).
        axes: the eigenvectors as columns, shape (feature, feature).

    Tipping and Bishop (1999), Probabilistic principal component analysis, section 3.2; for a fixed noise variance,
    Lucas et al. (2019), Don't blame the ELBO!, section 4.
    """

    mean: torch.Tensor
    eigenvalues: torch.Tensor
    axes: torch.Tensor

    @classmethod
    def of(cls, x: torch.Tensor) -> "PrincipalComponents":
        """Of data of shape (row, feature), in float64.

        Raises:
            DataError: x is no finite matrix with two rows or more.
        """
        x = torch.as_tensor(x, dtype=torch.float64)
        if x.dim() != 2 or len(x) < 2 or not bool(x.isfinite().all()):
            raise DataError(f"x: found shape {tuple(x.shape)}, wanted at least two rows of finite numbers.")
        mean = x.mean(0)
        away = x - mean
        eigenvalues, axes = torch.linalg.eigh(away.mT @ away / len(x))
        return cls(mean, eigenvalues.flip(0).clamp_min(0.0), axes.flip(1))

    def noise_variance(self, latent_dim: int) -> float:
        """The most likely σ² with that many latents: the mean of the eigenvalues that they leave over.

        Raises:
            DataError: nothing is left over: the likelihood has no maximum.
        """
        rest = self.eigenvalues[check_count("latent_dim", latent_dim) :]
        if not len(rest) or float(rest.sum()) <= 0:
            raise DataError(
                f"latent_dim: with {latent_dim} latents no variance of the {len(self.mean)} features is left for the "
                "noise, so that the likelihood has no maximum. Take fewer latents."
            )
        return float(rest.mean())

    def loadings(self, latent_dim: int, noise_variance: float | None = None) -> torch.Tensor:
        """The most likely W whose columns are orthogonal, shape (feature, latent_dim).

        Args:
            latent_dim: how many latents.
            noise_variance: a fixed σ², under which columns of eigenvalues that are not above it are zero; None for the
                most likely one.
        """
        variance = self._variance(latent_dim, noise_variance)
        return self.axes[:, :latent_dim] * (self.eigenvalues[:latent_dim] - variance).clamp_min(0.0).sqrt()

    def log_likelihood(self, latent_dim: int, noise_variance: float | None = None) -> float:
        """The largest mean log p(x) of a row in nats; arguments as for `loadings`."""
        variance = self._variance(latent_dim, noise_variance)
        model = torch.full_like(self.eigenvalues, variance)
        model[:latent_dim] = self.eigenvalues[:latent_dim].clamp_min(variance)
        return float(-0.5 * (math.log(2 * math.pi) + model.log() + self.eigenvalues / model).sum())

    def num_active(self, noise_variance: float) -> int:
        """How many latents an optimum with this fixed σ² uses, if it has enough of them: eigenvalues above σ²."""
        return int((self.eigenvalues > check_positive("noise_variance", noise_variance)).sum())

    def _variance(self, latent_dim: int, given: float | None) -> float:
        check_count("latent_dim", latent_dim)
        return self.noise_variance(latent_dim) if given is None else check_positive("noise_variance", given)
