import dataclasses
import json
import math

import numpy as np
import pytest
from scipy.stats import norm

from ppl_models.diagnostics import (
    Check,
    baseline_gates,
    check_khat,
    check_stationarity,
    check_status,
    compare,
    compare_with_psis,
    decide,
    psis_weights,
)

from .samples import dataset, normal_draws

NUM_DRAWS = 10_000
GOOD_KHAT = Check("k-hat", 0.2, 0.7, True, "", 0.05)
BAD_KHAT = Check("k-hat", 0.9, 0.7, False, "do not importance-weight", 0.05)
UNKNOWN_KHAT = Check("k-hat", math.nan, 0.7, None, "", detail="ties")
GOOD_GATES = (Check("R-hat", 1.0, 1.01, True, ""),)
BAD_GATES = (Check("R-hat", 1.3, 1.01, False, "run longer"),)
UNKNOWN_GATES = (Check("R-hat", math.nan, 1.01, None, ""),)


def fit_and_ratio(rng, tau_sd=1.0, tau_shift=0.0):
    """A fit of four independent standard normals whose tau is N(shift, sd²), and its exact log ratio."""
    tau = tau_shift + tau_sd * rng.normal(size=NUM_DRAWS)
    log_ratio = norm.logpdf(tau) - norm.logpdf(tau, loc=tau_shift, scale=tau_sd)
    return dataset(tau[None], rng.normal(size=(1, NUM_DRAWS, 3))), log_ratio


def table(tau_sd=1.0, tau_shift=0.0, seed=1):
    rng = np.random.default_rng(seed)
    return compare(fit_and_ratio(rng, tau_sd, tau_shift)[0], normal_draws(rng, 4, 1_000))


def verdict_of(**arguments):
    return decide(arguments.pop("khat", GOOD_KHAT), **arguments)


GOOD, BAD = table(), table(tau_sd=0.6)


@pytest.mark.parametrize(
    ("moments", "khat", "with_baseline", "without"),
    [
        (GOOD, GOOD_KHAT, "trust", "trust"),
        (GOOD, BAD_KHAT, "correct", "reject"),
        (GOOD, UNKNOWN_KHAT, "correct", "reject"),
        (BAD, GOOD_KHAT, "correct", "correct"),
        (BAD, BAD_KHAT, "reject", "reject"),
        (BAD, UNKNOWN_KHAT, "reject", "reject"),
    ],
)
def test_rules(moments, khat, with_baseline, without):
    judged = decide(khat, baseline_table=moments, gates=GOOD_GATES)
    assert (judged.verdict, judged.reference) == (with_baseline, "baseline")
    judged = decide(khat, psis_table=moments)
    assert (judged.verdict, judged.reference) == (without, "psis")


@pytest.mark.parametrize("gates", [BAD_GATES, UNKNOWN_GATES, ()])
def test_baseline_that_fails_its_gates_is_set_aside_and_said(gates):
    judged = verdict_of(baseline_table=BAD, gates=gates, psis_table=GOOD)
    assert (judged.verdict, judged.reference) == ("trust", "psis")
    assert "did not pass its own gates" in judged.reasons[0]
    assert judged.table is GOOD


def test_trust_without_a_baseline_says_what_it_cannot_see():
    assert "mode that the guide missed" in " ".join(verdict_of(psis_table=GOOD).reasons)


def test_nothing_compared_is_never_trusted():
    judged = verdict_of()
    assert judged.verdict != "trust"
    assert judged.table.empty
    assert str(judged)
    assert judged._repr_html_()
    json.dumps(judged.to_json(), allow_nan=False)


@pytest.mark.parametrize("status", ["diverged", "non_finite", "failed"])
def test_failed_status_rejects(status):
    judged = verdict_of(baseline_table=GOOD, gates=GOOD_GATES, optimisation=(check_status(status),))
    assert judged.verdict == "reject"
    assert status in " ".join(judged.reasons)


@pytest.mark.parametrize("losses", [np.linspace(100.0, 0.0, 1_000), np.full(1_000, np.nan)])
def test_optimisation_that_had_not_arrived_rejects(losses):
    judged = verdict_of(baseline_table=GOOD, gates=GOOD_GATES, optimisation=(check_stationarity(losses),))
    assert judged.verdict == "reject"


def test_optimisation_that_cannot_be_judged_prevents_trust():
    short = check_stationarity(np.ones(10))
    assert verdict_of(baseline_table=GOOD, gates=GOOD_GATES, optimisation=(short,)).verdict == "correct"


def test_point_estimate_rejects():
    judged = verdict_of(baseline_table=GOOD, gates=GOOD_GATES, point_estimate=True)
    assert judged.verdict == "reject"
    assert "point estimate" in judged.reasons[-1]


