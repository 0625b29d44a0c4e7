import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ppl_models.diagnostics import Check, decide, unmeasured_table
from ppl_models.diagnostics.moments import MOMENTS
from ppl_models.diagnostics.rules import RULES, UNREPAIRED, VETOES
from ppl_models.report.argument import NOTHING, REFERENCE, RULE, VETO, argument
from ppl_models.report.rule import rule_of

KHAT = {
    "good": Check("k-hat", 0.3, 0.7, True, "", 0.05),
    "bad": Check("k-hat", 0.9, 0.7, False, "", 0.05),
    "near": Check("k-hat", 0.68, 0.7, None, "", 0.05),
    "unknown": Check("k-hat", math.nan, 0.7, None, "", detail="no density"),
}
PASSED = {"right": True, "wrong": False, "unclear": None}
GATES = tuple(Check(name, 1.0, 1.01, True, "") for name in ("R-hat", "bulk ESS", "tail ESS", "divergences"))
POOL = (
    Check("pooled k-hat", 0.1, 0.7, True, ""),
    Check("pooled error", 0.01, 0.06, True, ""),
    Check("other starts", 0.0, 0.1, True, ""),
)
ARRIVED = (Check("optimiser status", 0.0, 0.0, True, ""), Check("stationarity", 0.0, 0.1, True, ""))
SOUND = (Check("finite draws", 0.0, 0.0, True, ""), Check("spread", 0.0, 0.0, True, ""))


def table(state):
    """Errors of one parameter: none, far beyond the limit, or within it but not resolved."""
    frame: pd.DataFrame = unmeasured_table(["tau"])
    frame[:] = 0.0
    for moment in MOMENTS:
        frame[moment.column] = 1.0 if state == "wrong" else 0.0
        frame[f"{moment.column}_mcse"] = 1.0 if state == "unclear" else 0.01
    return frame


def scores(state):
    return tuple(Check(name, 0.1, 0.2, PASSED[state], "") for name in ("score mean", "score sd"))


def decided(reference, moments, khat, **options):
    """A verdict that was reached by that row of the table of rules."""
    found = {"soundness": SOUND, "optimisation": ARRIVED, "scores": scores("right"), "elsewhere": POOL}
    if reference == "baseline":
        found |= {"baseline_table": table(moments), "gates": GATES, "scores": (), "elsewhere": ()}
    elif reference == "pool":
        found |= {"pool_table": table(moments)}
    elif reference == "psis":
        found |= {"psis_table": table(moments)}
    else:
        found |= {"psis_table": table("right"), "scores": scores(moments)}
    if moments == "wrong":
        found |= {"corrected_table": table("right")}
    return decide(KHAT[khat], **{**found, **options})


CASES = [
    key
    for key in RULES
    if not (key[0] == "psis" and key[2] == "near")  # whose moments are never measured
]


@pytest.mark.parametrize("key", CASES, ids="-".join)
def test_rule_shown_is_the_one_that_fired(key):
    verdict = decided(*key)
    rule = rule_of(verdict)
    assert verdict.reference == key[0]
    assert rule.key == key
    assert rule.override == ""
    (fired,) = [row for row in rule.rows if row.fired]
    assert (fired.verdict, fired.remedy) == RULES[key]
    assert verdict.verdict == fired.verdict
    assert any(f"“{fired.verdict}”: {fired.remedy}" in step for step in rule.steps)


@pytest.mark.parametrize("reference", ["baseline", "pool", "psis", "scores"])
def test_what_is_not_in_the_table_is_said_to_be_rejected(reference):
    key = {"psis": ("psis", "unclear", "unknown"), "scores": ("scores", "wrong", "bad")}.get(
        reference, (reference, "wrong", "bad")
    )
    unscored = {"scores": ()} if reference == "psis" else {}
    verdict = decided(*key, **unscored)
    rule = rule_of(verdict)
    assert verdict.verdict == "reject"
    assert rule.key == key
    assert not any(row.fired for row in rule.rows)
    assert "no row" in rule.steps[3]


