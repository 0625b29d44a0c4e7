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
NEAR_KHAT = Check("k-hat", 0.66, 0.7, None, "raise num_draws", 0.1, "too near its limit to tell")
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


AGREE = Check("other starts", 0.0, 0.1, True, "")


def verdict_of(**arguments):
    return decide(arguments.pop("khat", GOOD_KHAT), **{"elsewhere": (AGREE,), **arguments})


GOOD, BAD = table(), table(tau_sd=0.6)
GOOD_JOINT = Check("joint", 0.1, 0.4, True, "")
BAD_JOINT = Check("joint", 1.1, 0.4, False, "use full_rank", 0.02, "`a` and `b`: too wide")


@pytest.mark.parametrize(
    ("moments", "khat", "with_baseline", "without"),
    [
        (GOOD, GOOD_KHAT, "trust", "trust"),
        (GOOD, BAD_KHAT, "correct", "reject"),
        (GOOD, NEAR_KHAT, "trust", "correct"),
        (BAD, NEAR_KHAT, "reject", "correct"),
        (GOOD, UNKNOWN_KHAT, "correct", "reject"),
        (BAD, GOOD_KHAT, "correct", "correct"),
        (BAD, BAD_KHAT, "reject", "reject"),
        (BAD, UNKNOWN_KHAT, "reject", "reject"),
    ],
)
def test_rules(moments, khat, with_baseline, without):
    judged = decide(khat, baseline_table=moments, gates=GOOD_GATES)
    assert (judged.verdict, judged.reference) == (with_baseline, "baseline")
    judged = decide(khat, psis_table=moments, elsewhere=(AGREE,))
    assert (judged.verdict, judged.reference) == (without, "psis")


@pytest.mark.parametrize("gates", [BAD_GATES, UNKNOWN_GATES, ()])
def test_baseline_that_fails_its_gates_is_set_aside_and_said(gates):
    judged = verdict_of(baseline_table=BAD, gates=gates, psis_table=GOOD, joint=GOOD_JOINT)
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
    improving = check_stationarity(losses)
    for found in ({"baseline_table": BAD, "gates": GOOD_GATES}, {"pool_table": BAD}, {"psis_table": GOOD}):
        assert verdict_of(**found, optimisation=(improving,)).verdict == "reject"
    for found in ({"baseline_table": GOOD, "gates": GOOD_GATES}, {"pool_table": GOOD}):
        judged = verdict_of(**found, optimisation=(improving,))
        assert judged.verdict == "correct", "the draws are right, but nobody knows for how long"
        assert "agrees with the draws all the same" in " ".join(judged.reasons)
        assert verdict_of(**found, optimisation=(improving, check_status("diverged"))).verdict == "reject"


def test_optimisation_that_cannot_be_judged_needs_a_baseline():
    short = check_stationarity(np.ones(10))
    assert verdict_of(baseline_table=GOOD, gates=GOOD_GATES, optimisation=(short,)).verdict == "trust"
    for judged in (
        verdict_of(psis_table=GOOD, optimisation=(short,)),
        verdict_of(baseline_table=BAD, gates=GOOD_GATES, optimisation=(short,)),
        verdict_of(khat=BAD_KHAT, psis_table=GOOD, optimisation=(short,)),
    ):
        assert judged.verdict != "trust"
        assert "could not be judged" in judged.reasons[-1]


def test_wrong_dependence_is_no_trust_though_every_marginal_is_right():
    for references in ({"baseline_table": GOOD, "gates": GOOD_GATES}, {"psis_table": GOOD}):
        judged = verdict_of(**references, joint=BAD_JOINT)
        assert judged.verdict == "correct"
        assert "`a` and `b`: too wide" in " ".join(judged.reasons)


@pytest.mark.parametrize("khat", [BAD_KHAT, UNKNOWN_KHAT, NEAR_KHAT], ids=["bad", "unknown", "near"])
def test_unreliable_weights_give_no_figures_and_blame_nobody(khat):
    judged = verdict_of(khat=khat, psis_table=BAD, joint=BAD_JOINT)
    assert judged.reasons[0].startswith("k-hat")
    assert not any("tau" in reason or "`a`" in reason for reason in judged.reasons)
    assert list(judged.table.columns) == list(BAD.columns)
    assert list(judged.table.index) == list(BAD.index)
    assert judged.table.isna().all(axis=None)
    assert "tau" not in str(judged)
    assert "tau" not in judged._repr_html_()
    moments = {check.name: check for check in judged.checks if check.name in ("mean", "sd", "joint")}
    assert len(moments) == 3
    assert all(check.passed is None and math.isnan(check.value) for check in moments.values())
    assert all("weights are" in check.detail for check in moments.values())
    json.dumps(judged.to_json(), allow_nan=False)


