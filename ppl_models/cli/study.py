"""One problem studied: one baseline, several guides fitted and judged against it."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ppl_models.cli.naming import resolve_guide
from ppl_models.cli.output import on_terminal, without_baseline_warnings

if TYPE_CHECKING:
    import xarray as xr

    from ppl_models.catalogue import Problem
    from ppl_models.diagnostics import Verdict
    from ppl_models.inference import Fit
    from ppl_models.report.evidence import Evidence


@dataclass(frozen=True)
class Settings:
    """Options of the fits and of the baseline.

    Attributes:
        sample: keyword arguments of `ppl.sample`, None where the problem's own hold; None for no baseline.
        fit: keyword arguments of `ppl.fit`.
        seed: seed of everything random.
    """

    sample: dict[str, Any] | None
    fit: dict[str, Any]
    seed: int


@dataclass
class Study:
    """What was found.

    Attributes:
        baseline: MCMC draws, or None.
        judged: guide -> fit and verdict.
        failures: guide -> why it could not be fitted.
        seconds: stage -> time spent.
        evidence: of the judged fits, for tables and figures.
    """

    problem: "Problem"
    baseline: "xr.DataTree | None" = None
    judged: dict[str, "tuple[Fit, Verdict]"] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    evidence: "tuple[Evidence, ...]" = ()

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time spent inside to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - started


def study(
    problem: "Problem",
    guide_names: Sequence[str],
    settings: Settings,
    *,
    predictions: bool = True,
    baselines: "dict[str, xr.DataTree] | None" = None,
) -> Study:
    """Sample a baseline, fit every guide, judge every fit, and gather the evidence.

    A guide that cannot serve the model is recorded as a failure, and the others go on.

    Args:
        problem: what to study.
        guide_names: guides of the problem, or automatic families.
        settings: options.
        predictions: whether to draw from the posterior predictive for the report.
        baselines: draws of earlier studies, by the problem that they were drawn from; looked up, and added to.

    Raises:
        PPLError: the baseline, or an option, cannot be used.
        KeyboardInterrupt: a fit was stopped.
    """
    from ppl_models.progress import progress_bar
    from ppl_models.report.evidence import gather

    found = Study(problem)
    with progress_bar(problem.name, len(guide_names) + 2, show=on_terminal()) as update:
        if settings.sample is not None:
            update(0, "baseline")
            found.baseline = _baseline(found, settings, baselines if baselines is not None else {})
        for done, name in enumerate(guide_names, start=1):
            update(done, name)
            _fit_and_judge(found, name, settings)
        update(len(guide_names) + 1, "draws")
        if found.judged:
            with found.timed("draws"):
                found.evidence = gather(found.judged, found.baseline, predictions=predictions)
        update(len(guide_names) + 2, "")
    return found


def _baseline(found: Study, settings: Settings, baselines: "dict[str, xr.DataTree]") -> "xr.DataTree":
    """Draws of the problem's posterior, from the parameterisation of it that NUTS can sample."""
    from ppl_models.catalogue import load
    from ppl_models.workflow import sample

    source = load(found.problem.baseline) if found.problem.baseline else found.problem
    if source.name not in baselines:
        given = {name: value for name, value in (settings.sample or {}).items() if value is not None}
        options = {**source.sampling, **given}
        with found.timed("baseline"):
            baselines[source.name] = sample(
                source.model, source.data, coords=source.coords, dims=source.dims, seed=settings.seed, **options
            )
    return baselines[source.name]


def _fit_and_judge(found: Study, name: str, settings: Settings) -> None:
    from ppl_models.errors import GuideError
    from ppl_models.workflow import check, fit

    problem = found.problem
    try:
        with found.timed("fits"):
            fitted = fit(
                problem.model,
                problem.data,
                guide=resolve_guide(problem, name),
                init_scale=problem.initial_scale,
                coords=problem.coords,
                dims=problem.dims,
                seed=settings.seed,
                **{**problem.fit_options(name), **settings.fit},
            )
    except GuideError as error:
        found.failures[name] = str(error)
        return
    if fitted.status == "interrupted":  # the fit itself takes Ctrl-C for its end
        raise KeyboardInterrupt
    with found.timed("checks"), without_baseline_warnings():
        verdict = check(fitted, baseline=found.baseline, seed=settings.seed)
    found.judged[name] = (fitted, verdict)
