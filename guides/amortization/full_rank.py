"""q(z | x) normal with all covariances among the latents of a row."""

import torch
from torch import nn

from guides.amortization.normal import NormalHead, constant_linear
from guides.full_rank import RememberedNormal


class FullRankHead(nn.Module):
    """A multivariate normal with a Cholesky factor of its own for each row, all linear in the features.

    The factor is a positive scale per coordinate times a unit lower triangle, which begins as the identity, so that one
    step size suits coordinates of different scales.

    Args:
        num_features: Length of the feature vectors.
        size: How many unconstrained numbers a row has, k; it has k (k + 1) / 2 covariances.
        init_scale: Initial standard deviation.

    Rezende, Mohamed and Wierstra (2014), Stochastic backpropagation and approximate inference in deep generative
    models, section 4.3.
    """

    options: tuple[str, ...] = ()

    def __init__(self, num_features: int, size: int, *, init_scale: float = 0.1):
        super().__init__()
        self.size = size
        self.diagonal = NormalHead(num_features, size, init_scale=init_scale)
        self.below = constant_linear(num_features, size * (size - 1) // 2, 0.0) if size > 1 else None

    def forward(self, features: torch.Tensor) -> RememberedNormal:
        """The distribution of each row: features (..., num_features), batch shape (...), event shape (size,)."""
        loc, scale = self.diagonal.loc_and_scale(features)
        return RememberedNormal(loc, scale_tril=scale.unsqueeze(-1) * self._triangle(features))

    def _triangle(self, features: torch.Tensor) -> torch.Tensor:
        """Unit lower triangles, shape (..., size, size)."""
        one = features.new_ones((*features.shape[:-1], 1))
        below = one[..., :0] if self.below is None else self.below(features)
        entries = torch.cat([below, torch.zeros_like(one), one], -1)
        return entries[..., self._places()].unflatten(-1, (self.size, self.size))

    def _places(self) -> list[int]:
        """Which entry stands at each place of a triangle: the numbers below its diagonal, then a zero, then a one."""
        zero, one = self.size * (self.size - 1) // 2, self.size * (self.size - 1) // 2 + 1
        return [
            row * (row - 1) // 2 + column if column < row else one if column == row else zero
            for row in range(self.size)
            for column in range(self.size)
        ]