def test_khat_beyond_its_limit_is_said_in_plain_words():
    judged = verdict_of(khat=BAD_KHAT, psis_table=BAD)
    assert "misses a part of the posterior that matters" in judged.reasons[0]
    assert "which parameter cannot be said without a baseline" in judged.reasons[0]


def test_unknown_khat_is_worded_apart_from_a_bad_one():
    unknown, bad, near = (
        verdict_of(khat=khat, baseline_table=GOOD, gates=GOOD_GATES).reasons[-1]
        for khat in (UNKNOWN_KHAT, BAD_KHAT, NEAR_KHAT)
    )
    assert len({unknown, bad, near}) == 3
    assert "do not, so" in bad
    assert "nothing is known" in unknown
    assert "too near" in near


@pytest.mark.parametrize(
    ("corrected", "joint", "verdict", "promise"),
    [
        (GOOD, GOOD_JOINT, "correct", True),
        (GOOD, BAD_JOINT, "reject", False),
        (BAD, GOOD_JOINT, "reject", False),
        (None, None, "correct", False),
    ],
)
def test_psis_is_promised_only_where_it_was_seen_to_work(corrected, joint, verdict, promise):
    judged = verdict_of(
        baseline_table=BAD, gates=GOOD_GATES, joint=GOOD_JOINT, corrected_table=corrected, corrected_joint=joint
    )
    assert judged.verdict == verdict
    assert ("Correct the draws by PSIS (ppl.correct)" in judged.reasons[-1]) is promise


def test_unresolved_correction_is_not_promised():
    rng = np.random.default_rng(8)
    unresolved = compare(normal_draws(rng, 1, 120), normal_draws(rng, 1, 120))
    judged = verdict_of(baseline_table=BAD, gates=GOOD_GATES, corrected_table=unresolved)
    assert judged.verdict == "correct"
    assert "not resolved" in judged.reasons[-1]


@pytest.mark.parametrize("name", ["finite draws", "spread"])
def test_unsound_draws_reject_whatever_else_is_right(name):
    unsound = Check(name, 1.0, 0.0, False, "do something", detail="found in `b`")
    judged = verdict_of(baseline_table=GOOD, gates=GOOD_GATES, soundness=(unsound,))
    assert judged.verdict == "reject"
    assert "ound in `b`" in judged.reasons[-1]


def test_note_of_a_failed_laplace_is_shown_and_laplace_not_advised():
    judged = verdict_of(khat=UNKNOWN_KHAT, point_estimate=True, note="negative curvature", config={"guide": "laplace"})
    assert "negative curvature" in judged.reasons[-1]
    assert "point estimate" in judged.reasons[-1]
    assert "Use laplace" not in judged.reasons[-1]
    assert "Use laplace" in verdict_of(khat=UNKNOWN_KHAT, point_estimate=True).reasons[-1]


def test_single_chain_is_said():
    rng = np.random.default_rng(9)
    gates = baseline_gates(normal_draws(rng, 1, 4_000))
    assert "single chain" in verdict_of(baseline_table=GOOD, gates=gates).reasons[0]


def test_infinite_errors_are_grammatical():
    rng = np.random.default_rng(10)
    moving, still = normal_draws(rng, 1, 1_000), dataset(np.ones((1, 1_000)), rng.normal(size=(1, 1_000, 3)))
    other = dataset(np.full((1, 1_000), 2.0), still["theta"].to_numpy())
    for fit, truth, words in (
        (still, moving, "sd of `tau` is zero: the fit does not vary"),
        (other, still, "mean of `tau` is another constant than the reference's"),
    ):
        assert words in " ".join(verdict_of(baseline_table=compare(fit, truth), gates=GOOD_GATES).reasons)


def test_point_estimate_rejects():
    judged = verdict_of(baseline_table=GOOD, gates=GOOD_GATES, point_estimate=True)
    assert judged.verdict == "reject"
    assert "point estimate" in judged.reasons[-1]


def test_unresolved_moments_prevent_trust():
    rng = np.random.default_rng(2)
    few = compare(normal_draws(rng, 1, 120), normal_draws(rng, 1, 120))
    against, alone = verdict_of(baseline_table=few, gates=GOOD_GATES), verdict_of(psis_table=few)
    assert against.verdict == alone.verdict == "correct"
    assert "sample it longer (draws=)" in against.reasons[-1]
    assert "raise num_draws" in alone.reasons[-1]


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
    assert decide(khat, psis_table=tables["psis_table"], elsewhere=(AGREE,)).verdict == "trust"


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
        assert decide(khat, psis_table=compare_with_psis(fit, log_ratio), elsewhere=(AGREE,)).verdict == "trust"


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


