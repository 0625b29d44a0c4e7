"""`ppl.check` on fits that are right, and on fits with planted faults: every fault must be seen."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from closed_forms import COVARIANCE, DATA, MEAN, SD, regression

import ppl_models as ppl
from ppl_models.errors import BaselineWarning, DataError, OptionError
from ppl_models.workflow import probing
from ppl_models.workflow.measuring import log_ratio_of


def posterior_but(shift=0.0, scale=1.0):
    """A guide without parameters: the exact posterior, moved by `shift` sd and scaled by `scale`."""

    def misplaced(x, y=None):
        exact = dist.MultivariateNormal(MEAN + shift * SD, scale**2 * COVARIANCE)
        pyro.sample("weights", exact)

    return misplaced


def fit_of(guide, max_steps=50, **options):
    return ppl.fit(regression, DATA, guide=guide, max_steps=max_steps, seed=1, **options)


@pytest.fixture(scope="module")
def baseline():
    return ppl.sample(regression, DATA, chains=4, warmup=300, draws=1_000, seed=1)


@pytest.mark.statistical
@pytest.mark.parametrize("guide", ["full_rank", posterior_but()], ids=["full_rank", "exact"])
def test_good_fit_is_trusted_with_and_without_a_baseline(guide, baseline):
    method = "batch_and_match" if guide == "full_rank" else "svi"
    fit = ppl.fit(regression, DATA, guide=guide, method=method, max_steps=200, seed=1)
    judged = ppl.check(fit, baseline=baseline, seed=2)
    assert (judged.verdict, judged.reference) == ("trust", "baseline")
    assert list(judged.table.index) == ["weights[0]", "weights[1]"]
    alone = ppl.check(fit, seed=2)
    assert (alone.verdict, alone.reference) == ("trust", "pool")


@pytest.mark.statistical
@pytest.mark.parametrize(
    "fault", [{"scale": 0.5}, {"scale": 2.0}, {"shift": 1.0}, {"shift": -0.5}, {"shift": 1.0, "scale": 0.5}], ids=str
)
def test_planted_fault_is_seen_with_and_without_a_baseline(fault, baseline):
    fit = fit_of(posterior_but(**fault))
    judged, alone = ppl.check(fit, baseline=baseline, seed=2), ppl.check(fit, seed=2)
    assert "trust" not in (judged.verdict, alone.verdict)
    table = judged.table
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
    fit = fit_of(guide, max_steps=20, precondition=False)
    assert ppl.check(fit, baseline=baseline).verdict in ("correct", "reject")
    assert ppl.check(fit).verdict in ("correct", "reject")


def test_diverged_fit_is_rejected(baseline):
    fit = fit_of(posterior_but())
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
    assert judged.reference == "pool"
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
def test_khat_of_eight_schools_is_far_beyond_its_limit_centred_and_at_it_non_centred():
    found = {}
    for name, options in (
        ("eight_schools_centered", {"guide": "normal", "method": "dadvi"}),
        ("eight_schools_noncentered", {"guide": "full_rank", "method": "batch_and_match"}),
    ):
        problem = ppl.load(name)
        fit = ppl.fit(problem.model, problem.data, seed=1, **options)
        found[name] = next(check for check in ppl.check(fit, seed=2).checks if check.name == "k-hat")
    centred, non_centred = found["eight_schools_centered"], found["eight_schools_noncentered"]
    assert centred.passed is False
    assert centred.value - 2 * centred.mcse > centred.limit
    # The best normal of the non-centred form has its k-hat just at the limit: on which side is chance.
    assert non_centred.value - 3 * non_centred.mcse < non_centred.limit


def two_normals():
    """a and b, independent standard normals, no data."""
    pyro.sample("a", dist.Normal(0.0, 1.0))
    pyro.sample("b", dist.Normal(0.0, 1.0))


def half_a_point():
    pyro.sample("a", dist.Normal(0.0, 1.0))
    pyro.sample("b", dist.Delta(torch.tensor(0.1, dtype=torch.float64)))


def factor_model():
    # of 2 x 2: torch 2.13 draws larger factors from another distribution than its own density's, as the checks tell
    pyro.sample("factor", dist.LKJCholesky(2, 2.0))
    pyro.sample("level", dist.Normal(0.0, 1.0))


def correlated_normals():
    pyro.sample("x", dist.MultivariateNormal(torch.zeros(2), torch.tensor([[1.0, 0.9], [0.9, 1.0]])))


def independent_normals():
    pyro.sample("x", dist.Normal(torch.zeros(2), 1.0).to_event(1))


@pytest.mark.statistical
def test_dropped_correlation_is_not_trusted_though_khat_and_marginals_are_right():
    fit = ppl.fit(correlated_normals, {}, guide=independent_normals, max_steps=200, seed=1)
    truth = ppl.fit(correlated_normals, {}, guide=correlated_normals, max_steps=200, seed=1).sample(4_000, seed=9)
    baseline = truth.copy()
    baseline.attrs = {}
    for judged in (ppl.check(fit), ppl.check(fit, baseline=baseline)):
        checks = {check.name: check for check in judged.checks}
        assert checks["k-hat"].passed is True
        assert checks["sd"].passed is not False
        assert checks["joint"].passed is False
        assert judged.verdict != "trust"
        assert "their combination is" in checks["joint"].detail
        assert checks["joint"].detail.split(" against")[0] in " ".join(judged.reasons)


def test_latent_collapsed_to_a_point_is_rejected():
    judged = ppl.check(ppl.fit(two_normals, {}, guide=half_a_point, max_steps=200, seed=1))
    assert judged.verdict == "reject"
    assert "no spread in `b`: a point carries no uncertainty" in " ".join(judged.reasons)


def test_elements_that_the_support_fixes_are_no_collapse():
    """A Cholesky factor has zeros above its diagonal, and a one in its corner."""
    judged = ppl.check(ppl.fit(factor_model, {}, guide=factor_model, max_steps=200, seed=1))
    checks = {check.name: check for check in judged.checks}
    assert checks["spread"].passed is True
    assert judged.verdict == "trust"


def with_draws(monkeypatch, fit, change):
    """Let the fit's draws be changed before they are judged."""
    sample = type(fit).sample

    def changed(self, *arguments, **options):
        tree = sample(self, *arguments, **options)
        posterior = tree["posterior"].to_dataset().copy(deep=True)
        change(posterior)
        tree["posterior"] = posterior
        return tree

    monkeypatch.setattr(type(fit), "sample", changed)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_draws_that_are_no_numbers_are_rejected_and_do_not_raise(bad, baseline, monkeypatch):
    fit = fit_of(posterior_but(), max_steps=2)

    def spoil(posterior):
        posterior["weights"][0, :100, 1] = bad

    with_draws(monkeypatch, fit, spoil)
    for judged in (ppl.check(fit), ppl.check(fit, baseline=baseline)):
        assert judged.verdict == "reject"
        assert "1 % of the draws of `weights[1]` are NaN or infinite" in " ".join(judged.reasons)
        assert judged.table["mean_error_sd"].isna().all()
        assert str(judged)


