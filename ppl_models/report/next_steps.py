"""What to do after a verdict, with the exact call."""

from dataclasses import dataclass

from ppl_models.diagnostics import Verdict
from ppl_models.diagnostics.rules import UNREPAIRED, VETOES
from ppl_models.inference import Fit
from ppl_models.report.argument import STARTS
from ppl_models.report.rule import Rule
from ppl_models.workflow.probing import OTHERS

USE = "draws = fit.sample(4_000, seed=2)"
PREDICTIONS = "print(ppl.check_predictions(fit))"
BASELINE = "ppl.check(fit, baseline=ppl.sample(model, data))"
CORRECT = "better = ppl.correct(fit)"
NUTS = "better = ppl.correct(fit, method='nuts')"
SAMPLE = "baseline = ppl.sample(model, data)"
SEVERAL_MODES = {UNREPAIRED["wrong"][1], *(said for (_, name), (_, said) in VETOES.items() if name in (OTHERS, STARTS))}


@dataclass(frozen=True)
class NextStep:
    """Words, and the call that does it."""

    words: str
    call: str


def next_steps(fit: Fit, verdict: Verdict, rule: Rule) -> tuple[NextStep, ...]:
    """What to do about a fit of that verdict, the first first.

    Args:
        fit: what was judged.
        verdict: of `ppl.check`.
        rule: of `rule_of`.
    """
    if verdict.verdict == "trust":
        return _trusted(fit, verdict, rule)
    if verdict.verdict == "correct":
        return _correctable(fit, verdict, rule)
    return _rejected(fit, verdict, rule)


def _trusted(fit: Fit, verdict: Verdict, rule: Rule) -> tuple[NextStep, ...]:
    caution = "" if rule.key[2] == "good" else " Do not importance-weight them."
    steps = [NextStep(f"Use the draws as they are.{caution}", USE)]
    if fit.program.sites.observed:
        steps.append(
            NextStep("A right posterior may belong to a wrong model: hold predictions against the data.", PREDICTIONS)
        )
    if verdict.reference != "baseline":
        steps.append(
            NextStep("Where a missed mode is conceivable and would matter, judge it against a baseline once.", BASELINE)
        )
    return tuple(steps)


def _correctable(fit: Fit, verdict: Verdict, rule: Rule) -> tuple[NextStep, ...]:
    _, moments, khat = rule.key
    steps = []
    if "could not be judged" in rule.override:
        steps.append(NextStep("The fit may have stopped too early: fit for longer.", _refit(fit, longer=True)))
    if moments == "unclear":
        steps.append(NextStep("Take more draws: the errors are too large to tell.", "ppl.check(fit, num_draws=40_000)"))
    if moments == "right" and khat in ("bad", "unknown") and verdict.reference != "scores":
        steps.append(NextStep("Means, sds and quantiles of single parameters can be used as they are.", USE))
    steps += _corrections(fit, weighable=khat == "good" and "Veto" not in rule.override)
    if not any(step.call in (CORRECT, NUTS) for step in steps):
        steps.append(NextStep("Or sample it by MCMC.", SAMPLE))
    return tuple(steps)


def _corrections(fit: Fit, *, weighable: bool) -> list[NextStep]:
    if fit.program.batched or (fit.program.sites.discrete and not weighable):
        return []
    if weighable:
        words = (
            "Correct the draws. It weights them (PSIS), checks what comes of it, and goes over to a short run of "
            "NUTS where weights will not do; use better.draws if better.passed."
        )
        return [NextStep(words, CORRECT)]
    words = (
        "For anything that depends on how parameters vary together, or on tails, let NUTS go on from the fit; use "
        "better.draws if better.passed."
    )
    return [NextStep(words, NUTS)]


def _rejected(fit: Fit, verdict: Verdict, rule: Rule) -> tuple[NextStep, ...]:
    auto = NextStep(
        "Let the guide be chosen by evidence: it climbs from the cheapest family to MCMC.",
        "fit = ppl.fit(model, data, guide='auto')",
    )
    sample = NextStep("Or sample by MCMC, and judge guides against that.", SAMPLE)
    if fit.point:
        return NextStep("Fit a guide that has a width.", "fit = ppl.fit(model, data, guide='full_rank')"), auto
    if rule.override.startswith("Before the table: ") and any(
        check.passed is False and check.name == "stationarity" for check in verdict.checks
    ):
        return NextStep("Fit for longer first; then judge it again.", _refit(fit, longer=True)), auto, sample
    if SEVERAL_MODES & set(verdict.reasons):
        mixture = NextStep(
            "Probability lies where the guide has none: fit one with several modes. NUTS begun at the fit's draws "
            "would stay where they are.",
            "fit = ppl.fit(model, data, guide='mixture')",
        )
        return mixture, auto, sample
    richer = NextStep(
        "Use a guide that can take the shape that this one cannot, or reparametrise the model.",
        "fit = ppl.fit(model, data, guide='iaf')" if fit.family == "full_rank" else _refit(fit, longer=False),
    )
    nuts = (
        []
        if fit.program.batched or fit.program.sites.discrete
        else [NextStep("Or let NUTS go on from the fit; use better.draws if better.passed.", NUTS)]
    )
    return (richer, auto, *nuts, sample)


def _refit(fit: Fit, *, longer: bool) -> str:
    if not longer:
        return "fit = ppl.fit(model, data, guide='full_rank')"
    guide = repr(fit.family) if fit.family else "guide"
    method = "" if fit.method == "svi" else f", method={fit.method!r}"
    return f"fit = ppl.fit(model, data, guide={guide}{method}, max_steps={max(4 * fit.steps, 4_000):_})"
