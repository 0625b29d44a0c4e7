import math

import numpy as np
import pytest
from scipy.stats import norm

from ppl_models.diagnostics import check_khat, khat_limit, pareto_khat, psis_weights
from ppl_models.diagnostics.khat import relative_ess
from ppl_models.errors import DataError

NUM_DRAWS = 10_000
NUM_TAIL = 300  # 3 sqrt(10,000)
Z = 4.0  # two-sided error 6e-5 a comparison


def mean_and_error(values):
    values = np.asarray(values)
    return values.mean(), values.std(ddof=1) / math.sqrt(values.size)


def gaussian_log_ratio(x, *, posterior_sd, guide_sd):
    return norm.logpdf(x, scale=posterior_sd) - norm.logpdf(x, scale=guide_sd)


@pytest.mark.statistical
@pytest.mark.parametrize("shape", [0.2, 0.5, 0.8])
def test_exact_pareto_ratios(shape):
    """Exponential log ratios of scale k are Pareto ratios of shape k; the fit's prior shrinks it towards 0.5."""
    rng = np.random.default_rng(1)
    mean, error = mean_and_error([pareto_khat(rng.exponential(shape, NUM_DRAWS)) for _ in range(60)])
    shrunk = (NUM_TAIL * shape + 10 * 0.5) / (NUM_TAIL + 10)
    bias = (1 + shape) / NUM_TAIL * 5  # of order 1 / number of tail draws: Zhang and Stephens (2009)
    assert abs(mean - shrunk) < Z * error + bias


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("posterior_sd", "guide_sd", "shape"),
    [(1.5, 1.0, 1 - 1 / 1.5**2), (1.0, 0.5, 0.75), (1.0, 0.8, 0.36)],
)
def test_gaussian_guides(posterior_sd, guide_sd, shape):
    """The ratio of normals is Pareto but for a factor that varies slowly.

    At distance t (in guide sd) the local shape is k t / hazard(t), which rises to k in the far tail; the fit sees the
    shapes between its cutoff and its largest draw.
    """
    rng = np.random.default_rng(2)
    khats = [
        pareto_khat(
            gaussian_log_ratio(guide_sd * rng.normal(size=NUM_DRAWS), posterior_sd=posterior_sd, guide_sd=guide_sd)
        )
        for _ in range(60)
    ]
    mean, error = mean_and_error(khats)
    cutoff = norm.isf(0.5 * NUM_TAIL / NUM_DRAWS)
    local = shape * cutoff * norm.sf(cutoff) / norm.pdf(cutoff)
    assert local - Z * error < mean < shape + Z * error + (1 + shape) / NUM_TAIL * 5


@pytest.mark.parametrize("guide_sd", [1.5, 2.0, 5.0])
def test_wide_guides_have_bounded_ratios(guide_sd):
    rng = np.random.default_rng(3)
    assert (
        pareto_khat(gaussian_log_ratio(guide_sd * rng.normal(size=NUM_DRAWS), posterior_sd=1.0, guide_sd=guide_sd)) <= 0
    )


def test_sign_is_that_of_log_p_minus_log_q():
    rng = np.random.default_rng(4)
    log_ratio = rng.exponential(0.8, NUM_DRAWS)
    assert pareto_khat(log_ratio) > 0.5
    assert pareto_khat(-log_ratio) < 0


def test_weights_are_normalised_and_keep_their_order():
    rng = np.random.default_rng(5)
    log_ratio = rng.exponential(0.5, NUM_DRAWS)
    weights, khat = psis_weights(log_ratio + 1_000.0)
    again, same = psis_weights(log_ratio)
    np.testing.assert_allclose(np.exp(weights).sum(), 1.0, rtol=1e-10)
    np.testing.assert_allclose(weights, again, rtol=1e-9)
    assert khat == pytest.approx(same, rel=1e-9)
    assert (np.diff(weights[np.argsort(log_ratio)]) >= -1e-12).all()


def test_limit():
    assert khat_limit(100) == pytest.approx(0.5, rel=1e-12)
    assert khat_limit(1_000) == pytest.approx(2 / 3, rel=1e-12)
    assert khat_limit(2_154) < 0.7
    assert khat_limit(2_155) == 0.7
    assert khat_limit(10**6) == 0.7


def test_equal_weights_but_for_rounding_pass():
    rng = np.random.default_rng(6)
    log_ratio = -50.0 + 1e-12 * rng.normal(size=NUM_DRAWS)
    weights, khat = psis_weights(log_ratio)
    assert khat == 0.0
    np.testing.assert_allclose(np.exp(weights), 1 / NUM_DRAWS, rtol=1e-10)
    assert check_khat(log_ratio).passed is True


def test_zero_weights_are_legitimate():
    """A posterior uniform on a part of the guide's support: bounded ratios, the rest zero."""
    rng = np.random.default_rng(7)
    x = rng.uniform(size=NUM_DRAWS)
    log_ratio = np.where(x < 0.8, 0.1 * x, -np.inf)
    weights, khat = psis_weights(log_ratio)
    assert khat < 0.5
    np.testing.assert_array_equal(np.isneginf(weights), x >= 0.8)
    check = check_khat(log_ratio)
    assert check.passed is True
    assert "zero posterior density" in check.detail
    atom = np.where(x < 0.8, 0.0, -np.inf)
    assert pareto_khat(atom) == 0.0


@pytest.mark.parametrize("scale", [1e3, 1e4, 1e6])
def test_weights_that_underflow_fail(scale):
    """Here arviz returns its prior, 0.016, which would pass."""
    log_ratio = scale * np.random.default_rng(8).normal(size=NUM_DRAWS)
    assert pareto_khat(log_ratio) == math.inf
    check = check_khat(log_ratio)
    assert check.passed is False
    assert "one draw" in check.detail
    assert np.exp(psis_weights(log_ratio)[0]).sum() == pytest.approx(1.0, rel=1e-10)


