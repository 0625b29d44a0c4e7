"""Student's t made of standard normals alone, differentiable in the degrees of freedom.

For two standard normals with r² = a² + b² the number exp(-r²/2) is uniform, so that Bailey's polar form reads
(a, b) sqrt(nu (exp(r²/nu) - 1)) / r: exactly a bivariate t with nu degrees of freedom. The next two coordinates of a
multivariate t are, given those before, again a bivariate t, with as many more degrees of freedom as coordinates were
given, and scale² (nu + |before|²) / (nu + number before). Since 1 + |t|²/nu = exp(r²/nu) for each pair, all pairs come
at once, from a cumulative sum. Every other route (a chi-square, so a gamma draw) needs a generator of its own.

Bailey (1994), Polar generation of random variates with the t-distribution; Ding (2016), On the conditional distribution
of the multivariate t distribution.
"""

import math

import torch

SERIES_BELOW, SERIES_TERMS = 0.02, 8
"""Where so many terms of the exponential's series are exact to 1e-16."""
SERIES_FROM = 25.0
"""Where three terms of the asymptotic series of the gamma functions' ratio are exact to 2e-13."""


def polar_t(noise: torch.Tensor, df: torch.Tensor) -> torch.Tensor:
    """Draws of a standard multivariate t from standard normals; as df grows, the normals themselves.

    Args:
        noise: standard normals, shape (*shape, 2 * pair).
        df: degrees of freedom, positive; shape (*shape), or one that broadcasts to it.

    Returns:
        Shape (*shape, 2 * pair). Any part of the coordinates is a multivariate t too, so of an odd number one is left.
    """
    pairs = noise.unflatten(-1, (-1, 2))
    df = df.unsqueeze(-1)
    given = 2.0 * torch.arange(pairs.shape[-2], dtype=noise.dtype, device=noise.device)
    share = pairs.square().sum(-1) / (df + given)
    before = share.cumsum(-1) - share
    stretch = (_growth(share) * (df / (df + given))).sqrt() * (0.5 * before).exp()
    return (pairs * stretch.unsqueeze(-1)).flatten(-2)


def _growth(x: torch.Tensor) -> torch.Tensor:
    """(exp(x) - 1) / x for x >= 0, with a derivative that is exact near zero."""
    series = torch.ones_like(x)
    for number in range(SERIES_TERMS, 1, -1):
        series = 1.0 + x * series / number
    large = x.clamp_min(SERIES_BELOW)
    return torch.where(x < SERIES_BELOW, series, large.expm1() / large)


def t_log_density(squared: torch.Tensor, df: torch.Tensor, dim: int) -> torch.Tensor:
    """Log density in nats of a standard multivariate t.

    Args:
        squared: squared distance from the centre, shape (*shape).
        df: degrees of freedom, positive, broadcasts to `squared`.
        dim: number of coordinates.
    """
    return _log_normaliser(df, dim) - 0.5 * (df + dim) * (squared / df).log1p()


def _log_normaliser(df: torch.Tensor, dim: int) -> torch.Tensor:
    # log Γ((df + dim)/2) - log Γ(df/2) - dim/2 log(π df), without the difference of two large numbers
    half, whole = 0.5 * df, dim // 2
    total = torch.zeros_like(df) - 0.5 * dim * math.log(2.0 * math.pi)
    if whole:
        steps = torch.arange(whole, dtype=df.dtype, device=df.device)
        total = total + (steps / half.unsqueeze(-1)).log1p().sum(-1)
    if dim % 2:
        total = total + _log_half_step(half + whole) + 0.5 * (whole / half).log1p()
    return total


def _log_half_step(x: torch.Tensor) -> torch.Tensor:
    """Log Γ(x + 1/2) - log Γ(x) - log(x) / 2."""
    near, far = x.clamp_max(SERIES_FROM), x.clamp_min(SERIES_FROM)
    exact = (near + 0.5).lgamma() - near.lgamma() - 0.5 * near.log()
    inverse = 1.0 / far
    series = inverse * (-1.0 / 8.0 + inverse.square() * (1.0 / 192.0 - inverse.square() / 640.0))
    return torch.where(x < SERIES_FROM, exact, series)
