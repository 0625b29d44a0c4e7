import math

import numpy as np
import pytest
from scipy.stats import norm

from ppl_models.diagnostics import elbo_estimate
from ppl_models.errors import DataError


def log_ratio(num_draws, seed, log_evidence=-3.0, shift=0.4):
    """p = N(0, 1) times the evidence, q = N(shift, 1): ELBO = log evidence - shift^2 / 2."""
    x = shift + np.random.default_rng(seed).normal(size=num_draws)
    return log_evidence + norm.logpdf(x) - norm.logpdf(x, loc=shift)


def test_constant_ratio_is_exact():
    assert elbo_estimate(np.full(200, -7.5)) == (-7.5, 0.0)


def test_elbo_error_is_exact():
    ratios = log_ratio(500, 1)
    elbo, error = elbo_estimate(ratios)
    assert elbo == pytest.approx(ratios.mean(), rel=1e-10)
    assert error == pytest.approx(ratios.std(ddof=1) / math.sqrt(500), rel=1e-10)


@pytest.mark.statistical
def test_known_gaussian():
    ratios = log_ratio(20_000, 2)
    elbo, elbo_error = elbo_estimate(ratios)
    assert abs(elbo - (-3.0 - 0.08)) < 4 * elbo_error


def test_zero_density_and_spoilt_ratios():
    ratios = log_ratio(200, 3)
    ratios[0] = -np.inf
    assert elbo_estimate(ratios)[0] == -math.inf
    ratios[0] = np.nan
    with pytest.raises(DataError, match="NaN"):
        elbo_estimate(ratios)
