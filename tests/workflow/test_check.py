"""`ppl.check` on fits that are right, and on fits with planted faults: every fault must be seen."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
from closed_forms import COVARIANCE, DATA, MEAN, SD, regression

import ppl_models as ppl
from ppl_models.errors import BaselineWarning, DataError, OptionError
from ppl_models.workflow.judging import log_ratio_of


def posterior_but(shift=0.0, scale=1.0):
    """A guide without parameters: the exact posterior, moved by `shift` sd and scaled by `scale`."""

    def misplaced(x, y=None):
        exact = dist.MultivariateNormal(MEAN + shift * SD, scale**2 * COVARIANCE)
        pyro.sample("weights", exact)

    return misplaced


def fit_of(guide, max_steps=400, **options):
    return ppl.fit(regression, DATA, guide=guide, max_steps=max_steps, seed=1, **options)


@pytest.fixture(scope="module")
def baseline():
    return ppl.sample(regression, DATA, chains=4, warmup=300, draws=1_000, seed=1)


@pytest.mark.statistical
@pytest.mark.parametrize("guide", ["full_rank", posterior_but()], ids=["full_rank", "exact"])
def test_good_fit_is_trusted_with_and_without_a_baseline(guide, baseline):
    fit = fit_of(guide, max_steps=5_000)
    judged = ppl.check(fit, baseline=baseline, seed=2)
    assert (judged.verdict, judged.reference) == ("trust", "baseline")
    assert list(judged.table.index) == ["weights[0]", "weights[1]"]
    alone = ppl.check(fit, seed=2)
    assert (alone.verdict, alone.reference) == ("trust", "psis")


@pytest.mark.statistical
@pytest.mark.parametrize(
    "fault", [{"scale": 0.5}, {"scale": 2.0}, {"shift": 1.0}, {"shift": -0.5}, {"shift": 1.0, "scale": 0.5}], ids=str
)
def test_planted_fault_is_seen_with_and_without_a_baseline(fault, baseline):
    fit = fit_of(posterior_but(**fault))
    for judged in (ppl.check(fit, baseline=baseline, seed=2), ppl.check(fit, seed=2)):
        assert judged.verdict != "trust"
    table = ppl.check(fit, baseline=baseline, seed=2).table
    if "shift" in fault:
        assert (np.sign(table["mean_error_sd"]) == np.sign(fault["shift"])).all()
    if "scale" in fault:
        # log ratio of sds: error of each below 1 / sqrt(2 ESS), of at least 400 effective draws
        assert (np.abs(table["log_sd_ratio"] - np.log(fault["scale"])) < 5 * np.sqrt(1 / 800 + 1 / 20_000)).all()


def test_point_estimate_is_rejected(baseline):
    judged = ppl.check(fit_of("delta"), baseline=baseline)
    assert judged.verdict == "reject"
    assert "point estimate" in " ".join(judged.reasons)


@pytest.mark.parametrize("guide", ["normal", "full_rank"])
def test_fit_that_was_cut_short_is_not_trusted(guide, baseline):
    fit = fit_of(guide, max_steps=20)
    assert ppl.check(fit, baseline=baseline).verdict in ("correct", "reject")
    assert ppl.check(fit).verdict in ("correct", "reject")


def test_diverged_fit_is_rejected(baseline):
    fit = fit_of("full_rank", max_steps=300)
    broken = type(fit)(**{**vars_of(fit), "status": "diverged"})
    judged = ppl.check(broken, baseline=baseline)
    assert judged.verdict == "reject"
    assert "diverged" in " ".join(judged.reasons)


def vars_of(fit):
    return {name: getattr(fit, name) for name in fit.__dataclass_fields__}


def test_baseline_that_fails_its_gates_is_set_aside():
    with pytest.warns(BaselineWarning):
        short = ppl.sample(regression, DATA, chains=2, warmup=20, draws=20, seed=1, backend="eager")
    fit = fit_of(posterior_but())
    with pytest.warns(BaselineWarning, match=r"set aside.*") as caught:
        judged = ppl.check(fit, baseline=short)
    assert judged.reference == "psis"
    assert "bulk ESS" in str(caught[0].message)


def test_baseline_of_another_model_is_refused(baseline):
    fit = fit_of(posterior_but(), max_steps=2)
    renamed = baseline.copy()
    renamed["posterior"] = baseline["posterior"].to_dataset().rename({"weights": "slopes"})
    for wrong, words in (
        (renamed, ["'weights'", "slopes"]),
        (baseline["posterior"].to_dataset(), ["Dataset", "'posterior'"]),
        (None if baseline is None else baseline["sample_stats"], ["'posterior'"]),
    ):
        with pytest.raises(DataError) as caught:
            ppl.check(fit, baseline=wrong)
        assert all(word in str(caught.value) for word in words), caught.value
    shorter = baseline.copy()
    shorter["posterior"] = baseline["posterior"].to_dataset().isel(weights_dim_0=[0])
    with pytest.raises(DataError, match="weights"):
        ppl.check(fit, baseline=shorter)


def test_options_are_refused():
    fit = fit_of(posterior_but(), max_steps=2)
    for options, name in (({"num_draws": 9_999}, "num_draws"), ({"seed": -1}, "seed")):
        with pytest.raises(OptionError, match=name):
            ppl.check(fit, **options)
    with pytest.raises(OptionError, match="fit"):
        ppl.check("a fit")


def test_same_seed_same_verdict():
    fit = fit_of(posterior_but(scale=0.9))
    first, again = (ppl.check(fit, seed=4).to_json() for _ in range(2))
    assert first == again
    assert first["config"]["guide"] == "misplaced"
    assert first["config"]["fit"]["seed"] == 1


def test_log_ratio_of_an_exact_fit_is_constant():
    ratio = log_ratio_of(fit_of(posterior_but(), max_steps=2).sample(100, seed=0))
    assert ratio.shape == (100,)
    assert np.ptp(ratio) < 1e-10


@pytest.mark.slow
@pytest.mark.statistical
def test_eight_schools_centred_normal_is_rejected_and_non_centred_full_rank_is_not():
    verdicts = {}
    for name, guide in (("eight_schools_centered", "normal"), ("eight_schools_noncentered", "full_rank")):
        problem = ppl.load(name)
        fit = ppl.fit(problem.model, problem.data, guide=guide, seed=1)
        verdicts[name] = ppl.check(fit, seed=2).verdict
    assert verdicts["eight_schools_centered"] == "reject"
    assert verdicts["eight_schools_noncentered"] != "reject"
