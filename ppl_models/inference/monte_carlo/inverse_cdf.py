"""Inverse cumulative distribution functions of distributions of one number, those that torch lacks among them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy import special, stats
from torch import distributions as dist

Quantile = Callable[[torch.Tensor], torch.Tensor]
"""Uniform numbers, float64, shape (draw, *batch), to draws of the same shape."""


def quantile_of(q: Any) -> Quantile | None:
    """The inverse cdf of a distribution whose event is one number; None where it is not known."""
    for kind, make in _BY_KIND.items():
        if isinstance(q, kind):
            return make(q)
    if q.event_shape or type(q).icdf is dist.Distribution.icdf:
        return None
    return q.icdf


def _through_scipy(function: Callable[..., Any], *parameters: torch.Tensor) -> Quantile:
    numbers = [parameter.detach().double().cpu().numpy() for parameter in parameters]

    def quantile(uniform: torch.Tensor) -> torch.Tensor:
        found = np.asarray(function(uniform.cpu().numpy(), *numbers))
        return torch.as_tensor(found, dtype=torch.float64, device=uniform.device)

    return quantile


def _gamma(q: Any) -> Quantile:
    return _through_scipy(lambda u, shape, rate: special.gammaincinv(shape, u) / rate, q.concentration, q.rate)


def _beta(q: Any) -> Quantile:
    return _through_scipy(lambda u, a, b: special.betaincinv(a, b, u), q.concentration1, q.concentration0)


def _student(q: Any) -> Quantile:
    return _through_scipy(lambda u, df, loc, scale: loc + scale * special.stdtrit(df, u), q.df, q.loc, q.scale)


def _poisson(q: Any) -> Quantile:
    return _whole_numbers(stats.poisson, q.rate)


def _binomial(q: Any) -> Quantile:
    return _whole_numbers(stats.binom, q.total_count, q.probs)


def _whole_numbers(family: Any, *parameters: torch.Tensor) -> Quantile:
    """Of counts; where all draws have the same parameters a table of their cdf is searched, which is much faster."""
    parameters = tuple(torch.as_tensor(parameter) for parameter in parameters)
    if any(parameter.numel() > 1 for parameter in parameters):
        return _through_scipy(family.ppf, *parameters)
    numbers = [parameter.item() for parameter in parameters]
    table = torch.as_tensor(family.cdf(np.arange(family.ppf(1.0 - 2.0**-53, *numbers)), *numbers))
    return lambda uniform: torch.searchsorted(table.to(uniform.device), uniform.contiguous()).double()


def _geometric(q: Any) -> Quantile:
    return lambda uniform: torch.floor(torch.log1p(-uniform) / torch.log1p(-q.probs.double()))


def _bernoulli(q: Any) -> Quantile:
    return lambda uniform: (uniform > 1.0 - q.probs.double()).double()


def _categorical(q: Any) -> Quantile:
    edges = torch.cumsum(q.probs.detach().double(), -1)[..., :-1]
    return lambda uniform: (uniform.unsqueeze(-1) > edges).sum(-1).double()


_BY_KIND: dict[type, Callable[[Any], Quantile]] = {
    dist.Gamma: _gamma,
    dist.Beta: _beta,
    dist.StudentT: _student,
    dist.Poisson: _poisson,
    dist.Binomial: _binomial,
    dist.Geometric: _geometric,
    dist.Bernoulli: _bernoulli,
    dist.Categorical: _categorical,
}
