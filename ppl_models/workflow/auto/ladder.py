"""`guide="auto"`: from the cheapest family to the dearest, until one passes its checks."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch

from ppl_models.diagnostics import Check, check_status
from ppl_models.errors import GuideError, OptionError, first_line
from ppl_models.inference import Fit, FitOptions, fit_guide
from ppl_models.inference.course import DIVERGED
from ppl_models.inference.flat_guide import FlatGuide
from ppl_models.inference.guides import resolve_guide
from ppl_models.inference.preparation import program_of
from ppl_models.options import check_positive
from ppl_models.program import Data
from ppl_models.seeds import check_seed, child_seed
from ppl_models.workflow.auto.chains import held_against, sample_from
from ppl_models.workflow.auto.result import AutoFit, as_auto
from ppl_models.workflow.auto.rung import Rung, reason_of
from ppl_models.workflow.auto.steps import LADDER, LAST_RESORT, NUTS, PATHFINDER, SLOW_SECONDS, SLOW_SHARE, Step
from ppl_models.workflow.judging import check_optimum
from ppl_models.workflow.weighing import Draws, Evidence, Scale, against_others, gather, pool

NUM_PROBES = 2
"""Pathfinder runs from starts of their own; a guide is held against those that are not itself."""
LEAST_SECONDS = 0.1
MORE_DRAWS_SHARE = 0.05
"""Share of the seconds left that further draws of one guide may take."""
SHARED = frozenset(
    {"guide", "init", "init_scale", "max_seconds", "seed", "dtype", "backend", "coords", "dims", "progress"}
)
"""Options that concern every rung."""


@dataclass(frozen=True)
class Tried:
    """A fit with its evidence; None where its draws cannot be weighted."""

    fit: Fit
    evidence: Evidence | None

    @property
    def khat(self) -> float:
        """How far its weights are from usable; infinite where that is not known."""
        khat = self.evidence.found.khat_bound if self.evidence is not None else math.inf
        return math.inf if math.isnan(khat) else khat


@dataclass
class Climb:
    """A climb in progress: the problem, the budget, and what was tried."""

    model: Callable[..., Any]
    data: Data
    seed: int
    deadline: float
    options: FitOptions
    allow_mcmc: bool
    rungs: list[Rung] = field(default_factory=list)
    tried: list[Tried] = field(default_factory=list)
    probes: dict[int, Fit] = field(default_factory=dict)
    probed: dict[int, Draws | None] = field(default_factory=dict)
    scale: Scale | None = None
    num_dims: int = 0

    @property
    def seconds_left(self) -> float:
        """Until the budget is spent."""
        return self.deadline - time.perf_counter()

    @property
    def best(self) -> Tried | None:
        """The fit with the best weights; among those without any, the last."""
        return min(reversed(self.tried), key=lambda tried: tried.khat, default=None)

    def scale_of(self, fit: Fit) -> Scale:
        """Where all rungs are measured."""
        if self.scale is None:
            self.scale = Scale(fit.program)
        return self.scale


def choose_guide(model: Callable[..., Any], data: Any, options: FitOptions, *, allow_mcmc: bool) -> AutoFit:
    """Try the rungs in order; see `ppl_models.fit`.

    Args:
        model: a Pyro model.
        data: whole.
        options: those of the fit; its guide is chosen here.
        allow_mcmc: whether NUTS may be the last rung.

    Raises:
        OptionError: an option that concerns one guide or SVI alone was given.
        GuideError: not one rung could be fitted at all.
    """
    started = time.perf_counter()
    _refuse_foreign(options)
    seconds = check_positive("max_seconds", options.max_seconds)
    state = Climb(model, data, check_seed(options.seed), started + seconds, options, allow_mcmc)
    state.num_dims = _num_dims(state)
    for step in LADDER:
        if _passes(state, step):
            return _result(state, state.tried[-1].fit, step.name, started, passed=True)
    if state.best is None:
        _passes(state, LAST_RESORT)
    best = state.best
    chains = _sample(state, best.fit if best is not None else None) if allow_mcmc else None
    if best is None:
        raise GuideError(f"guide 'auto': no family could be fitted. {'; '.join(map(str, state.rungs))}.")
    if chains is not None:
        return _result(state, best.fit, NUTS, started, passed=True, chains=chains)
    name = next(rung.name for rung in state.rungs if rung.fit_name == best.fit.guide_name)
    return _result(state, best.fit, name, started, passed=False)


def _refuse_foreign(options: FitOptions) -> None:
    for entry in fields(FitOptions):
        given = getattr(options, entry.name)
        if entry.name not in SHARED and given != entry.default:
            raise OptionError(
                f"{entry.name}: found {given!r} with guide 'auto', which decides that itself. Leave it out, or name "
                "a guide."
            )


def _num_dims(state: Climb) -> int:
    """How many latents there are.

    Raises:
        GuideError: a latent is discrete, which no rung can serve.
    """
    seed, options = child_seed(state.seed, "program"), state.options
    program = program_of(state.model, state.data, "normal", options.dtype, torch.device("cpu"), {}, seed)
    if program.batched:
        raise OptionError("data: guide 'auto' needs all data at once, found a DataLoader. Name a guide.")
    with program.isolated(seed=0, full_data=False):
        resolve_guide("normal", program, {}, {}, 1.0)  # says what no automatic guide can serve
    return program.num_dims


def _passes(state: Climb, step: Step) -> bool:
    """Fit one rung and judge it."""
    began = time.perf_counter()
    obstacle = _obstacle(state, step)
    if obstacle:
        state.rungs.append(Rung(step.name, (), False, obstacle, 0.0, 0, ""))
        return False
    try:
        fit = _fitted(state, step)
    except (GuideError, OptionError) as error:
        # What a family cannot serve is a reason to climb on; other errors are the user's, and theirs to see.
        reason, seconds = first_line(error), time.perf_counter() - began
        state.rungs.append(Rung(step.name, (), False, reason, seconds, 0, ""))
        return False
    evidence, checks = _judged(state, fit, step)
    passed = all(check.passed is True for check in checks)
    state.tried.append(Tried(fit, evidence))
    reason = "" if passed else "; ".join(part for part in (reason_of(checks), fit.note) if part)
    seconds = time.perf_counter() - began
    state.rungs.append(
        Rung(step.name, checks, passed, reason, seconds, fit.evaluations, fit.status, fit_name=fit.guide_name)
    )
    return passed


def _obstacle(state: Climb, step: Step) -> str:
    if state.num_dims > step.most_dims:
        return f"not tried with more than {step.most_dims} latents"
    if step.slow and state.seconds_left < SLOW_SECONDS:
        return f"fewer than {SLOW_SECONDS:.0f} seconds were left, and it compiles code"
    return "" if state.seconds_left > 0.0 else "the seconds were used up"


def _fitted(state: Climb, step: Step) -> Fit:
    if step is PATHFINDER:
        return _probe(state, 0)
    best = state.best
    begin = {"init": best.fit} if step.improves and best is not None else {}
    share = SLOW_SHARE if step.slow and state.allow_mcmc else 1.0
    return _fit(state, step, step.name, max_seconds=max(share * state.seconds_left, LEAST_SECONDS), **begin)


def _fit(state: Climb, step: Step, purpose: str, **changes: Any) -> Fit:
    seed = child_seed(state.seed, purpose)
    return fit_guide(state.model, state.data, replace(state.options, seed=seed, **{**step.options, **changes}))


def _probe(state: Climb, number: int) -> Fit:
    """A Pathfinder run from starts of its own; made once."""
    if number not in state.probes:
        seconds = max(state.seconds_left, LEAST_SECONDS)
        state.probes[number] = _fit(state, PATHFINDER, f"probe {number}", max_seconds=seconds)
    return state.probes[number]


def _probe_draws(state: Climb, number: int) -> Draws | None:
    """Draws of such a run, None where it has no distribution; made once."""
    if number not in state.probed:
        evidence = _evidence(state, state.probes[number], f"probe {number}", max_seconds=0.0)
        state.probed[number] = evidence.draws if evidence is not None else None
    return state.probed[number]


def _evidence(state: Climb, fit: Fit, purpose: str, max_seconds: float) -> Evidence | None:
    guide = FlatGuide.of(fit) if fit.status != DIVERGED else None
    if guide is None:
        return None
    seed = child_seed(state.seed, f"draws {purpose}")
    return gather(guide, state.scale_of(fit), seed, max_seconds=max_seconds)


def _judged(state: Climb, fit: Fit, step: Step) -> tuple[Evidence | None, tuple[Check, ...]]:
    """All checks of a fit; the dearest only where the others passed."""
    checks = (check_status(fit.status), check_optimum(fit))
    evidence = _evidence(state, fit, step.name, MORE_DRAWS_SHARE * state.seconds_left)
    if evidence is None:
        return None, (*checks, Check("k-hat", math.nan, math.nan, None, "", detail="no density to weight draws by"))
    checks = (*checks, *evidence.checks)
    if not all(check.passed is True for check in checks):
        return evidence, checks
    return evidence, (*checks, _other_starts(state, fit, evidence))


def _other_starts(state: Climb, fit: Fit, evidence: Evidence) -> Check:
    for number in range(NUM_PROBES):
        _probe(state, number)
    draws = _draws(state, but=fit)
    if not draws:
        return Check("other starts", math.nan, math.nan, None, "", detail="no other start led to a distribution")
    return against_others(evidence, draws, state.scale_of(fit).labels)


def _draws(state: Climb, but: Fit | None = None) -> list[Draws]:
    """All draws of rungs and probes, each fit's once; a refused guide may have seen what a better one has not."""
    judged = [tried.fit for tried in state.tried] + [but]
    apart = [number for number, fit in state.probes.items() if not any(fit is other for other in judged)]
    probed = [_probe_draws(state, number) for number in apart]
    tried = [t.evidence.draws for t in state.tried if t.evidence is not None and t.fit is not but]
    return [draws for draws in (*probed, *tried) if draws is not None]


