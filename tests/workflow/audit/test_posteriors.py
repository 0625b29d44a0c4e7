"""The audit of q(z | x) against closed forms, with faults planted in the encoder."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import ppl_models as ppl
from ppl_models.errors import ModelError, OptionError, UnknownNameError
from ppl_models.workflow.audit.posteriors import audit_posteriors
from tests.inference.by_datum.linear_gaussian import Exact, fit
from tests.inference.by_datum.test_nuts import folded
from tests.workflow.audit.audited import FAULTY, LIMIT, SHIFT, SMALL, SOUND, WIDTH, X, audited


def within(found, wanted, where=slice(None)):
    return bool((np.abs(found.value - wanted) <= LIMIT * found.error + 1e-6)[where].all())


def test_the_exact_posterior_has_no_gaps():
    audit, truth = audited(), Exact(X).log_evidence
    for gap in (audit.amortisation_gap, audit.approximation_gap, audit.inference_gap):
        assert np.abs(gap.value[SOUND]).max() < 1e-5
    for bound in (audit.elbo, audit.best_elbo, audit.log_evidence, *audit.bounds.values()):
        assert np.allclose(bound.value[SOUND], truth[SOUND], atol=1e-5)
    moments = audit.moments
    assert (np.abs(moments.mean_error_sd) < LIMIT * moments.mean_error_sd_error)[SOUND].all()
    assert (np.abs(moments.log_sd_ratio) < LIMIT * moments.log_sd_ratio_error)[SOUND].all()


def test_the_bracket_holds_the_evidence_whatever_the_encoder():
    audit, truth = audited(), Exact(X).log_evidence
    assert within(audit.lower, truth)
    assert within(audit.upper, truth)
    assert np.allclose(audit.log_evidence.value, truth, atol=1e-6)
    assert np.allclose(audit.best_elbo.value, truth, atol=1e-5)
    order = next(check for check in audit.checks if check.name == "bounds out of order")
    assert order.passed


def test_half_the_sd_and_a_shift_show_the_exact_amortisation_gap():
    audit, exact = audited(), Exact(X)
    wanted = exact.divergence(exact.mean + SHIFT, WIDTH**2 * exact.covariance)
    assert wanted.min() > 0.5
    assert within(audit.amortisation_gap, wanted, FAULTY)
    assert within(audit.inference_gap, wanted, FAULTY)
    assert np.allclose(audit.grid.divergence[FAULTY], wanted[FAULTY], rtol=1e-5)
    moments = audit.moments
    assert (moments.log_sd_ratio + LIMIT * moments.log_sd_ratio_error < 0.0)[FAULTY].all()
    assert (moments.mean_error_sd - LIMIT * moments.mean_error_sd_error > 0.0)[FAULTY].all()


def test_bounds_rise_with_the_number_of_weights_and_stay_below():
    audit, truth = audited(), Exact(X).log_evidence
    means = [audit.bounds[size].value[FAULTY].mean() for size in (1, 5, 50)]
    assert means == sorted(means)
    assert means[0] < truth[FAULTY].mean() - 0.5
    assert (audit.bounds[50].value - truth < LIMIT * audit.bounds[50].error + 1e-6).all()


def test_it_prints_and_says_what_the_guide_is():
    audit = audited()
    assert audit.guide_family == audit.best_family == "full_rank"
    assert "log p(x)" in repr(audit)
    assert "<table>" in audit._repr_html_()
    assert audit.draws.shape == (4, 120, 6, 2)


def test_a_diagonal_family_shows_the_exact_approximation_gap_and_a_seed_repeats_it():
    made, exact = fit(X, family="diagonal"), Exact(X)
    few = {**SMALL, "num_warmup": 20, "num_draws": 40}
    audit, again = (audit_posteriors(made, {"x": X[:3]}, seed=4, **few) for _ in range(2))
    assert exact.best_diagonal_gap > 0.02
    assert audit.num_rows == 3
    assert audit.best_family == "diagonal"
    assert within(audit.approximation_gap, exact.best_diagonal_gap)
    assert within(audit.inference_gap, exact.best_diagonal_gap)
    assert np.abs(audit.amortisation_gap.value).max() < 1e-5
    assert np.array_equal(audit.draws, again.draws)
    assert np.array_equal(audit.log_evidence.value, again.log_evidence.value)


def folded_guide(x):
    loc = pyro.param("loc", torch.tensor(0.0, dtype=torch.float64))
    with pyro.plate("datum", len(x)):
        pyro.sample("z", dist.Normal(0.85 * x + loc, 0.37))


def test_a_second_mode_is_a_gap_of_log_two():
    x = torch.full((4,), 2.0, dtype=torch.float64)
    made = ppl.fit(folded, {"x": x}, guide=folded_guide, max_steps=1, step_size=1e-12, backend="eager", seed=0)
    audit = audit_posteriors(made, seed=2, **{**SMALL, "num_chains": 8})
    assert np.allclose(audit.grid.mean, 0.0, atol=1e-3)
    assert (np.abs(audit.approximation_gap.value - np.log(2.0)) < 0.02 + LIMIT * audit.approximation_gap.error).all()
    assert (np.log(audit.grid.sd) - np.log(audit.moments.guide_sd)).min() > 1.0


def test_users_mistakes():
    made = fit(X)
    with pytest.raises(OptionError, match="num_importance"):
        audit_posteriors(made, num_importance=(5, 50))
    with pytest.raises(UnknownNameError, match="family"):
        audit_posteriors(made, family="flow")
    with pytest.raises(OptionError, match="num_chains"):
        audit_posteriors(made, num_chains=1)

    def no_plate(x):
        z = pyro.sample("z", dist.Normal(torch.tensor(0.0, dtype=x.dtype), 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    alone = ppl.fit(no_plate, {"x": torch.tensor(0.0)}, guide="normal", max_steps=1, backend="eager", seed=0)
    with pytest.raises(ModelError, match="plate"):
        audit_posteriors(alone)


def test_a_row_that_is_impossible_leaves_the_others_alone():
    def model(x):
        with pyro.plate("datum", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x), dtype=x.dtype), 1.0))
            pyro.sample("x", dist.Uniform(torch.tanh(z) - 2.0, torch.tanh(z) + 2.0, validate_args=False), obs=x)

    def guide(x):
        width = pyro.param("width", torch.tensor(1.0, dtype=torch.float64))
        with pyro.plate("datum", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros_like(x), width))

    x = torch.tensor([0.1, 50.0], dtype=torch.float64)
    made = ppl.fit(model, {"x": x[:1]}, guide=guide, max_steps=1, step_size=1e-12, backend="eager", seed=0)
    found = audit_posteriors(made, {"x": x}, seed=1, **{**SMALL, "num_draws": 40})
    assert np.isfinite(found.log_evidence.value[0])
    assert not np.isfinite(found.log_evidence.value[1])
    assert not found.reliable[1]
