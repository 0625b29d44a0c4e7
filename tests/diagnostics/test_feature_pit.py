import math

import numpy as np
import pytest
from scipy.stats import binom, norm

from ppl_models.diagnostics import FeaturePIT, feature_pit
from ppl_models.diagnostics.loo_pit import check_loo_pit
from ppl_models.errors import DataError

FEATURES = 6


def normal(x, mean, sd):
    return norm.logpdf(x, mean, sd)


def measured(seed, *, noise=1.0, wider=1.3, num_rows=300, num_draws=500):
    """z ~ N(0, 1), six features x ~ N(z, noise); the model says N(z, 1). q is its posterior, but wider and shifted."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(num_rows, 1)) + noise * rng.normal(size=(num_rows, FEATURES))
    sd = wider / math.sqrt(1.0 + FEATURES)
    mean = x.sum(1) / (1.0 + FEATURES) + 0.2 * sd
    z = mean + sd * rng.normal(size=(num_draws, num_rows))
    log_weight = normal(z, 0.0, 1.0) + normal(x, z[..., None], 1.0).sum(-1) - normal(z, mean, sd)
    left = rng.integers(FEATURES, size=num_rows)
    observed = x[np.arange(num_rows), left]
    drawn = z + rng.normal(size=z.shape)
    return feature_pit(observed, drawn, normal(observed, z, 1.0), log_weight, seed=seed), x, left


def test_values_are_those_of_the_exact_conditional():
    """x_d | others is normal: the weights must undo both the feature's own pull and the fault of q."""
    found, x, left = measured(1, num_draws=20_000, num_rows=50)
    own = x[np.arange(50), left]
    mean, sd = (x.sum(1) - own) / FEATURES, math.sqrt(1.0 + 1.0 / FEATURES)
    exact = norm.cdf(own, mean, sd)
    # Effective draws are no fewer than a fifth here.
    assert np.abs(found.pit - exact).max() < 4.5 * 0.5 / math.sqrt(20_000 / 5.0)


def test_right_model_passes_whatever_q_is():
    failed = sum(measured(seed, num_rows=100, num_draws=200)[0].check.passed is False for seed in range(100))
    assert failed <= binom.ppf(1.0 - 1e-4, 100, 0.01)


@pytest.mark.parametrize(("noise", "words"), [(1.6, "too many in the tails"), (0.6, "too many in the middle")])
def test_wrong_noise_is_found(noise, words):
    found = measured(2, noise=noise)[0]
    assert found.check.passed is False
    assert words in found.check.detail
    assert (found.coverage < 0.9) == (noise > 1.0)


def test_heavy_weights_are_no_measurement():
    check = measured(3, wider=0.3)[0].check
    assert check.passed is None
    assert "too heavy" in check.detail


def test_bad_densities_are_no_pass():
    rng = np.random.default_rng(4)
    weights = np.full((200, 20), np.nan)
    found = feature_pit(np.zeros(20), rng.normal(size=(200, 20)), np.zeros((200, 20)), weights)
    assert found.check.passed is None


def test_wrong_shapes_are_refused():
    with pytest.raises(DataError, match="need"):
        feature_pit(np.zeros(2), np.zeros((50, 2)), np.zeros((50, 2)), np.zeros((50, 2)))


def single(seed, *, wrong=1.0, num_rows=200, num_draws=500):
    """z ~ N(1, 0.5), y ~ Poisson(exp z), and nothing but y: the predictions are the prior's."""
    rng = np.random.default_rng(seed)
    y = rng.poisson(np.exp(rng.normal(1.0, 0.5 * wrong, num_rows)))
    drawn = rng.poisson(np.exp(rng.normal(1.0, 0.5, (num_draws, num_rows))))
    nothing = np.zeros(drawn.shape)
    return feature_pit(y, drawn, nothing, nothing, seed=seed, alone=True)


def test_counts_of_a_true_model_fail_no_more_often_than_said():
    found = [single(seed, num_draws=200).check.passed for seed in range(60)]
    assert found.count(False) <= binom.ppf(1.0 - 1e-4, 60, 0.01)
    assert found.count(True) >= binom.ppf(1e-4, 60, 0.97)


@pytest.mark.parametrize(("wrong", "words"), [(0.1, "too many in the middle"), (2.0, "too many in the tails")])
def test_wrong_spread_of_counts_is_found(wrong, words):
    check = single(3, wrong=wrong, num_rows=400).check
    assert check.passed is False
    assert words in check.detail
    assert "the only feature" in check.detail


def test_rows_with_heavy_weights_are_not_left_out():
    """They are those in the tails: what remains of a true model would be too much in the middle."""
    pit = np.random.default_rng(5).uniform(size=1_000)
    heavy = np.abs(pit - 0.5) > 0.4
    few = np.where(np.arange(1_000) % 5 == 0, heavy, False)
    found = FeaturePIT(pit, np.where(few, 0.9, 0.1), 2_000)
    assert found.check.passed is True
    assert f"{few.sum()} data with heavy weights" in found.check.detail
    many = FeaturePIT(pit, np.where(heavy, 0.9, 0.1), 2_000).check
    assert (many.passed, many.held_against) == (None, "")
    assert check_loo_pit(pit[~heavy]).passed is False


def test_guesses_decide_nothing():
    pit = np.linspace(0.0, 1.0, 402)[1:-1]
    pit[:40] = 0.999  # forty in the upper tail: no uniform sample, unless these are elsewhere
    assert check_loo_pit(pit).passed is False
    unknown = check_loo_pit(pit, num_unknown=40)
    assert unknown.passed is None
    assert "unless 40 are elsewhere" in unknown.detail
    pit[40:200] = 0.999
    assert check_loo_pit(pit, num_unknown=40).passed is False


def test_a_fault_is_found_in_spite_of_many_heavy_weights():
    pit = np.full(400, 0.5) + np.linspace(-0.01, 0.01, 400)
    check = FeaturePIT(pit, np.where(np.arange(400) < 60, 0.9, 0.1), 2_000).check
    assert check.passed is False