def test_own_draws_are_no_baseline():
    fit = fit_of(posterior_but(), max_steps=2)
    with pytest.raises(DataError, match="own draws"):
        ppl.check(fit, baseline=fit.sample(2_000, seed=3))


def test_baseline_of_other_data_is_refused(baseline):
    other = ppl.fit(regression, {**DATA, "y": DATA["y"] + 1.0}, guide=posterior_but(), max_steps=2, seed=1)
    with pytest.raises(DataError, match="observed data 'y'"):
        ppl.check(other, baseline=baseline)


def test_single_chain_is_said(baseline):
    one = ppl.sample(regression, DATA, chains=1, warmup=300, draws=2_000, seed=1)
    judged = ppl.check(fit_of(posterior_but(), max_steps=200), baseline=one)
    assert "single chain" in " ".join(judged.reasons)


def test_failed_laplace_is_rejected_with_its_note(baseline):
    fit = fit_of("delta")
    broken = type(fit)(**{**vars_of(fit), "guide_name": "laplace", "status": "diverged", "note": "no proper mode"})
    said = " ".join(ppl.check(broken, baseline=baseline).reasons)
    assert "no proper mode" in said
    assert "Use laplace" not in said


def test_weights_that_cannot_be_used_blame_nobody(monkeypatch):
    """Without a pool, nothing but k-hat can be said of a guide that is far too narrow."""
    monkeypatch.setattr(probing, "MOST_LATENTS", 1)
    judged = ppl.check(fit_of(posterior_but(scale=0.3)))
    assert judged.verdict == "reject"
    assert judged.table.isna().all(axis=None)
    assert not any("mean of `weights" in reason for reason in judged.reasons)


def test_guide_that_is_far_too_narrow_is_named_by_the_pool_and_by_the_scores(monkeypatch):
    judged = ppl.check(fit_of(posterior_but(scale=0.3)))
    assert (judged.verdict, judged.reference) == ("reject", "pool")
    assert "the sd of `weights[" in " ".join(judged.reasons)
    # the target is normal: scores are exact but for the draws' own sds, each with an error of 1 / sqrt(2 draws)
    ratio = judged.tables["scores"]["log_sd_ratio"]
    assert (np.abs(ratio - np.log(0.3)) < 4 / np.sqrt(2 * 2_000)).all()
