"""Predictive checks of models that are right, and of models that cannot produce the data."""

import json
import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import constraints

import ppl_models as ppl
from ppl_models.errors import DataError, OptionError, UnknownNameError


def poisson(y):
    rate = pyro.sample("rate", dist.Gamma(2.0, 0.5))
    with pyro.plate("row", y.shape[0]):
        pyro.sample("y", dist.Poisson(rate), obs=y)


def exact_rate(y):
    pyro.sample("rate", dist.Gamma(2.0 + y.sum(), 0.5 + len(y)))


def normal(y):
    mean = pyro.sample("mean", dist.Normal(0.0, 10.0))
    scale = pyro.sample("scale", dist.HalfNormal(10.0))
    with pyro.plate("row", y.shape[0]):
        pyro.sample("y", dist.Normal(mean, scale), obs=y)


def near_exact(y):
    """Good for hundreds of data: normal mean and log-normal scale."""
    number = len(y)
    sd = y.std()
    pyro.sample("mean", dist.Normal(y.mean(), sd / math.sqrt(number)))
    pyro.sample("scale", dist.LogNormal(sd.log(), 1.0 / math.sqrt(2.0 * number)))


def checked(model, guide, y, **options):
    fit = ppl.fit(model, {"y": torch.as_tensor(y, dtype=torch.float64)}, guide=guide, max_steps=2, seed=1)
    return ppl.check_predictions(fit, **options)


def marks(found):
    return dict(zip(found.table.index, (check.passed for check in found.checks), strict=True))


def test_overdispersed_counts_under_a_poisson_model():
    y = np.random.default_rng(1).negative_binomial(2.0, 0.3, 100)
    found = checked(poisson, exact_rate, y)
    assert list(found.table.index) == [("y", name) for name in ("mean", "sd", "max", "zeros")]
    assert marks(found)["y", "sd"] is False
    assert marks(found)["y", "mean"] is True
    row = found.table.loc[("y", "sd")]
    assert row["observed"] == pytest.approx(y.std(ddof=1))
    assert row["q5"] < row["q50"] < row["q95"] < row["observed"]
    said = str(found)
    assert "larger sd" in said
    assert "FAIL" in said
    assert "larger sd" in found._repr_html_()


def test_outliers_under_a_normal_model():
    y = np.random.default_rng(2).normal(size=200)
    y[17] = 9.0
    found = marks(checked(normal, near_exact, y))
    assert found["y", "max"] is False
    assert found["y", "min"] is not False


@pytest.mark.statistical
@pytest.mark.parametrize("kind", ["poisson", "normal"])
def test_rate_of_false_alarms(kind):
    """Four statistics each fail at most 1 in 100: of 160, more than 6 with a chance of 0.001."""
    failed = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        if kind == "poisson":
            found = checked(poisson, exact_rate, rng.poisson(3.0, 100), num_draws=500)
        else:
            found = checked(normal, near_exact, rng.normal(size=200), num_draws=500)
        failed += len(found.failed)
    assert failed <= 6


def switches(y):
    share = pyro.sample("share", dist.Beta(1.0, 1.0))
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.Bernoulli(share), obs=y)


def exact_share(y):
    pyro.sample("share", dist.Beta(1.0 + y.sum(), 1.0 + len(y) - y.sum()))


def test_binary_data_that_come_in_runs():
    found = marks(checked(switches, exact_share, np.repeat([0.0, 1.0] * 5, 10)))
    assert found == {("y", "mean"): True, ("y", "runs"): False}


def panel(y):
    mean = pyro.sample("mean", dist.Normal(0.0, 10.0))
    with pyro.plate("person", y.shape[1], dim=-1), pyro.plate("day", y.shape[0], dim=-2):
        pyro.sample("y", dist.Normal(mean, math.sqrt(2.0)), obs=y)


def exact_mean(y):
    pyro.sample("mean", dist.Normal(y.mean(), math.sqrt(2.0 / y.numel())))


def test_groups_that_differ_are_found_along_their_plate():
    rng = np.random.default_rng(3)
    y = rng.normal(size=(12, 20)) + rng.normal(size=20)
    found = marks(checked(panel, exact_mean, y))
    assert found["y", "sd of means by person"] is False
    assert found["y", "sd of means by day"] is not False
    assert found["y", "sd"] is True


def test_statistics_by_name_and_of_ones_own():
    y = np.random.default_rng(4).normal(size=50)
    named = checked(normal, near_exact, y, statistics=("median", "autocorrelation"))
    assert list(named.table.index) == [("y", "median"), ("y", "autocorrelation")]
    own = checked(normal, near_exact, y, statistics={"middle": np.median})
    np.testing.assert_array_equal(own.table.to_numpy(), named.table.loc[[("y", "median")]].to_numpy())
    one = checked(normal, near_exact, y, statistics="mean")
    assert len(one.checks) == 1


def masked(y, keep):
    mean = pyro.sample("mean", dist.Normal(0.0, 10.0))
    with pyro.plate("row", len(y)), pyro.poutine.mask(mask=keep):
        pyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def masked_mean(y, keep):
    loc = pyro.param("loc", lambda: torch.tensor(0.0))
    pyro.sample("mean", dist.Normal(loc, pyro.param("sd", lambda: torch.tensor(0.2), constraint=constraints.positive)))


def test_masked_observations_do_not_count():
    y = torch.from_numpy(np.random.default_rng(5).normal(size=30))
    y[3] = 1e6
    fit = ppl.fit(masked, {"y": y, "keep": torch.arange(30) != 3}, guide=masked_mean, max_steps=2, seed=1)
    found = ppl.check_predictions(fit)
    assert found.table.loc[("y", "max"), "observed"] < 10.0
    assert not found.failed


def unobserved():
    pyro.sample("x", dist.Normal(0.0, 1.0))


def test_options_are_refused():
    y = np.random.default_rng(6).normal(size=20)
    for wrong in ({"num_draws": 99}, {"seed": -1}):
        with pytest.raises(OptionError, match=next(iter(wrong))):
            checked(normal, near_exact, y, **wrong)
    with pytest.raises(UnknownNameError, match="median"):
        checked(normal, near_exact, y, statistics=("mediam",))
    with pytest.raises(DataError, match="bad"):
        checked(normal, near_exact, y, statistics={"bad": lambda values: values})
    with pytest.raises(OptionError, match="fit"):
        ppl.check_predictions("a fit")
    with pytest.raises(OptionError, match="observes nothing"):
        ppl.check_predictions(ppl.fit(unobserved, {}, guide="normal", max_steps=2, seed=1))


def test_more_than_memory_holds_is_refused():
    y = np.random.default_rng(8).normal(size=20)
    with pytest.raises(OptionError, match=r"num_draws.*at most 5,000,000"):
        checked(normal, near_exact, y, num_draws=10**7)


def test_same_seed_same_table():
    y = np.random.default_rng(7).normal(size=20)
    first, again = (checked(normal, near_exact, y, seed=3) for _ in range(2))
    assert first.table.equals(again.table)
    assert json.dumps([vars(check) for check in first.checks]) == json.dumps([vars(check) for check in again.checks])