def test_almost_only_zero_weights_fail():
    log_ratio = np.full(NUM_DRAWS, -np.inf)
    log_ratio[:100] = np.random.default_rng(9).normal(size=100)
    assert check_khat(log_ratio).passed is False


def test_ties_among_the_largest_are_not_measured():
    log_ratio = np.zeros(NUM_DRAWS)
    log_ratio[:5] = [1, 2, 3, 4, 5]
    assert math.isnan(pareto_khat(log_ratio))
    assert check_khat(log_ratio).passed is None


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda r: r.__setitem__(3, np.nan), "draw 3"),
        (lambda r: r.__setitem__(4, np.inf), "draw 4"),
        (lambda r: r.fill(-np.inf), "zero at every draw"),
    ],
)
def test_spoilt_ratios_are_never_a_pass(spoil, words):
    log_ratio = np.random.default_rng(10).normal(size=NUM_DRAWS)
    spoil(log_ratio)
    check = check_khat(log_ratio)
    assert check.passed is None
    assert math.isnan(check.value)
    assert words in check.detail


def test_wrong_input_is_named():
    with pytest.raises(DataError, match="Stack the chains"):
        pareto_khat(np.zeros((4, 1000)))
    with pytest.raises(DataError, match="Stack the chains"):
        check_khat(np.zeros((4, 1000)))
    with pytest.raises(DataError, match="99 draws"):
        pareto_khat(np.zeros(99))
    assert check_khat(np.arange(99.0)).passed is None


def test_advice_by_region():
    rng = np.random.default_rng(11)
    good, usable, bad = (check_khat(rng.exponential(shape, 40_000)) for shape in (0.1, 0.6, 1.2))
    assert (good.passed, good.advice) == (True, "")
    assert usable.passed is True
    assert "PSIS" in usable.advice
    assert bad.passed is False
    assert "do not importance-weight" in bad.advice


def test_few_draws_are_said():
    assert "fewer than the 10,000" in check_khat(np.random.default_rng(12).normal(size=500)).detail


@pytest.mark.statistical
def test_monte_carlo_error_is_the_spread_of_khat():
    rng = np.random.default_rng(13)
    log_ratios = rng.exponential(0.5, (100, 2_000))
    spread = np.std([pareto_khat(ratio) for ratio in log_ratios], ddof=1)
    reported = np.array([check_khat(ratio).mcse for ratio in log_ratios[:20]])
    error = math.hypot(spread / math.sqrt(2 * 99), reported.std(ddof=1) / math.sqrt(20))
    assert abs(reported.mean() - spread) < Z * error


@pytest.mark.statistical
def test_rate_of_false_alarms():
    """A guide 5 % too narrow in four dimensions: k is about 0.1, the limit 0.7; at most 1 in 100 may fail."""
    rng = np.random.default_rng(14)
    failures = 0
    for _ in range(100):
        x = 0.95 * rng.normal(size=(NUM_DRAWS, 4))
        log_ratio = gaussian_log_ratio(x, posterior_sd=1.0, guide_sd=0.95).sum(axis=1)
        failures += pareto_khat(log_ratio) > khat_limit(NUM_DRAWS)
    assert failures <= 1


def test_equal_densities_pass():
    check = check_khat(np.full(NUM_DRAWS, 3.5))
    assert (check.value, check.passed) == (0.0, True)


def test_too_near_the_limit_is_no_pass_and_no_failure():
    """Exponential log ratios of scale 0.68: k-hat within the limit of 0.7 by less than its error of about 0.1."""
    rng = np.random.default_rng(15)
    found = [check_khat(rng.exponential(0.68, NUM_DRAWS)) for _ in range(10)]
    for check in found:
        expected = False if check.value > 0.7 else None if check.value + check.mcse > 0.7 else True
        assert check.passed is expected
    near = [check for check in found if check.passed is None]
    assert near
    assert all("too near" in check.detail and check.advice for check in near)


def test_nearly_constant_weights_pass_whatever_their_tail():
    """Log ratios of one shape on two scales."""
    shape = np.random.default_rng(11).normal(size=NUM_DRAWS) ** 3
    heavy, guarded = check_khat(shape), check_khat(0.01 * shape + 5.0)
    assert heavy.passed is False
    assert guarded.passed is True


def test_large_khat_of_nearly_constant_weights_is_named():
    ratios = np.zeros(NUM_DRAWS)
    ratios[:400] = 1e-3 * np.random.default_rng(12).exponential(1.0, 400) ** 3
    assert pareto_khat(ratios) > 0.7
    found = check_khat(ratios)
    assert (found.value, found.passed) == (0.0, True)
    assert "nearly constant" in found.detail
    assert f"{pareto_khat(ratios):.2f} by the fit" in found.detail


def test_one_large_weight_among_constant_ones_is_not_guarded():
    ratios = 1e-3 * np.random.default_rng(13).normal(size=NUM_DRAWS)
    assert relative_ess(ratios) > 0.999
    ratios[3] = math.log(1_000.0)
    assert relative_ess(ratios) < 0.02
    assert check_khat(ratios).passed is not True


def test_effective_share_bounds_what_weights_move():
    rng = np.random.default_rng(14)
    ratios, values = 0.3 * rng.normal(size=(2_000, 50)), rng.normal(size=(2_000, 50))
    weights = np.exp(ratios) / np.exp(ratios).sum(0)
    moved = np.abs((weights * values).sum(0) - values.mean(0)) / values.std(0)
    assert (moved <= np.sqrt(1.0 / relative_ess(ratios) - 1.0)).all()
    assert np.isnan(relative_ess(np.array([0.0, math.nan])))
