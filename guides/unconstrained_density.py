"""A model's log density in the unconstrained space and its gradient, as a guide may use them."""

from collections.abc import Callable, Mapping
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer.mcmc.util import TraceTreeEvaluator
from pyro.poutine.enum_messenger import EnumMessenger
from torch.distributions import biject_to

from guides.plates import Walk, hidden

Unpack = Callable[[torch.Tensor], Mapping[str, torch.Tensor]]
NOT_VECTORISABLE = (RuntimeError, ValueError, NotImplementedError, TypeError, IndexError)


class Enumeration(EnumMessenger):
    """Pyro's parallel enumeration, inside `torch.func` transforms too, which have no `tensor.data`."""

    def _pyro_post_sample(self, msg: Any) -> None:
        value = msg["value"]
        if isinstance(value, torch.Tensor):
            msg["value"] = _Shape(value)
        super()._pyro_post_sample(msg)
        msg["value"] = value


class _Shape:
    """The shape of a value is all that enumeration reads of it."""

    def __init__(self, value: torch.Tensor):
        self.data, self.dim = value, value.dim


class UnconstrainedDensity:
    """Log joint density plus log Jacobian of a model at given arguments, in nats.

    Sites marked for enumeration are summed out. No draw is made and no site leaves.

    Args:
        model: the model.
        unpack: function of one flat vector that returns the latents' unconstrained values.
        indices: indices of the plates that Pyro subsamples.
        max_plate_nesting: of the model; None where nothing is enumerated.
        args: what the model is called with.
        kwargs: the same, by name.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        unpack: Unpack,
        indices: Mapping[str, torch.Tensor],
        max_plate_nesting: int | None,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ):
        self.model, self.unpack, self.indices = model, unpack, indices
        self.max_plate_nesting = max_plate_nesting
        self.args, self.kwargs = args, kwargs

    def __call__(self, flat: torch.Tensor) -> torch.Tensor:
        """The log density of one vector of shape (dim,)."""
        unconstrained = self.unpack(flat)
        walk = Walk(lambda name, _: unconstrained[name], self.indices)
        nesting = self.max_plate_nesting
        model = self.model if nesting is None else Enumeration(first_available_dim=-1 - nesting)(self.model)
        with hidden(), walk:
            trace = poutine.trace(model).get_trace(*self.args, **self.kwargs)
        log_p: Any = (
            trace.log_prob_sum() if nesting is None else TraceTreeEvaluator(trace, True, nesting).log_prob(trace)
        )
        for name, support in walk.supports.items():
            transform = biject_to(support)
            free: Any = unconstrained[name]
            jacobian: Any = transform.log_abs_det_jacobian(free, transform(free))
            log_p = log_p + jacobian.sum()
        return log_p

    def gradient(self, flat: torch.Tensor) -> torch.Tensor:
        """Its gradient, differentiable once more; of each vector of shape (*batch, dim), as if it were alone."""
        found = self._gradient(flat)
        # torch.func.grad records also where its caller does not
        return found if torch.is_grad_enabled() else found.detach()

    def _gradient(self, flat: torch.Tensor) -> torch.Tensor:
        slope = torch.func.grad(self)
        with pyro.validation_enabled(False):  # which looks at values, and vmap has none to show
            if flat.dim() == 1:
                return slope(flat)
            vectors = flat.reshape(-1, flat.shape[-1])
            try:
                found = torch.func.vmap(slope)(vectors)
            except NOT_VECTORISABLE:
                found = torch.stack([slope(vector) for vector in vectors])
            return found.reshape(flat.shape)
