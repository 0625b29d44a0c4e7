import math

import numpy as np
import pytest
import xarray as xr
from arviz_stats.base import array_stats
from scipy.stats import norm, wasserstein_distance

from ppl_models.diagnostics import compare
from ppl_models.diagnostics.deviations import uniform, wasserstein_null
from ppl_models.errors import DataError

from .samples import autoregressive, dataset, matrix, normal_draws

MOMENTS = ("mean_error_sd", "log_sd_ratio", "q05_error_sd", "q95_error_sd")


@pytest.fixture
def baseline():
    return normal_draws(np.random.default_rng(1), 4, 500)


def test_rows_and_columns(baseline):
    table = compare(baseline, baseline)
    assert list(table.index) == ["tau", "theta[Choate]", "theta[Deerfield]", "theta[Phillips Andover]"]
    columns = [c for name in (*MOMENTS, "wasserstein_sd") for c in (name, f"{name}_mcse")]
    assert list(table.columns) == [*columns, "wasserstein_null_sd"]


def test_labels_without_coordinates():
    rng = np.random.default_rng(2)
    draws = xr.Dataset({"L": (("chain", "draw", "row", "column"), rng.normal(size=(1, 200, 2, 2)))})
    assert list(compare(draws, draws).index) == ["L[0, 0]", "L[0, 1]", "L[1, 0]", "L[1, 1]"]


def test_copy_has_no_error(baseline):
    table = compare(baseline, baseline)
    np.testing.assert_allclose(table[[*MOMENTS, "wasserstein_sd"]], 0.0, atol=1e-12)


def test_affine_copy_is_exact(baseline):
    """x -> a + b x moves the mean by a + (b - 1) m, scales the sd by b, and moves quantiles alike."""
    shift, factor = 0.7, 1.3
    table = compare(shift + factor * baseline, baseline)
    values = {"tau": baseline["tau"].to_numpy().ravel()}
    values |= {f"theta[{s}]": baseline["theta"].sel(school=s).to_numpy().ravel() for s in baseline["school"].to_numpy()}
    for name, x in values.items():
        row, sd = table.loc[name], x.std(ddof=1)
        assert row["mean_error_sd"] == pytest.approx((shift + (factor - 1) * x.mean()) / sd, rel=1e-10)
        assert row["log_sd_ratio"] == pytest.approx(math.log(factor), rel=1e-10)
        for p, column in ((0.05, "q05_error_sd"), (0.95, "q95_error_sd")):
            quantile = np.quantile(x, p, method="hazen")
            assert row[column] == pytest.approx((shift + (factor - 1) * quantile) / sd, rel=1e-10)
        assert row["wasserstein_sd"] == pytest.approx(np.abs(shift + (factor - 1) * x).mean() / sd, rel=1e-10)


def test_scale_and_unit_do_not_matter(baseline):
    fit = normal_draws(np.random.default_rng(3), 1, 1_000)
    np.testing.assert_allclose(compare(1e-20 * fit, 1e-20 * baseline), compare(fit, baseline), rtol=1e-9)


def test_weighted_wasserstein_is_that_of_scipy(baseline):
    rng = np.random.default_rng(4)
    fit, log_weights = normal_draws(rng, 2, 400), rng.normal(size=800)
    table = compare(fit, baseline, log_weights=log_weights)
    x, y = fit["tau"].to_numpy().ravel(), baseline["tau"].to_numpy().ravel()
    weights = np.exp(log_weights) / np.exp(log_weights).sum()
    assert table.loc["tau", "mean_error_sd"] == pytest.approx((weights @ x - y.mean()) / y.std(ddof=1), rel=1e-10)
    distance = wasserstein_distance(x, y, u_weights=weights) / y.std(ddof=1)
    assert table.loc["tau", "wasserstein_sd"] == pytest.approx(distance, rel=1e-10)


def test_integer_weights_repeat_draws(baseline):
    """A weight of two is a draw that stands there twice."""
    fit = normal_draws(np.random.default_rng(5), 1, 300)
    counts = np.random.default_rng(6).integers(1, 4, size=300)
    weighted = compare(fit, baseline, log_weights=np.log(counts))
    repeated = compare(fit.isel(draw=np.repeat(np.arange(300), counts)), baseline)
    for column in ("mean_error_sd", "wasserstein_sd"):
        np.testing.assert_allclose(weighted[column], repeated[column], rtol=1e-10)


def test_mean_error_uses_the_effective_sample_size():
    """Equal means: the error is arviz's standard error of the baseline's mean beside that of the fit's."""
    rng = np.random.default_rng(7)
    chains = autoregressive(rng, (4, 1_000, 1), 0.8)
    chains -= chains.mean()
    fit = rng.normal(size=(1, 500, 1))
    fit -= fit.mean()
    row = compare(matrix(fit), matrix(chains)).iloc[0]
    of_baseline = array_stats.mcse(chains[..., 0], chain_axis=0, draw_axis=1, method="mean").item()
    expected = math.hypot(of_baseline, fit.std() / math.sqrt(500)) / chains.std(ddof=1)
    assert row["mean_error_sd_mcse"] == pytest.approx(expected, rel=1e-3)  # ddof


