"""A mixture of normals that is drawn from one component, or from a component at random."""

import math
from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.distributions.score_parts import ScoreParts


class NormalMixture(dist.TorchDistribution):
    """The density sum_k w_k N(x; m_k, F_k F_kᵀ), with a draw that is differentiable given its component.

    Where the component is chosen at random, the draw is a differentiable function of everything but the weights; those
    get the score function of the choice, through `score_parts`, which is how Pyro's ELBOs ask for it. `has_rsample` is
    false then, so that nobody takes the pathwise gradient for the whole one. Where the component is given, the draw is
    reparameterised, and comes from that component alone, while the density stays that of the whole mixture.

    Args:
        weights: w, shape (component,), on the simplex.
        locs: m, shape (component, dim).
        factors: F, lower triangular, shape (component, dim, dim), or diagonal, (component, dim).
        component: The number of the component to draw from; None for one at random.
    """

    arg_constraints: Any = {"weights": constraints.simplex, "locs": constraints.independent(constraints.real, 2)}  # noqa: RUF012
    support: Any = constraints.real_vector

    def __init__(
        self,
        weights: torch.Tensor,
        locs: torch.Tensor,
        factors: torch.Tensor,
        component: int | None = None,
        *,
        batch_shape: Sequence[int] = (),
        validate_args: bool | None = None,
    ):
        self.weights, self.locs, self.factors, self.component = weights, locs, factors, component
        self._value: torch.Tensor | None = None
        self._choice: torch.Tensor | None = None
        self._inverses: torch.Tensor | None = None
        super().__init__(torch.Size(batch_shape), locs.shape[-1:], validate_args=validate_args)

    @property
    def has_rsample(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether a draw's path carries the whole gradient: only where the component is given."""
        return self.component is not None

    def expand(self, batch_shape: Any, _instance: Any = None) -> "NormalMixture":
        """The same mixture, drawn independently for every place of a batch."""
        return NormalMixture(
            self.weights,
            self.locs,
            self.factors,
            self.component,
            batch_shape=batch_shape,
            validate_args=False,
        )

    def __call__(self, sample_shape: Any = ()) -> torch.Tensor:
        """A draw with its path, whichever component it comes from."""
        return self.rsample(sample_shape)

    def rsample(self, sample_shape: Any = ()) -> torch.Tensor:
        """A draw, shape (*sample_shape, *batch_shape, dim); differentiable but for the choice of the component."""
        shape = self._extended_shape(torch.Size(sample_shape))
        noise = torch.randn(shape, dtype=self.locs.dtype, device=self.locs.device)
        if self.component is not None:
            loc, factor = self.locs[self.component], self.factors[self.component]
            away = factor * noise if factor.dim() == 1 else (factor @ noise.unsqueeze(-1)).squeeze(-1)
            self._value, self._choice = loc + away, None
            return self._value
        uniform = torch.rand(shape[:-1], dtype=self.locs.dtype, device=self.locs.device)
        choice = (uniform.unsqueeze(-1) >= self.weights.detach().cumsum(-1)[:-1]).sum(-1)
        noise = noise.unsqueeze(-2)
        away = self.factors * noise if self.factors.dim() == 2 else (self.factors @ noise.unsqueeze(-1)).squeeze(-1)
        place = choice[..., None, None].expand(*shape[:-1], 1, shape[-1])
        value = (self.locs + away).gather(-2, place).squeeze(-2)
        self._value, self._choice = value, choice
        return value

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log density of the whole mixture in nats, shape (*sample_shape, *batch_shape)."""
        if self._validate_args:
            self._validate_sample(value)
        away = value.unsqueeze(-2) - self.locs
        diagonal = self.factors if self.factors.dim() == 2 else self.factors.diagonal(dim1=-2, dim2=-1)
        if self.factors.dim() == 2:
            standard = away / self.factors
        else:
            standard = (self._inverse() @ away.unsqueeze(-1)).squeeze(-1)
        dim = self.locs.shape[-1]
        normal = -0.5 * (standard.square().sum(-1) + dim * math.log(2.0 * math.pi)) - diagonal.log().sum(-1)
        return (normal + self.weights.log()).logsumexp(-1)

    def score_parts(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> ScoreParts:
        """What an ELBO's gradient takes at a draw: its path, and the score of the choice of its component."""
        log_prob: Any = self.log_prob(x)
        chosen = self._choice if x is self._value else None
        score: Any = 0.0 if chosen is None else self.weights.log()[chosen]
        return ScoreParts(log_prob, score, log_prob)

    def _inverse(self) -> torch.Tensor:
        # of the few factors once, in place of a solve for every draw
        found = self._inverses
        if found is None:
            eye = torch.eye(self.locs.shape[-1], dtype=self.locs.dtype, device=self.locs.device)
            self._inverses = found = torch.linalg.solve_triangular(self.factors, eye, upper=False)
        return found
