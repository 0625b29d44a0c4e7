"""Effect handlers that turn a Pyro model into a function of its latent values."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from pyro.distributions import Delta, ImproperUniform, Independent
from pyro.poutine.enum_messenger import EnumMessenger
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch.distributions import biject_to, transform_to


class SampleableImproperUniform(ImproperUniform):
    """An improper uniform that can be drawn from: uniform on (-2, 2) in unconstrained space; density one everywhere."""

    def sample(self, sample_shape=()) -> torch.Tensor:
        """Draw starting values, not draws of a prior: an improper prior has none."""
        transform = transform_to(self.support)
        shape = torch.Size(sample_shape) + self.batch_shape + self.event_shape
        unconstrained_shape = transform.inverse_shape(shape)
        return transform(torch.empty(unconstrained_shape).uniform_(-2.0, 2.0))


class ImproperSites(Messenger):
    """Make improper flat priors sampleable, so that initialisers and automatic guides work on them."""

    def _pyro_sample(self, msg):
        msg["fn"] = _sampleable(msg["fn"])


def _sampleable(fn):
    if type(fn) is ImproperUniform:
        return SampleableImproperUniform(fn.support, fn.batch_shape, fn.event_shape)
    if isinstance(fn, Independent):
        base = _sampleable(fn.base_dist)
        return fn if base is fn.base_dist else base.to_event(fn.reinterpreted_batch_ndims)
    return fn


def is_latent(msg) -> bool:
    """Whether a sample site is unobserved and not a plate's subsample."""
    return not (msg["is_observed"] or site_is_subsample(msg))


class FromUnconstrained(Messenger):
    """Give each latent site the value that its slice of one flat unconstrained vector stands for.

    The bijection is that of the site's support at this very run, so supports that depend on other latents are right.
    `log_jacobian` accumulates log |d constrained / d unconstrained| in nats.
    """

    def __init__(self, flat: torch.Tensor, slices: Mapping[str, tuple[slice, torch.Size]]):
        super().__init__()
        self.flat = flat
        self.slices = slices
        self.log_jacobian = flat.new_zeros(())

    def _pyro_sample(self, msg):
        if msg["name"] not in self.slices or not is_latent(msg):
            return
        where, shape = self.slices[msg["name"]]
        unconstrained = self.flat[where].reshape(shape)
        transform = biject_to(msg["fn"].support)
        msg["value"] = transform(unconstrained)
        self.log_jacobian = self.log_jacobian + transform.log_abs_det_jacobian(unconstrained, msg["value"]).sum()


class FromValues(Messenger):
    """Give each latent site the constrained value of its name.

    Args:
        values: constrained values by site name.
        skip_delta: leave sites alone whose distribution is a point mass. In automatic guides they repeat what an
            auxiliary site says, and a value that differs in its last bit would have no density.
    """

    def __init__(self, values: Mapping[str, torch.Tensor], *, skip_delta: bool = False):
        super().__init__()
        self.values = values
        self.skip_delta = skip_delta

    def _pyro_sample(self, msg):
        if self.skip_delta and isinstance(msg["fn"], Delta):
            return
        if msg["name"] in self.values and is_latent(msg):
            msg["value"] = self.values[msg["name"]]


class Unobserve(Messenger):
    """Draw the named observed sites afresh; Pyro's own `uncondition` would misshape deterministics inside plates."""

    def __init__(self, names: Iterable[str]):
        super().__init__()
        self.names = frozenset(names)

    def _pyro_sample(self, msg):
        if msg["name"] in self.names and msg["is_observed"]:
            msg["is_observed"] = False
            msg["value"] = None


class Enumerate(EnumMessenger):
    """Pyro's parallel enumeration, made to work inside `torch.func` transforms, which forbid `tensor.data`."""

    def _pyro_post_sample(self, msg: Any):
        value = msg["value"]
        if isinstance(value, torch.Tensor):
            msg["value"] = _Shape(value)
        try:
            super()._pyro_post_sample(msg)
        finally:
            msg["value"] = value


class _Shape:
    """All that Pyro's enumeration reads of a value."""

    def __init__(self, value: torch.Tensor):
        self.data = value
        self.dim = value.dim
