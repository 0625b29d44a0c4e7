"""Flat priors that can be sampled: proper distributions whose density is masked, so that it is one on the support.

What they are drawn from is where a fit may start, and nothing more. A flat prior is flat in the parameter itself: on
the positive side the log density of log sigma has a Jacobian, which Pyro's transforms bring in.
"""

import math

import pyro.distributions as dist
import torch


def real_vector(like: torch.Tensor, scale: float) -> dist.MaskedDistribution:
    """Flat on vectors as long as the last axis of `like`; draws are normal with that scale."""
    return dist.Normal(like.new_zeros(like.shape[-1]), scale).to_event(1).mask(False)


def positive(scale: float) -> dist.MaskedDistribution:
    """Flat on (0, inf); draws are log-normal with that median."""
    return dist.LogNormal(math.log(scale), 0.5).mask(False)


def increasing(start: torch.Tensor) -> dist.MaskedDistribution:
    """Flat on increasing vectors; draws lie about `start`, increasing, shape (entry,)."""
    transform = dist.transforms.OrderedTransform()
    gaps = torch.diff(start)
    base = dist.Normal(torch.cat([start[:1], gaps.log()]), 0.5).to_event(1)
    return dist.TransformedDistribution(base, [transform]).mask(False)
