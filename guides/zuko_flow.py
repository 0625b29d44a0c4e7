"""Guides that push a normal through a flow of zuko, in coordinates that start at the initial location and scale."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.infer.autoguide.guides import AutoContinuous
from pyro.nn import PyroParam
from torch.distributions import Distribution, Transform

from guides.family import require_positive_integer

NEARLY_NOTHING = 0.01
"""Factor of the last layers' weights at the start: the flow begins near the identity, and every weight has a slope."""
HIDDEN_DIMS = (32, 32)


@contextmanager
def validation_kept() -> Iterator[None]:
    """Give torch.distributions' validation back its default, which zuko switches off as it is imported."""
    before = Distribution._validate_args
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)


class LocatedFlow(Transform):
    """e -> loc + scale * flow(e).

    Args:
        flow: A transform of vectors with `call_and_ladj`, as zuko's are; None for the identity.
        loc: Shape (dim,).
        scale: Positive, shape (dim,).
    """

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    def __init__(self, flow: Any, loc: torch.Tensor, scale: torch.Tensor):
        super().__init__()
        self.flow, self.loc, self.scale = flow, loc, scale

    def call_and_ladj(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The image, shape (*shape, dim), and the log Jacobian determinant, (*shape), in one pass."""
        inner, ladj = (x, x.new_zeros(x.shape[:-1])) if self.flow is None else self.flow.call_and_ladj(x)
        return self.loc + self.scale * inner, ladj + self.scale.log().sum(-1)

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Log Jacobian determinant at x in nats, shape (*shape)."""
        return self.call_and_ladj(x)[1]

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        return self.call_and_ladj(x)[0]

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        inner = (y - self.loc) / self.scale
        return inner if self.flow is None else self.flow.inv(inner)


class RememberedFlow(dist.TransformedDistribution):
    """A normal under a `LocatedFlow` that remembers the density of its latest draw: one pass through the networks."""

    _value: torch.Tensor | None = None
    _log_density: torch.Tensor | None = None

    def rsample(self, sample_shape: Any = ()) -> torch.Tensor:
        """A reparameterised draw, shape (*sample_shape, *batch_shape, dim)."""
        (transform,) = self.transforms
        shape = self._extended_shape(torch.Size(sample_shape))
        noise = torch.randn(shape, dtype=transform.loc.dtype, device=transform.loc.device)
        value, ladj = transform.call_and_ladj(noise)
        self._value, self._log_density = value, self.base_dist.log_prob(noise) - ladj
        return value

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log density in nats, shape (*sample_shape, *batch_shape)."""
        if value is self._value and self._log_density is not None:
            return self._log_density
        return super().log_prob(value)


class AutoZukoFlow(AutoContinuous):
    """z = loc + scale * flow(e), e standard normal, the flow near the identity at the start.

    The flow runs from noise to latents, so that a draw and its density cost one pass through each network.

    Args:
        model: A Pyro model.
        init_loc_fn: Initial value of a site.
        init_scale: Initial scale of the unconstrained latents.
        make_flow: Function of the number of latents that returns a lazy transform of zuko, or None for the identity.
    """

    scale_constraint = constraints.softplus_positive

    def __init__(
        self,
        model: Callable[..., Any],
        *,
        init_loc_fn: Callable[..., Any],
        init_scale: float,
        make_flow: Callable[[int], torch.nn.Module | None],
    ):
        super().__init__(model, init_loc_fn=init_loc_fn)
        self._init_scale = init_scale
        self._make_flow = make_flow

    def _setup_prototype(self, *args: Any, **kwargs: Any) -> None:
        super()._setup_prototype(*args, **kwargs)
        self.loc = torch.nn.Parameter(self._init_loc())
        self.scale = PyroParam(torch.full_like(self.loc, self._init_scale), self.scale_constraint)
        with validation_kept():
            flow = self._make_flow(self.latent_dim)
        # nothing in it depends on the mode, and in training Pyro warns wherever parameters are held fixed
        self.flow = None if flow is None else _near_identity(flow).to(self.loc).eval()

    def get_base_dist(self) -> Any:
        """The standard normal of the size of the latents."""
        return dist.Normal(torch.zeros_like(self.loc), torch.ones_like(self.loc)).to_event(1)

    def get_transform(self, *args: Any, **kwargs: Any) -> LocatedFlow:
        """From noise to all latents, unconstrained and in one vector."""
        scale: Any = self.scale  # a PyroParam reads as its tensor
        return LocatedFlow(None if self.flow is None else self.flow(), self.loc, scale)

    def get_posterior(self, *args: Any, **kwargs: Any) -> RememberedFlow:
        """The flow's distribution over all latents."""
        return RememberedFlow(self.get_base_dist(), [self.get_transform(*args, **kwargs)])


@torch.no_grad()
def _near_identity(flow: Any) -> Any:
    for transform in getattr(flow, "transforms", [flow]):
        if hasattr(transform, "hyper"):
            last = transform.hyper[-1]
            last.weight.mul_(NEARLY_NOTHING)
            last.bias.zero_()
        else:
            for parameter in transform.parameters():
                parameter.mul_(NEARLY_NOTHING)
    return flow


def require_widths(hidden_dims: Sequence[int]) -> None:
    """Refuse what is no sequence of positive widths.

    Raises:
        FamilyOptionError: It is not.
    """
    for width in hidden_dims:
        require_positive_integer("hidden_dims", width)