RIGHT_SCORES = (Check("score mean", 0.01, 0.2, True, ""), Check("score sd", 0.01, 0.18, True, ""))
WRONG_SCORES = (RIGHT_SCORES[0], Check("score sd", 0.7, 0.18, False, "use full_rank", 0.01, "worst: log(tau)"))
UNKNOWN_SCORES = tuple(Check(check.name, math.nan, check.limit, None, "") for check in RIGHT_SCORES)
ELSEWHERE = Check("other starts", 1.3, 0.1, False, "a guide with several modes", detail="'tau' moves by 1.3 sd")


@pytest.mark.parametrize(
    ("moments", "khat", "expected"),
    [
        (GOOD, GOOD_KHAT, "trust"),
        (GOOD, NEAR_KHAT, "trust"),
        (GOOD, BAD_KHAT, "correct"),
        (GOOD, UNKNOWN_KHAT, "correct"),
        (BAD, GOOD_KHAT, "correct"),
        (BAD, BAD_KHAT, "reject"),
        (BAD, NEAR_KHAT, "reject"),
        (BAD, UNKNOWN_KHAT, "reject"),
    ],
)
def test_rules_against_a_pool(moments, khat, expected):
    judged = verdict_of(khat=khat, pool_table=moments, joint=GOOD_JOINT, scores=WRONG_SCORES)
    assert (judged.verdict, judged.reference) == (expected, "pool")


def test_baseline_goes_before_a_pool_and_a_pool_before_own_weights():
    both = verdict_of(baseline_table=GOOD, gates=GOOD_GATES, pool_table=BAD, psis_table=BAD, joint=GOOD_JOINT)
    assert (both.verdict, both.reference) == ("trust", "baseline")
    pool = verdict_of(baseline_table=GOOD, gates=BAD_GATES, pool_table=GOOD, psis_table=BAD, joint=GOOD_JOINT)
    assert (pool.verdict, pool.reference) == ("trust", "pool")


@pytest.mark.parametrize("reference", ["pool_table", "psis_table"])
def test_other_starts_that_disagree_reject(reference):
    judged = verdict_of(**{reference: GOOD}, joint=GOOD_JOINT, elsewhere=(ELSEWHERE,))
    assert judged.verdict == "reject"
    assert "'tau' moves by 1.3 sd" in " ".join(judged.reasons)
    assert ELSEWHERE in judged.checks
    kept = verdict_of(baseline_table=GOOD, gates=GOOD_GATES, joint=GOOD_JOINT, elsewhere=(ELSEWHERE,))
    assert kept.verdict == "trust", "a baseline knows better"


def test_own_weights_alone_are_not_trusted():
    """Bounded weights say that a guide is right where it reaches, whatever there is elsewhere."""
    unknown = Check("other starts", math.nan, math.nan, None, "")
    for elsewhere, scores, expected in (
        ((), (), "correct"),
        ((unknown,), (), "correct"),
        ((unknown,), RIGHT_SCORES, "trust"),  # nothing was tried elsewhere, as with many latents
        ((unknown, Check("pooled k-hat", 1.8, 0.7, None, "")), RIGHT_SCORES, "correct"),
        ((AGREE,), (), "trust"),
    ):
        judged = verdict_of(psis_table=GOOD, joint=GOOD_JOINT, elsewhere=elsewhere, scores=scores)
        assert judged.verdict == expected, (elsewhere, scores)


def test_scores_take_the_trust_from_weights_alone():
    judged = verdict_of(psis_table=GOOD, joint=GOOD_JOINT, scores=WRONG_SCORES)
    assert judged.verdict == "correct"
    assert "what a guide does not reach has no weight" in " ".join(judged.reasons)
    assert verdict_of(psis_table=GOOD, joint=GOOD_JOINT, scores=UNKNOWN_SCORES).verdict == "trust"


@pytest.mark.parametrize(
    ("scores", "khat", "expected", "reference"),
    [
        (RIGHT_SCORES, BAD_KHAT, "correct", "scores"),
        (RIGHT_SCORES, UNKNOWN_KHAT, "correct", "scores"),
        (WRONG_SCORES, BAD_KHAT, "reject", "scores"),
        (UNKNOWN_SCORES, BAD_KHAT, "reject", "psis"),
        ((), BAD_KHAT, "reject", "psis"),
    ],
)
def test_scores_speak_where_the_weights_cannot(scores, khat, expected, reference):
    judged = verdict_of(khat=khat, psis_table=GOOD, scores=scores)
    assert (judged.verdict, judged.reference) == (expected, reference)
    if scores is WRONG_SCORES:
        assert "the sd is wrong, worst: log(tau)" in judged.reasons[0]
