"""The rule behind a verdict, in words: the three states, the row that they pick, and what came before or after it."""

from collections.abc import Sequence
from dataclasses import dataclass

from ppl_models.diagnostics import Check, Verdict
from ppl_models.diagnostics.khat import too_near
from ppl_models.diagnostics.moments import REFERENCES
from ppl_models.diagnostics.rules import AGREES_ANYHOW, OTHERWISE, RULES, UNREPAIRED, VETOES
from ppl_models.report.argument import KHAT, LADDER, Parts, parted

REJECT = "reject"
KHAT_WORDS = {
    "good": "within its limit",
    "near": "within its limit by less than its own error",
    "bad": "beyond its limit",
    "unknown": "not measured",
}


@dataclass(frozen=True)
class Row:
    """One row of the table of rules: the states that it is for, what it says, and whether it fired."""

    moments: str
    khat: str
    verdict: str
    remedy: str
    fired: bool


@dataclass(frozen=True)
class Rule:
    """How a verdict came about.

    Attributes:
        key: reference, state of the moments, state of k-hat.
        steps: the reasoning, sentence by sentence.
        rows: all rows of the table of rules for that reference; without one that fired, the case is not in the table.
        override: what took the place of the row's verdict; empty where the row's own stands.
    """

    key: tuple[str, str, str]
    steps: tuple[str, ...]
    rows: tuple[Row, ...]
    override: str


def rule_of(verdict: Verdict, *, point: bool = False) -> Rule:
    """Read from a verdict's own checks which row of the table fired.

    Args:
        verdict: of `ppl.check`.
        point: whether the fit is a point estimate.
    """
    parts = parted(verdict.checks)
    reference = verdict.reference
    judged = parts.gradients if reference == "scores" else parts.compared
    moments, khat = _state(judged), _khat_state(parts.khat)
    key = (reference, moments, khat)
    word, remedy = RULES.get(key, (REJECT, OTHERWISE[reference]))
    override = _override(verdict, parts, key, word, remedy, point)
    rows = tuple(Row(of[1], of[2], *said, fired=of == key) for of, said in RULES.items() if of[0] == reference)
    if _by_ladder(verdict, override):
        return Rule(key, (override,), (), override)
    named = "gradients" if reference == "scores" else "marginals and combinations"
    steps = [
        f"Reference: {REFERENCES[reference]}. {_why(verdict, parts)}",
        f"State of the moments ({named}): {moments}. {_tally(judged)}",
        f"State of k-hat: {khat}, {KHAT_WORDS[khat]}.{_measured(parts.khat)}",
        f"The row for ({', '.join(key)}) says “{word}”: {remedy}"
        if key in RULES
        else f"The table has no row for ({', '.join(key)}), and what it does not list is rejected: {remedy}",
    ]
    return Rule(key, (*steps, override) if override else tuple(steps), rows, override)


def _override(verdict: Verdict, parts: Parts, key: tuple[str, str, str], word: str, remedy: str, point: bool) -> str:
    """What took the place of the row: the same order of precedence as where it was decided."""
    unsound = [check for check in parts.sound if check.passed is not True]
    broken = [check for check in parts.arrived if check.passed is False]
    unknown = [check for check in parts.arrived if check.passed is None]
    if point:
        return "Before the table: a point estimate has no uncertainty to trust, and is rejected."
    if unsound or broken:
        if verdict.verdict != REJECT:
            return f"Before the table: {_names(broken)} did not pass; {AGREES_ANYHOW[1]}"
        about = "draws that are not sound" if unsound else "a fit that had not arrived"
        return f"Before the table: {_names(unsound or broken)} did not pass, and {about} count for nothing: rejected."
    for state, (other, said) in UNREPAIRED.items():
        if key[1] == "wrong" and word == "correct" and said in verdict.reasons:
            return f"After the table: the draws corrected by PSIS, held against the same reference, are {state}, so that it becomes “{other}”: {said}"  # noqa: E501
    if word == "trust":
        for check in (*parts.told_apart, *parts.pool, *parts.starts, *parts.gradients):
            other, said = VETOES.get((key[0], check.name), ("", ""))
            if check.passed is False and said in verdict.reasons:
                return f"Veto: {check.name} failed ({check.detail}), so that “trust” becomes “{other}”: {said}"
        if unknown and key[0] != "baseline" and verdict.verdict == "correct":
            return f"After the table: {_names(unknown)} could not be judged, so that “trust” becomes “correct”."
    if verdict.verdict != word or remedy not in verdict.reasons:
        return (
            f"Decided by the evidence on which the guide was chosen, instead of the table: {verdict.reasons[0]}"
            if (verdict.reasons)
            else "Decided otherwise than by the table."
        )
    return ""


def _by_ladder(verdict: Verdict, override: str) -> bool:
    return override.startswith("Decided") and any(check.name.endswith(LADDER) for check in verdict.checks)


def _why(verdict: Verdict, parts: Parts) -> str:
    """Why this reference and not one before it in the order of preference."""
    if verdict.reference == "baseline":
        return "It was given, and passed its own gates."
    first = "The baseline did not pass its own gates" if parts.gates else "There is no baseline"
    reliability = [check for check in parts.pool if check.name.startswith("pooled")]
    if verdict.reference == "pool":
        figures = ", ".join(f"{check.name} {check.measured}, limit {check.limit:.2g}" for check in reliability)
        return f"{first}; the pool's weights are reliable ({figures})."
    doubtful = [check for check in reliability if check.passed is not True]
    figures = ", ".join(f"{check.name} {check.measured}, limit {check.limit:.2g}" for check in doubtful)
    no_pool = f"the pool's weights are not reliable ({figures})" if figures else "no pool could be made"
    rest = "the guide's own weights are the next best" if verdict.reference == "psis" else "neither are the guide's own"
    return f"{first}; {no_pool}; {rest}."


def _tally(checks: Sequence[Check]) -> str:
    """Which checks put the moments in their state."""
    failed = [check for check in checks if check.passed is False]
    unclear = [check for check in checks if check.passed is None]
    num_passed = len(checks) - len(failed) - len(unclear)
    parts = [f"failed: {_names(failed)}"] if failed else []
    parts += [f"not resolved: {_names(unclear)}"] if unclear else []
    parts += [f"passed: {num_passed} of {len(checks)}"] if checks else ["nothing was compared"]
    said = "; ".join(parts)
    return f"{said[0].upper()}{said[1:]}."


def _names(checks: Sequence[Check]) -> str:
    return ", ".join(check.name for check in checks)


def _state(checks: Sequence[Check]) -> str:
    if any(check.passed is False for check in checks):
        return "wrong"
    return "right" if checks and all(check.passed is True for check in checks) else "unclear"


def _khat_state(khat: Sequence[Check]) -> str:
    found = next((check for check in khat if check.name == KHAT), None)
    if found is None or found.passed is None:
        return "near" if found is not None and too_near(found) else "unknown"
    return "good" if found.passed else "bad"


def _measured(khat: Sequence[Check]) -> str:
    return "".join(f" It is {check.measured}; the limit is {check.limit:.2f}." for check in khat[:1])