@pytest.mark.statistical
@pytest.mark.parametrize(("correlation", "shift", "scale"), [(0.0, 0.0, 1.0), (0.6, 0.5, 0.7)])
def test_errors_are_the_spread_over_replicates(correlation, shift, scale):
    """Errors of estimates from 400 parameters that are replicates of each other, moved or not."""
    rng, num = np.random.default_rng(8), 400
    fit = shift + scale * rng.normal(size=(1, 2_000, num))
    table = compare(matrix(fit), matrix(autoregressive(rng, (4, 500, num), correlation)))
    truth = dict(zip(MOMENTS, (shift, math.log(scale), *(shift + (scale - 1) * norm.ppf([0.05, 0.95]))), strict=True))
    for column, value in truth.items():
        estimates, errors = table[column], table[f"{column}_mcse"]
        relative = 4 / math.sqrt(2 * (num - 1))
        # the density window widens the error of a 5 % quantile by 7 %; few effective draws bias the rest as much
        assert abs(estimates.std(ddof=1) / math.sqrt((errors**2).mean()) - 1) < relative + 0.1, column
        assert abs(estimates.mean() - value) < 4 * estimates.std(ddof=1) / math.sqrt(num) + 0.005, column


@pytest.mark.statistical
def test_wasserstein_error_is_the_spread_where_marginals_differ():
    rng, num = np.random.default_rng(9), 300
    fit = 0.5 + 0.7 * rng.normal(size=(1, 1_000, num))
    table = compare(matrix(fit), matrix(rng.normal(size=(4, 250, num))))
    ratio = table["wasserstein_sd"].std(ddof=1) / math.sqrt((table["wasserstein_sd_mcse"] ** 2).mean())
    assert abs(ratio - 1) < 4 / math.sqrt(2 * (num - 1)) + 0.05


def test_wasserstein_null_of_two_sets_of_2000_normal_draws():
    x = np.linspace(-8, 8, 20_001)
    exact = math.sqrt(2 / math.pi) * math.sqrt(2 / 2_000) * np.trapezoid(np.sqrt(norm.cdf(x) * norm.sf(x)), x)
    assert exact == pytest.approx(0.04, abs=0.006)
    quantiles = norm.ppf((np.arange(20_000) + 0.5) / 20_000)[None, :]
    assert wasserstein_null(uniform(quantiles), np.array([2 / 2_000]))[0] == pytest.approx(exact, rel=0.01)


@pytest.mark.statistical
@pytest.mark.parametrize("draw", [lambda rng, n: rng.normal(size=n), lambda rng, n: rng.exponential(size=n)])
def test_wasserstein_null_is_the_mean_distance_of_exact_samples(draw):
    rng, num = np.random.default_rng(10), 200
    table = compare(matrix(draw(rng, (1, 2_000, num))), matrix(draw(rng, (4, 500, num))))
    error = table["wasserstein_sd"].std(ddof=1) / math.sqrt(num)
    bias = 0.01 * table["wasserstein_null_sd"].mean()  # the empirical F ends at the last draw
    assert abs(table["wasserstein_sd"].mean() - table["wasserstein_null_sd"].mean()) < 4 * error + bias


@pytest.mark.statistical
def test_wasserstein_null_allows_for_autocorrelation():
    rng, num = np.random.default_rng(11), 200
    table = compare(matrix(rng.normal(size=(1, 10_000, num))), matrix(autoregressive(rng, (4, 1_000, num), 0.8)))
    error = table["wasserstein_sd"].std(ddof=1) / math.sqrt(num)
    null = table["wasserstein_null_sd"].mean()
    # the effective size is averaged over three levels of F: within 5 %
    assert abs(table["wasserstein_sd"].mean() - null) < 4 * error + 0.05 * null


def test_constants(baseline):
    def with_constant(value):
        return dataset(np.full((4, 500), value), baseline["theta"].to_numpy())

    same = compare(with_constant(1.0), with_constant(1.0))
    assert same.loc["tau"].isna().all()
    assert same.iloc[1:].notna().all(axis=None)
    assert compare(with_constant(2.0), with_constant(1.0)).loc["tau", "mean_error_sd"] == math.inf
    assert compare(baseline, with_constant(1.0)).loc["tau", "log_sd_ratio"] == math.inf
    assert compare(with_constant(1.0), baseline).loc["tau", "log_sd_ratio"] == -math.inf


def test_dims_in_another_order_agree(baseline):
    fit = normal_draws(np.random.default_rng(12), 1, 200)
    turned = fit.transpose("school", "draw", "chain")[["theta", "tau"]]
    assert compare(turned, baseline).equals(compare(fit, baseline))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.drop_vars("tau"), "only the baseline has \\['tau'\\]"),
        (lambda d: d.rename(tau="sigma"), "sigma"),
        (lambda d: d.isel(school=slice(2)), "shape \\(2,\\) in the draws, \\(3,\\) in the baseline"),
        (lambda d: d.isel(school=[1, 0, 2]), "labels of dim 'school'"),
        (lambda d: d.where(d["tau"] < 1), "'tau' are NaN"),
        (lambda d: d.isel(draw=slice(20)), "at least 100"),
        (lambda d: d.isel(chain=0, drop=True), "expand_dims"),
    ],
)
def test_errors_name_what_is_wrong(baseline, change, words):
    with pytest.raises(DataError, match=words):
        compare(change(baseline), baseline)


def test_wrong_weights(baseline):
    with pytest.raises(DataError, match=r"needs \(2000,\)"):
        compare(baseline, baseline, log_weights=np.zeros(500))
    with pytest.raises(DataError, match="NaN"):
        compare(baseline, baseline, log_weights=np.full(2_000, np.nan))