def _sample(state: Climb, fit: Fit | None) -> Any:
    began = time.perf_counter()
    options = state.options
    pooled = pool(_draws(state))
    found = sample_from(
        fit,
        pooled,
        state.model,
        state.data,
        seed=child_seed(state.seed, NUTS),
        deadline=state.deadline,
        common={"backend": options.backend, "coords": options.coords, "dims": options.dims},
    )
    if found.tree is not None and pooled is not None:
        found = held_against(found, pooled, state.scale.labels if state.scale is not None else [])
    reason = found.reason or ("" if found.tree is not None else reason_of(found.checks))
    seconds = time.perf_counter() - began
    state.rungs.append(Rung(NUTS, found.checks, found.tree is not None, reason, seconds, found.evaluations, ""))
    return found.tree


def _num_proposals(state: Climb, fit: Fit) -> int:
    """As many draws as its checks were made on."""
    evidence = next((tried.evidence for tried in state.tried if tried.fit is fit), None)
    return 0 if evidence is None else evidence.found.log_weights.size


def _result(state: Climb, fit: Fit, name: str, started: float, *, passed: bool, chains: Any = None) -> AutoFit:
    seconds = time.perf_counter() - started
    return as_auto(
        fit,
        {
            "rungs": tuple(state.rungs),
            "chosen": name,
            "passed": passed,
            "chains": chains,
            "num_proposals": _num_proposals(state, fit),
            "seconds": seconds,
            "evaluations": sum(rung.evaluations for rung in state.rungs),
            "config": {**fit.config, "allow_mcmc": state.allow_mcmc, "auto_seed": state.seed},
        },
    )
