"""Estimators side by side: bias, order of variances, signal to noise in the number of draws."""

import math

import numpy as np
import pyro
import pyro.distributions as pyro_dist
import pytest
import torch
import torch.distributions as dist

import ppl_models as ppl
from ppl_models.errors import OptionError
from ppl_models.inference.gradients import free_setting, make_replicates
from ppl_models.program.estimators import DoublyReparameterised, ImportanceWeighted, Score
from ppl_models.workflow.gradient_variance import gradient_variance

Z = 4.5
PHI = torch.tensor(0.3, dtype=torch.float64)
X = torch.tensor(1.0, dtype=torch.float64)


def quadratic(b):
    return (b - 0.499) ** 2


def flip(phi):
    return dist.Bernoulli(logits=phi)


def by_estimator(found):
    return found.table.set_index("estimator")


@pytest.fixture(scope="module")
def coin():
    return gradient_variance(quadratic, flip, PHI, num_draws=2, num_replicates=4_000, num_tuning=50)


@pytest.mark.statistical
def test_all_that_serve_are_measured_against_the_exact_gradient(coin):
    table = by_estimator(coin)
    assert set(table.index) == {
        "score", "nvil", "rebar", "relax", "gumbel_softmax", "straight_through", "enumeration",
    }  # fmt: skip
    share = float(PHI.sigmoid())
    np.testing.assert_allclose(table["exact"], share * (1.0 - share) * 0.002, rtol=1e-10)
    away = (table["bias"].abs() / table["bias_error"].clip(lower=1e-300))[table["bias"].abs() > 1e-15]
    assert (away[~table["biased"]] < Z).all()
    assert (away[table["biased"]] > Z).all()
    assert table["biased"].sum() == 2
    assert all(check.passed for check in coin.checks)
    assert coin.exact == "enumeration"
    assert "log_density=True" in coin.left_out["vimco"]


@pytest.mark.statistical
def test_order_of_variances(coin):
    variance = by_estimator(coin)["variance_per_draw"]
    assert max(variance["rebar"], variance["relax"]) < 0.2 * variance["nvil"]
    assert variance["nvil"] < variance["score"] < variance["gumbel_softmax"]
    assert variance["enumeration"] == 0.0


@pytest.mark.statistical
def test_rebar_and_relax_are_below_nvil():
    """Where the objective leaves more to explain than a number can."""
    found = gradient_variance(
        lambda b: ((b - 0.45) ** 2).sum() + b[0] * b[1],
        lambda p: dist.Independent(dist.Bernoulli(logits=p), 1),
        torch.full((3,), 0.8, dtype=torch.float64),
        estimators=["nvil", "rebar", "relax"],
        num_draws=1,
        num_replicates=2_000,
        num_tuning=50,
    )
    variance = found.summary["variance_per_draw"]
    assert max(variance["rebar"], variance["relax"]) < 0.8 * variance["nvil"]
    assert all(check.passed for check in found.checks)


def test_it_prints(coin):
    text = repr(coin)
    assert "gumbel_softmax*" in text
    assert "biased by its making" in text
    assert "<table" in coin._repr_html_()
    assert coin.config["num_replicates"] == 4_000


@pytest.mark.statistical
def test_a_wrong_gradient_is_noticed():
    found = gradient_variance(
        lambda z: z**2,
        lambda mu: dist.Normal(mu, 1.0),
        X,
        estimators=["reparameterised"],
        exact=2.5,
        num_replicates=400,
    )
    assert found.checks[-1].passed is False
    assert "FAIL" in repr(found)
    right = gradient_variance(
        lambda z: z**2,
        lambda mu: dist.Normal(mu, 1.0),
        X,
        estimators=["reparameterised"],
        exact=2.0,
        num_replicates=400,
    )
    assert right.checks[-1].passed


def test_without_an_exact_gradient_nothing_passes():
    found = gradient_variance(
        lambda z: z**2, lambda mu: dist.Normal(mu, 1.0), X, estimators=["score", ("score", {"baseline": "none"})]
    )
    assert found.exact == "none"
    assert [check.passed for check in found.checks if "unbiased" in check.name] == [None, None]
    assert list(found.summary.index) == ["score", "score (baseline='none')"]


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ((quadratic, flip, PHI), {"estimators": ["reparameterised"]}, "Take 'score'"),
        ((quadratic, flip, PHI), {"estimators": []}, "found none"),
        ((quadratic, flip, PHI), {"exact": [1.0, 2.0], "estimators": ["score"]}, r"shape \(2,\), wanted"),
        ((quadratic, flip, PHI), {"exact": {"phi": 1.0}, "estimators": ["score"]}, "nothing for parameter 'q'"),
        ((quadratic, flip, PHI), {"num_replicates": 1}, "at least 2"),
        ((quadratic,), {}, "wanted a function of a draw"),
    ],
)
def test_what_users_get_wrong(given, options, message):
    with pytest.raises(OptionError, match=message):
        gradient_variance(*given, **options)


