"""Guide of the autoregression: a dense normal over intercept, both coefficients and the log noise.

Given the noise, the posterior is that of a linear regression on the two lagged values, exactly normal with precision
ZᵀZ / noise² plus the prior's, where Z holds the intercept and the lags (Box, Jenkins and Reinsel 2008, Time Series
Analysis, appendix A7.5). The lags are far from centred and follow each other, so that ZᵀZ is far from diagonal.
"""

import torch
from pyro.distributions import constraints

from guides.handwritten.parts import dense_normal, place


def guide(lags: torch.Tensor, y: torch.Tensor | None = None) -> None:
    """q(intercept, coefficients, log noise), a dense normal.

    Keeps the dependence of the intercept on the sum of the coefficients (the series has a mean far from zero, which
    only their combination fixes) and of the coefficients on each other (neighbouring years resemble each other).

    Args:
        lags: The series one and two years before, log10 of animals, shape (year, lag).
        y: The series, log10 of animals, shape (year,); not read.
    """
    joint = dense_normal("autoregression", [0.0] * (1 + lags.shape[-1]) + [-1.0])
    place("intercept", joint[..., 0])
    place("coefficients", joint[..., 1:-1], constraints.real_vector)
    place("noise", joint[..., -1], constraints.positive)
