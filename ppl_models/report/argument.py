"""The checks of a verdict in the order of an argument: each step's question, its checks, and what they decide."""

from collections.abc import Sequence
from dataclasses import dataclass

from ppl_models.diagnostics import Check, Verdict
from ppl_models.diagnostics.moments import MOMENTS
from ppl_models.diagnostics.rules import VETOES
from ppl_models.diagnostics.score_checks import SCORE_MOMENTS
from ppl_models.workflow.probing import OTHERS, PRECISION, WEIGHTS

KHAT, LADDER = "k-hat", "(ladder)"
SOUND = ("finite draws", "spread")
CLASSIFIER, STARTS = "classifier", "starts"
GATES = ("R-hat", "bulk ESS", "tail ESS", "divergences")
MARGINAL = tuple(moment.name for moment in MOMENTS)
GRADIENTS = tuple(moment.name for moment in SCORE_MOMENTS)

REJECTS, REFERENCE, RULE, VETO, CHOICE, NOTHING = "rejects", "reference", "rule", "veto", "guide", "no"
DECIDES = {
    REJECTS: "a failure rejects, whatever else was found",
    REFERENCE: "settles what the draws are held against",
    RULE: "picks the row of the table of rules",
    VETO: "a failure takes a “trust” away",
    CHOICE: "what the guide was chosen by",
    NOTHING: "evidence beside the verdict, which decides nothing",
}


@dataclass(frozen=True)
class Step:
    """One step of the argument.

    Attributes:
        title: its question.
        note: what the checks can tell.
        checks: in the order of the verdict.
        decides: for each check, one of the keys of `DECIDES`.
    """

    title: str
    note: str
    checks: tuple[Check, ...]
    decides: tuple[str, ...]


def argument(verdict: Verdict) -> tuple[Step, ...]:
    """The checks of a verdict, each in one step; steps without any are left out."""
    parts = parted(verdict.checks)
    reference = verdict.reference
    by_gradients = reference == "scores"
    compared, gradients = (NOTHING, RULE) if by_gradients else (RULE, NOTHING)

    def step(title: str, note: str, checks: Sequence[Check], decides: str) -> Step:
        return Step(title, note, tuple(checks), tuple(_role(check, reference, decides) for check in checks))

    steps = [
        step("Are the draws sound?", "Finite, and varying in every parameter.", parts.sound, REJECTS),
        step(
            "Had the optimisation arrived?",
            "A fit that was still moving says nothing of its guide. One that could not be judged prevents a “trust”, "
            "unless a baseline vouches for the result.",
            (*parts.arrived, *parts.starts),
            REJECTS,
        ),
        step(
            "Are the importance weights usable?",
            "Each draw is weighted by the posterior density over the guide's. k-hat says how heavy the tail of the "
            "weights is. It cannot see where the guide has no draws, such as a mode that it missed.",
            parts.khat,
            RULE,
        ),
        step(
            "What are the draws held against, and is it reliable?",
            _reference_note(reference),
            (*parts.gates, *parts.pool),
            REFERENCE,
        ),
        step(
            "Do marginals and combinations of parameters agree with it?",
            "Each figure is that of the worst parameter. A check passes only where three Monte Carlo errors fit within "
            "its limit, and fails only beyond the limit and beyond chance.",
            (*parts.compared, *parts.told_apart),
            compared,
        ),
        step(
            "What do the gradients of the log density say?",
            "If the guide were the posterior, the gradients at its draws would have certain means and products "
            "(Stein's identities). They say which means and sds would fit them better, but of a normal guide that has "
            "converged they have nothing to say, and a separate mode they do not see.",
            parts.gradients,
            gradients,
        ),
        step("Further evidence", "It decides nothing, and should not contradict the rest.", parts.further, NOTHING),
        step(
            "Why this guide was chosen",
            "What guide='auto' measured when it stopped at this rung, with draws of its own.",
            parts.ladder,
            CHOICE,
        ),
    ]
    return tuple(step for step in steps if step.checks)


@dataclass(frozen=True)
class Parts:
    """The checks of a verdict by what they are about."""

    sound: tuple[Check, ...]
    arrived: tuple[Check, ...]
    starts: tuple[Check, ...]
    gates: tuple[Check, ...]
    compared: tuple[Check, ...]
    told_apart: tuple[Check, ...]
    khat: tuple[Check, ...]
    gradients: tuple[Check, ...]
    pool: tuple[Check, ...]
    further: tuple[Check, ...]
    ladder: tuple[Check, ...]


NAMED = {
    "sound": SOUND,
    "starts": (STARTS,),
    "gates": GATES,
    "compared": MARGINAL,
    "told_apart": (CLASSIFIER,),
    "khat": (KHAT,),
    "gradients": GRADIENTS,
    "pool": (WEIGHTS, PRECISION, OTHERS),
}


def parted(checks: Sequence[Check]) -> Parts:
    """Sort checks by their names, and by their place where that says more than a name.

    Those between the marginals and k-hat are comparisons; those before the marginals that are neither about the draws
    nor gates are about the optimisation.
    """
    part_of = {name: part for part, names in NAMED.items() for name in names}
    names = [check.name for check in checks]
    first = names.index(MARGINAL[0]) if MARGINAL[0] in names else 0
    last = names.index(KHAT) if first and KHAT in names else first
    found: dict[str, list[Check]] = {part: [] for part in (*NAMED, "arrived", "further", "ladder")}
    for place, check in enumerate(checks):
        part = part_of.get(check.name, "arrived" if place < first else "further")
        if first <= place < last:
            part = "compared"
        found["ladder" if check.name.endswith(LADDER) else part].append(check)
    return Parts(**{part: tuple(some) for part, some in found.items()})


def _role(check: Check, reference: str, otherwise: str) -> str:
    """What a check decides: a veto where the table has one, else what its step decides."""
    if (reference, check.name) in VETOES:
        return VETO
    return NOTHING if check.name in (OTHERS, STARTS, CLASSIFIER) else otherwise


def _reference_note(reference: str) -> str:
    return {
        "baseline": "MCMC draws that pass gates of their own are the best reference there is.",
        "pool": "Draws of the guide, of a t around them, and of normals that Pathfinder found from eight other starts, "
        "weighted to the posterior together. Its own weights have to be reliable.",
        "psis": "No baseline and no reliable pool: the guide's own draws, weighted, stand in. What they never reach, "
        "they cannot miss.",
        "scores": "No baseline, no reliable pool, and no weights of the guide's own: what the gradients ask for stands "
        "in.",
    }[reference]
