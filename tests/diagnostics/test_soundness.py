import numpy as np
import pytest

from ppl_models.diagnostics import check_finite, check_spread

from .samples import dataset, normal_draws


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_draws_that_are_no_numbers_are_named(bad):
    draws = normal_draws(np.random.default_rng(1), 1, 1_000)
    assert check_finite(draws).passed is True
    draws["tau"][0, :20] = bad
    check = check_finite(draws)
    assert check.passed is False
    assert check.value == pytest.approx(0.02)
    assert "2 % of the draws of `tau`" in check.detail


def test_latent_without_spread_is_named():
    rng = np.random.default_rng(2)
    theta = rng.normal(size=(1, 1_000, 3))
    assert check_spread(dataset(rng.normal(size=(1, 1_000)), theta)).passed is True
    theta[..., 1] = 0.3
    check = check_spread(dataset(rng.normal(size=(1, 1_000)), theta))
    assert (check.passed, check.value) == (False, 1.0)
    assert "no spread in `theta[Deerfield]`" in check.detail
    assert check.advice == "use a family that has one"
