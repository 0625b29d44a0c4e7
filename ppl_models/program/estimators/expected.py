"""A free expectation E_q[f(z)] as a target beside models, with the guide that draws its z."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyro
import torch
from pyro.distributions import TorchDistribution
from torch.distributions import Independent

from ppl_models.program.data import Arguments

SITE = "z"
"""The one site that the guide of a free expectation has."""
Distribution = torch.distributions.Distribution


@dataclass(frozen=True)
class Expected:
    """An expectation of a function of one draw, in the place of a model.

    Attributes:
        function: takes one draw of q, of shape (batch + event); returns a scalar.
        dtype: floating dtype of the parameters.
        log_density: whether the function is a log joint density in nats; then the objective is f(z) - log q(z), and
            bounds with several draws have weights.
        arguments: none.
    """

    function: Callable[[torch.Tensor], torch.Tensor]
    dtype: torch.dtype
    log_density: bool = False
    arguments: Arguments = field(default_factory=lambda: Arguments((), {}, ()))

    def value(self, draw: torch.Tensor) -> torch.Tensor:
        """The function at one draw, a scalar."""
        return torch.as_tensor(self.function(draw))


def guide_of(q: Callable[[Any], Distribution], names: tuple[str, ...] | None, *, pathwise: bool) -> Callable[[], Any]:
    """A guide that draws z from q at the parameters that the param store holds.

    Args:
        q: parameters -> distribution.
        names: of the parameters in the store, which q takes as a dict; None for one that q takes alone, stored as "q".
        pathwise: whether draws carry a gradient where the distribution has rsample.
    """

    def guide() -> Any:
        parameters = pyro.param("q") if names is None else {name: pyro.param(name) for name in names}
        return pyro.sample(SITE, AsPyro(q(parameters), pathwise=pathwise))

    return guide


class AsPyro(TorchDistribution):
    """A distribution of torch's or Pyro's as a site's, its draws with or without their path.

    Args:
        base: the distribution.
        pathwise: whether a draw carries a gradient, where the distribution has rsample.
    """

    arg_constraints: Mapping[str, Any] = {}  # pyright: ignore[reportIncompatibleMethodOverride]

    def __init__(self, base: Distribution, *, pathwise: bool):
        self.base, self.has_rsample = base, bool(base.has_rsample) and pathwise
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        """That of the distribution."""
        return self.base.support

    def sample(self, sample_shape: Any = ()) -> torch.Tensor:
        """A draw without a gradient."""
        return self.base.sample(torch.Size(sample_shape))

    def rsample(self, sample_shape: Any = ()) -> torch.Tensor:
        """A draw with a gradient."""
        return self.base.rsample(torch.Size(sample_shape))

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log density in nats."""
        return self.base.log_prob(value)

    def entropy(self) -> torch.Tensor:
        """In nats."""
        return self.base.entropy()


def base_of(fn: Any) -> Any:
    """A site's distribution without what is wrapped around it."""
    while isinstance(fn, (AsPyro, Independent)):
        fn = fn.base if isinstance(fn, AsPyro) else fn.base_dist
    return fn