def test_unresolved_moments_prevent_trust():
    rng = np.random.default_rng(2)
    few = compare(normal_draws(rng, 1, 120), normal_draws(rng, 1, 120))
    for judged in (verdict_of(baseline_table=few, gates=GOOD_GATES), verdict_of(psis_table=few)):
        assert judged.verdict == "correct"
        assert "draw more" in " ".join(judged.reasons)


def test_collapsed_latent_is_named_without_a_baseline():
    rng = np.random.default_rng(3)
    draws = dataset(np.ones((1, 1_000)), rng.normal(size=(1, 1_000, 3)))
    judged = verdict_of(psis_table=compare_with_psis(draws, 0.01 * rng.normal(size=1_000)))
    assert "`tau` did not vary" in " ".join(judged.reasons)


def test_missed_mode_is_rejected_when_weighting_does_not_repair_it():
    """k-hat is fine and the fit agrees with its own weighted draws: only the baseline shows the second mode."""
    rng = np.random.default_rng(4)
    modes = np.where(rng.random((4, 1_000)) < 0.5, -6.0, 6.0) + rng.normal(size=(4, 1_000))
    baseline = dataset(modes, rng.normal(size=(4, 1_000, 3)))
    tau = 6 + rng.normal(size=NUM_DRAWS)
    log_ratio = np.logaddexp(norm.logpdf(tau, -6), norm.logpdf(tau, 6)) - norm.logpdf(tau, 6)
    fit = dataset(tau[None], rng.normal(size=(1, NUM_DRAWS, 3)))
    gates = baseline_gates(baseline)
    khat = check_khat(log_ratio + 1e-3 * rng.normal(size=NUM_DRAWS))
    weights, _ = psis_weights(log_ratio)
    tables = {
        "baseline_table": compare(fit, baseline),
        "psis_table": compare_with_psis(fit, log_ratio),
        "corrected_table": compare(fit, baseline, log_weights=weights),
    }
    assert khat.passed is True
    judged = decide(khat, gates=gates, **tables)
    assert judged.verdict == "reject"
    assert "misses a mode" in judged.reasons[-1]
    assert decide(khat, psis_table=tables["psis_table"]).verdict == "trust"


def test_repairable_fit_is_corrected():
    """sd 20 % too small or more is beyond the limit, k = 1 - 0.75² = 0.44 within it."""
    rng = np.random.default_rng(5)
    fit, log_ratio = fit_and_ratio(rng, tau_sd=0.75)
    baseline = normal_draws(rng, 4, 1_000)
    judged = decide(
        check_khat(log_ratio),
        baseline_table=compare(fit, baseline),
        gates=baseline_gates(baseline),
        corrected_table=compare(fit, baseline, log_weights=psis_weights(log_ratio)[0]),
    )
    assert judged.verdict == "correct"
    assert "The means are right; the sd of `tau` is 2" in judged.reasons[0]
    assert "full_rank" in judged.reasons[0]
    assert "PSIS" in judged.reasons[-1]


@pytest.mark.statistical
def test_rate_of_false_alarms():
    """Exact fits against exact baselines, all checks together: every one of 20 is trusted, both ways."""
    rng = np.random.default_rng(6)
    for _ in range(20):
        fit, log_ratio = fit_and_ratio(rng, tau_sd=1.02)
        khat, baseline = check_khat(log_ratio, num_bootstrap=2), normal_draws(rng, 4, 1_000)
        gates = baseline_gates(baseline, np.zeros((4, 1_000), dtype=bool))
        assert decide(khat, baseline_table=compare(fit, baseline), gates=gates).verdict == "trust"
        assert decide(khat, psis_table=compare_with_psis(fit, log_ratio)).verdict == "trust"


def test_prints_and_serialises():
    judged = decide(GOOD_KHAT, baseline_table=BAD, gates=GOOD_GATES, config={"guide": "normal", "when": np.float64(1)})
    text = str(judged)
    assert text.startswith("verdict: correct (against the baseline)")
    assert "tau" in text
    assert text.isprintable() is False  # several lines
    record = json.loads(json.dumps(judged.to_json(), allow_nan=False))
    assert record["verdict"] == "correct"
    assert record["khat"] == 0.2
    assert record["table"][0]["parameter"] == "tau"
    assert record["config"]["guide"] == "normal"
    assert record["config"]["limits"]["mean_error_sd"] == 0.2
    assert "numpy" in record["config"]["versions"]
    assert [check["passed"] for check in record["checks"]] == [check.passed for check in judged.checks]
    assert judged.worst().index[0] == "tau"


def test_html_is_escaped():
    rng = np.random.default_rng(7)
    draws = normal_draws(rng, 1, 500).assign_coords(school=["<script>", "a & b", "c"])
    page = verdict_of(psis_table=compare(2 * draws, draws))._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        verdict_of(psis_table=GOOD).verdict = "trust"