def test_near_khat_leaves_own_weights_unmeasured():
    verdict = decided("psis", "right", "near")
    assert rule_of(verdict).key == ("psis", "unclear", "near")


@pytest.mark.parametrize(("reference", "name"), list(VETOES), ids="-".join)
def test_veto_is_shown(reference, name):
    failed = Check(name, 1.0, 0.1, False, "", detail="found")
    if name.startswith("score"):
        others = {"scores": tuple(failed if one.name == name else one for one in scores("right"))}
    else:
        kept = tuple(check for check in POOL if check.name != name) if reference != "baseline" else ()
        others = {"elsewhere": (*kept, failed)}
    verdict = decided(reference, "right", "good", **others)
    rule = rule_of(verdict)
    assert verdict.verdict == VETOES[reference, name][0]
    assert rule.override.startswith(f"Veto: {name}")
    assert rule.steps[-1] == rule.override
    roles = {
        check.name: role for step in argument(verdict) for check, role in zip(step.checks, step.decides, strict=True)
    }
    assert roles[name] == VETO


@pytest.mark.parametrize("state", ["wrong", "unclear"])
def test_correction_that_does_not_repair_is_shown(state):
    verdict = decided("pool", "wrong", "good", corrected_table=table(state))
    rule = rule_of(verdict)
    assert verdict.verdict == UNREPAIRED[state][0]
    assert UNREPAIRED[state][1] in rule.override


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"point_estimate": True, "soundness": ()}, "point estimate"),
        ({"soundness": (SOUND[0], replace(SOUND[1], passed=False))}, "spread"),
        ({"optimisation": (ARRIVED[0], replace(ARRIVED[1], passed=False))}, "stationarity"),
        ({"optimisation": (ARRIVED[0], replace(ARRIVED[1], passed=None))}, "could not be judged"),
    ],
    ids=["point", "unsound", "not arrived", "not judged"],
)
def test_what_comes_before_the_table_is_shown(options, said):
    verdict = decided("pool", "right", "good", **options)
    rule = rule_of(verdict, point=bool(options.get("point_estimate")))
    assert verdict.verdict != "trust"
    assert said in rule.override


def test_every_check_stands_in_one_step():
    for key in CASES:
        verdict = decided(*key, further=(Check("kernel Stein discrepancy", 0.0, 0.1, True, ""),))
        shown = [check for step in argument(verdict) for check in step.checks]
        assert sorted(check.name for check in shown) == sorted(check.name for check in verdict.checks)


def test_steps_come_in_the_order_of_an_argument():
    verdict = decided("pool", "right", "good", further=(Check("ELBO gap", 0.0, 0.1, True, ""),))
    steps = argument(verdict)
    titles = " ".join(step.title for step in steps)
    words = ("sound", "arrived", "weights", "held against", "agree", "gradients", "Further")
    places = [titles.index(word) for word in words]
    assert places == sorted(places)
    roles = {check.name: role for step in steps for check, role in zip(step.checks, step.decides, strict=True)}
    assert roles["k-hat"] == roles["sd"] == RULE
    assert roles["pooled k-hat"] == REFERENCE
    assert roles["score sd"] == roles["ELBO gap"] == NOTHING


def test_gradients_decide_where_they_are_the_reference():
    verdict = decided("scores", "right", "bad")
    roles = {
        check.name: role for step in argument(verdict) for check, role in zip(step.checks, step.decides, strict=True)
    }
    assert roles["score sd"] == RULE
    assert roles["sd"] == NOTHING


def test_verdict_of_another_authority_says_so():
    verdict = decided("psis", "right", "good")
    ladder = replace(KHAT["good"], name="k-hat (ladder)")
    other = replace(verdict, checks=(*verdict.checks, ladder), reasons=("The draws are corrected.",))
    rule = rule_of(other)
    assert "The draws are corrected." in rule.steps[0]
    assert rule.rows == ()
    assert np.all([check.name != "k-hat (ladder)" for step in argument(other)[:-1] for check in step.checks])