Y = torch.tensor([0.2, 2.9, -0.3, 1.7], dtype=torch.float64)


def rows(y):
    with pyro.plate("row", len(y)):
        flag = pyro.sample("flag", pyro_dist.Bernoulli(0.4))
        pyro.sample("y", pyro_dist.Normal(3.0 * flag, 1.0), obs=y)


def rows_guide(y):
    logits = pyro.param("logits", torch.zeros(len(y)))
    with pyro.plate("row", len(y)):
        pyro.sample("flag", pyro_dist.Bernoulli(logits=logits))


@pytest.mark.statistical
def test_a_fit_is_measured_where_it_stands():
    fit = ppl.fit(rows, (Y,), guide=rows_guide, estimator="enumeration", max_steps=2, seed=1)
    found = gradient_variance(fit, estimators=["score", "vimco", "rebar"], num_replicates=400, num_tuning=20)
    assert found.exact == "enumeration"
    assert set(found.table["parameter"]) == {f"logits[{place}]" for place in range(4)}
    assert all(check.passed for check in found.checks if "vimco" not in check.name)
    assert found.table.query("estimator == 'vimco'")["exact"].isna().all()
    with pytest.raises(OptionError, match="a fit brings its own"):
        gradient_variance(fit, flip)


def wide(place):
    return dist.Normal(place, 2.0**0.5)


def standard_normal(z):
    return dist.Normal(0.0, 1.0).log_prob(z)


@pytest.mark.statistical
def test_gap_of_the_importance_weighted_bound():
    """Posterior N(0, 1), q = N(0, 2): KL(q || p) at one draw, and Var(w) / 2K for many."""
    setting = free_setting(standard_normal, wide, torch.zeros((), dtype=torch.float64), log_density=True)
    for inside, wanted, rest in ((1, 0.153426, 0.0), (256, 0.077350, 1.0 / 256)):
        with setting.enter(3):
            found = make_replicates(setting, ImportanceWeighted(inside), num_draws=4 * inside, num_replicates=4_000)
        gap = -inside * found.objectives
        assert abs(gap.mean() - wanted) < Z * gap.std() / math.sqrt(len(gap)) + rest


def slope_of_signal_to_noise(kind, place, variance, counts, num_replicates):
    """The slope of log |mean| / sd in log K, and its standard error, by weighted least squares.

    The relative error of a ratio r of n estimates is about sqrt((1 / r^2 + 1 / 2) / n).
    """

    def log_joint(z):
        return dist.Normal(0.0, 1.0).log_prob(z) + dist.Normal(z, 1.0).log_prob(X)

    start = torch.tensor(place, dtype=torch.float64)
    setting = free_setting(log_joint, lambda p: dist.Normal(p, variance**0.5), start, log_density=True)
    ratios = []
    for count in counts:
        with setting.enter(count):
            found = make_replicates(setting, kind(count), num_draws=count, num_replicates=num_replicates)
        ratios.append(abs(found.gradients.mean()) / found.gradients.std())
    ratio, log_count = np.array(ratios), np.log(counts)
    weight = num_replicates / (1.0 / ratio**2 + 0.5)
    away = log_count - np.average(log_count, weights=weight)
    precision = (weight * away**2).sum()
    return (weight * away * np.log(ratio)).sum() / precision, precision**-0.5


@pytest.mark.statistical
def test_signal_of_the_importance_weighted_gradient_drowns_and_that_of_the_doubly_reparameterised_does_not():
    """Slopes -1/2 and 1/2; what is left of order 1 / K at the fewest draws adds to the tolerance."""
    counts = [16, 64, 256]
    falls, error = slope_of_signal_to_noise(ImportanceWeighted, 1.5, 1.0, counts, 20_000)
    assert abs(falls + 0.5) < Z * error + 1.0 / 16
    assert Z * error < 0.25
    rises, error = slope_of_signal_to_noise(DoublyReparameterised, 0.7, 0.7, counts, 2_000)
    assert abs(rises - 0.5) < Z * error + 1.0 / 16


@pytest.mark.exhaustive
@pytest.mark.parametrize(("kind", "slope"), [(ImportanceWeighted, -0.5), (DoublyReparameterised, 0.5)])
@pytest.mark.parametrize(("place", "variance"), [(1.5, 1.0), (1.3, 0.8)])
def test_slopes_on_many_replicates(kind, slope, place, variance):
    found, error = slope_of_signal_to_noise(kind, place, variance, [32, 64, 128, 256, 512, 1024], 40_000)
    assert abs(found - slope) < Z * error + 1.0 / 32


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_the_same_on_cuda():
    found = gradient_variance(
        quadratic, flip, PHI.cuda(), estimators=["score", "nvil", "rebar", "relax", "enumeration"], num_replicates=400
    )
    assert all(check.passed for check in found.checks)


def test_an_estimator_of_the_users_is_left_as_it_is():
    mine = Score("learned")
    gradient_variance(quadratic, flip, PHI, estimators=[mine], num_replicates=10, num_tuning=2)
    assert mine.auxiliary is None
