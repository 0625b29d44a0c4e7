"""Expectations whose values are known: to learn from, to compare methods on, and to test them."""

import cmath
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from scipy import special
from torch import distributions as dist

from ppl_models.options import check_choice


@dataclass(frozen=True)
class KnownExpectation:
    """E_q[f] with its value.

    Attributes:
        name: in the registry.
        title: a formula, for people.
        f: takes draws, shape (draw, *event), and returns (draw,).
        q: the distribution, float64.
        exact: the value.
        source: where the value comes from, and what the case teaches.
    """

    name: str
    title: str
    f: Callable[[torch.Tensor], torch.Tensor]
    q: dist.Distribution
    exact: float
    source: str


def _numbers(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _number(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


NORMAL = dist.Normal(_number(0.0), _number(1.0))
SPOT, STRIKE, RATE, VOLATILITY, YEARS = 100.0, 100.0, 0.05, 0.2, 1.0
SHARPNESS, PEAKS = _numbers(1.5, 2.0, 2.5, 3.0, 3.5), _numbers(0.2, 0.4, 0.5, 0.6, 0.8)
WAVES, PHASE = _numbers(0.5, 1.0, 1.5, 2.0, 2.5), 0.3
MEAN = _numbers(1.0, 0.0, -1.0)
COVARIANCE = torch.stack([_numbers(1.0, 0.5, 0.2), _numbers(0.5, 2.0, -0.4), _numbers(0.2, -0.4, 1.5)])
FORM = torch.stack([_numbers(2.0, 1.0, 0.0), _numbers(1.0, 3.0, 0.5), _numbers(0.0, 0.5, 1.0)])
POISSON_RATE, FREEDOM, TARGET = 3.0, 2.5, 0.499


def _call(z: torch.Tensor) -> torch.Tensor:
    growth = (RATE - 0.5 * VOLATILITY**2) * YEARS + VOLATILITY * math.sqrt(YEARS) * z
    return math.exp(-RATE * YEARS) * torch.relu(SPOT * torch.exp(growth) - STRIKE)


def black_scholes() -> float:
    """Price of the European call with the constants of this file."""
    spread = VOLATILITY * math.sqrt(YEARS)
    upper = (math.log(SPOT / STRIKE) + (RATE + 0.5 * VOLATILITY**2) * YEARS) / spread
    return float(SPOT * special.ndtr(upper) - STRIKE * math.exp(-RATE * YEARS) * special.ndtr(upper - spread))


def _peak(u: torch.Tensor) -> torch.Tensor:
    return torch.prod(1.0 / (SHARPNESS.to(u) ** -2 + (u - PEAKS.to(u)) ** 2), -1)


def _peak_exact() -> float:
    parts = SHARPNESS * (torch.atan(SHARPNESS * (1.0 - PEAKS)) + torch.atan(SHARPNESS * PEAKS))
    return float(torch.prod(parts))


def _wave(u: torch.Tensor) -> torch.Tensor:
    return torch.cos(2.0 * math.pi * PHASE + u @ WAVES.to(u))


def _wave_exact() -> float:
    value = cmath.exp(2j * math.pi * PHASE)
    for wave in WAVES.tolist():
        value *= (cmath.exp(1j * wave) - 1.0) / (1j * wave)
    return value.real


def _quadratic(x: torch.Tensor) -> torch.Tensor:
    return torch.einsum("ni,ij,nj->n", x, FORM.to(x), x)


def _cube() -> dist.Distribution:
    return dist.Independent(dist.Uniform(torch.zeros_like(WAVES), torch.ones_like(WAVES)), 1)


def _known(name: str, title: str, f: Any, q: dist.Distribution, exact: float, source: str) -> KnownExpectation:
    return KnownExpectation(name, title, f, q, float(exact), source)


INTEGRANDS: dict[str, KnownExpectation] = {
    known.name: known
    for known in (
        _known(
            "founding",
            "E[exp(-z²)], z ~ N(0, 1)",
            lambda z: torch.exp(-(z**2)),
            NORMAL,
            3.0**-0.5,
            "1/√3, a Gaussian integral; even, so that antithetic draws make it worse",
        ),
        _known(
            "exponential",
            "E[exp(z)], z ~ N(0, 1)",
            torch.exp,
            NORMAL,
            math.exp(0.5),
            "mean of the lognormal, √e; monotone, so that antithetic draws help",
        ),
        _known(
            "call_option",
            "Black-Scholes call, S = K = 100, r = 0.05, volatility 0.2, T = 1",
            _call,
            NORMAL,
            black_scholes(),
            "Black and Scholes (1973), Journal of Political Economy 81(3); a kink",
        ),
        _known(
            "product_peak",
            "E[∏ 1 / (a⁻² + (u - w)²)], u uniform in 5 dimensions",
            _peak,
            _cube(),
            _peak_exact(),
            "Genz (1984), Testing multidimensional integration routines, family 2",
        ),
        _known(
            "oscillatory",
            "E[cos(2πw + a·u)], u uniform in 5 dimensions",
            _wave,
            _cube(),
            _wave_exact(),
            "Genz (1984), Testing multidimensional integration routines, family 1",
        ),
        _known(
            "positive_square",
            "E[max(z, 0)²], z ~ N(0, 1)",
            lambda z: torch.relu(z) ** 2,
            NORMAL,
            0.5,
            "half of the variance, by symmetry",
        ),
        _known(
            "rare_event",
            "P(z > 4), z ~ N(0, 1)",
            lambda z: z > 4.0,
            NORMAL,
            special.ndtr(-4.0),
            "tail of the normal; one draw in 31,574 counts, so that few draws see nothing",
        ),
        _known(
            "quadratic_form",
            "E[xᵀA x], x ~ N(μ, Σ) in 3 correlated dimensions",
            _quadratic,
            dist.MultivariateNormal(MEAN, COVARIANCE),
            float(torch.trace(FORM @ COVARIANCE) + MEAN @ FORM @ MEAN),
            "tr(AΣ) + μᵀAμ; quadratic in normal numbers, so that control variates know it exactly",
        ),
        _known(
            "poisson_share",
            "E[1 / (1 + n)], n ~ Poisson(3)",
            lambda n: 1.0 / (1.0 + n),
            dist.Poisson(_number(POISSON_RATE)),
            -math.expm1(-POISSON_RATE) / POISSON_RATE,
            "(1 - e⁻³) / 3, a shifted sum; discrete",
        ),
        _known(
            "coin_loss",
            "E[(b - 0.499)²], b ~ Bernoulli(1/2)",
            lambda b: (b - TARGET) ** 2,
            dist.Bernoulli(probs=_number(0.5)),
            0.5 * ((1.0 - TARGET) ** 2 + TARGET**2),
            "two outcomes; Tucker et al. (2017), REBAR",
        ),
        _known(
            "infinite_variance",
            "E[t²], t ~ Student's t with 2.5 degrees of freedom",
            torch.square,
            dist.StudentT(_number(FREEDOM)),
            FREEDOM / (FREEDOM - 2.0),
            "variance of Student's t; t² itself has none (Pareto shape 0.8), so that no error bar can be trusted",
        ),
    )
}
"""The known expectations by name."""


def known_expectation(name: str) -> KnownExpectation:
    """The one of that name.

    Raises:
        UnknownNameError: there is none; lists the names, nearest first.
    """
    return INTEGRANDS[check_choice("integrand", name, INTEGRANDS)]
