from dataclasses import replace

import numpy as np
import pytest

from ppl_models.diagnostics import compare_with_pool
from ppl_models.report import gather
from ppl_models.report.samples import reference_sample
from ppl_models.workflow.measuring import Measured
from ppl_models.workflow.probing import pool_of


def test_pool_is_drawn_again_as_it_was(one_of_two_modes):
    fit, verdict = one_of_two_modes
    assert verdict.reference == "pool"
    pool = pool_of(fit, verdict)
    draws = Measured.of(fit, verdict.config["num_draws"], verdict.config["seed"]).draws
    again = compare_with_pool(draws, pool.values, pool.log_weights)
    np.testing.assert_allclose(again.to_numpy(), verdict.table.to_numpy(), rtol=1e-10)


def test_there_is_no_pool_where_another_reference_was_used(one_of_two_modes):
    fit, verdict = one_of_two_modes
    assert pool_of(fit, replace(verdict, reference="psis")) is None


def test_figures_show_the_pool_that_was_used(one_of_two_modes):
    (shown,) = gather([one_of_two_modes], predictions=False)
    assert [sample.kind for sample in shown.samples] == ["guide", "psis", "pool"]
    # a quarter of the probability is at the other root, exp(-20 / 18) of the prior density of the first one
    share = float((shown.reference.column("x") < 0).mean())
    expected = 1.0 / (1.0 + np.exp(20.0 / 18.0))
    pooled_error = 4 * 0.5 / np.sqrt(8_000)  # effective draws of the pool
    resampling_error = 4 * 0.5 / np.sqrt(10_000)
    assert share == pytest.approx(expected, abs=np.hypot(pooled_error, resampling_error))
    assert (shown.samples[0].column("x") > 0).all()


def test_gradients_as_reference_are_drawn_as_a_normal(one_of_two_modes):
    fit, verdict = one_of_two_modes
    (shown,) = gather([(fit, replace(verdict, reference="scores"))], predictions=False)
    assert shown.reference.kind == "scores"
    own, asked = (sample.column("x") for sample in (shown.samples[0], shown.reference))
    # the posterior is all but normal within one mode, where the guide is right
    assert abs(own.mean() - asked.mean()) < 0.2 * own.std()
    assert abs(np.log(own.std() / asked.std())) < np.log(1.2)


def test_own_weights_have_no_further_reference(one_of_two_modes):
    fit, verdict = one_of_two_modes
    own = gather([one_of_two_modes], predictions=False)[0].samples[0]
    assert reference_sample(fit, replace(verdict, reference="psis"), own) is None


def test_baseline_that_was_set_aside_is_shown_before_the_reference(judged):
    (shown,) = gather([judged.alone], judged.baseline, predictions=False)
    assert judged.alone[1].reference in ("pool", "scores", "psis")
    kinds = [sample.kind for sample in shown.samples]
    assert "baseline" in kinds
    assert shown.reference.kind == judged.alone[1].reference
