"""`ppl_models.correct`: better draws from a fit."""

import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ppl_models.diagnostics import Check
from ppl_models.engine import check_backend
from ppl_models.errors import DataError, OptionError, PPLError, first_line
from ppl_models.inference import Fit
from ppl_models.options import check_choice, check_count, check_positive
from ppl_models.progress import progress_bar
from ppl_models.seeds import check_seed
from ppl_models.versions import versions
from ppl_models.workflow.auto import AutoFit
from ppl_models.workflow.correction.elsewhere import check_elsewhere
from ppl_models.workflow.correction.importance import correct_by_importance
from ppl_models.workflow.correction.independence import correct_by_independence
from ppl_models.workflow.correction.nuts import correct_by_nuts, from_chains
from ppl_models.workflow.correction.outcome import Method, Outcome, Request
from ppl_models.workflow.correction.psis import correct_by_psis
from ppl_models.workflow.correction.result import Corrected, table_of

AUTO, NUTS, PSIS = "auto", "nuts", "psis"
METHODS: Mapping[str, Method] = {
    PSIS: correct_by_psis,
    "importance": correct_by_importance,
    "imh": correct_by_independence,
    NUTS: correct_by_nuts,
}
LEAST_DRAWS = 1_000
ASKED = "as asked for"


def correct(
    fit: Fit,
    *,
    method: str = AUTO,
    num_draws: int = 4_000,
    seed: int = 0,
    max_seconds: float = 300.0,
    backend: str = "auto",
    progress: bool = False,
) -> Corrected:
    """Correct the draws of a fit, and judge what comes of it.

    Args:
        fit: what `ppl_models.fit` returned. Of a fit by `guide="auto"` the chosen guide's own draws are corrected (its
            `sample` resamples by PSIS itself, without the checks that are made here); where it had come to MCMC,
            "auto" gives these very chains.
        method: what to correct by.

            - "psis": draws resampled by Pareto-smoothed importance weights. For k-hat up to 0.7.
            - "importance": draws with their plain weights, `log_weight` among the sample statistics. For k-hat up to
              0.5, where such weights have a variance.
            - "imh": four chains of independence Metropolis-Hastings, whose proposals are draws of the fit. It needs
              what plain weights need, and gives unweighted draws without smoothing.
            - "nuts": four short chains in coordinates in which the fit is a standard normal, from its draws.
            - "auto": "psis" where it passes its checks, else "nuts". Between the limit of k-hat and 1 no weights
              are of use: a chain of independent proposals needs the same moments of them and would stick.
        num_draws: draws to give, at least 1,000; chains round it up to a multiple of four.
        seed: seed of everything random.
        max_seconds: proposals are added, and chains run, for so long; compiling apart.
        backend: what computes the log density of NUTS: "auto", "native", "inductor" or "eager".
        progress: show one bar.

    Returns:
        The draws with their checks, their effective numbers, and a table of what changed. Draws that fail their checks
        are returned with `passed` False and `advice`.

    Raises:
        OptionError: an option is out of its range; a point or particles have no weights; the fit saw its data in
            batches; NUTS with discrete latents.
        UnknownNameError: no such method or backend.
        DataError: the weights cannot be computed (NaN or infinite log densities), and a method that needs them was
            asked for.
        TimeoutError: `max_seconds` were used up before NUTS had any draws, and there are no others to give.
    """
    started = time.perf_counter()
    if not isinstance(fit, Fit):
        raise OptionError(f"fit: found {type(fit).__name__}, wanted the result of ppl.fit.")
    check_choice("method", method, (AUTO, *METHODS))
    check_backend(backend)
    num_draws = check_count("num_draws", num_draws, least=LEAST_DRAWS)
    deadline = started + check_positive("max_seconds", max_seconds)
    chains = fit.chains if isinstance(fit, AutoFit) else None
    plain = fit.plain if isinstance(fit, AutoFit) else fit
    _refuse(plain, method)
    with progress_bar(f"correct {method}", None, show=progress) as update:
        request = Request(plain, num_draws, check_seed(seed), deadline, backend, update)
        if method != AUTO:
            used, why, outcome = method, ASKED, METHODS[method](request)
            if method != NUTS and outcome.passed:
                outcome = _with_elsewhere(request, outcome)
        elif chains is not None:
            used, why = NUTS, "guide='auto' had come to these chains already"
            outcome = from_chains(request, chains)
        else:
            used, why, outcome = _automatic(request)
    return _corrected(plain, method, used, why, outcome, request, time.perf_counter() - started)


def _automatic(request: Request) -> tuple[str, str, Outcome]:
    """The method that k-hat and its own checks allow, why, and what it gave."""
    fit = request.fit
    if not fit.has_density:
        why = f"{_without_density(fit)}, so there is nothing to weight by"
        return NUTS, why, correct_by_nuts(request)
    weighted = None
    try:
        weighted = correct_by_psis(request)
    except DataError as error:
        why = f"weights cannot be computed ({first_line(error)})"
    else:
        if weighted.passed:
            weighted = _with_elsewhere(request, weighted)
        if weighted.passed:
            khat = weighted.checks[0]
            return PSIS, f"k-hat {khat.measured} is within its limit, {khat.limit:.2g}", weighted
        why = f"PSIS would not do ({_failures(weighted.checks)})"
    if weighted is None:
        return NUTS, why, correct_by_nuts(request)
    if fit.program.sites.discrete:
        return PSIS, f"{why}, and NUTS cannot move the discrete sites {_discrete(fit)}", weighted
    try:
        return NUTS, why, correct_by_nuts(request)
    except TimeoutError:
        return PSIS, f"{why}, and the seconds were used up before NUTS had any draws", weighted
    except (PPLError, np.linalg.LinAlgError) as error:
        return PSIS, f"{why}, and NUTS gave nothing ({first_line(error)})", weighted


def _with_elsewhere(request: Request, outcome: Outcome) -> Outcome:
    """The outcome with the check of other starts, where it could be made."""
    found = check_elsewhere(request)
    return outcome if found is None else replace(outcome, checks=(*outcome.checks, found))


def _refuse(fit: Fit, method: str) -> None:
    if fit.program.batched:
        raise OptionError(
            "fit: found one that saw its data in batches (a DataLoader), wanted one of all data at once: the posterior "
            "density of all of them is not known here. Fit with the data themselves, or sample with ppl.sample."
        )
    if method not in (AUTO, NUTS) and not fit.has_density:
        raise OptionError(
            f"method: found {method!r} for guide '{fit.guide_name}', wanted 'nuts': {_without_density(fit)}, so its "
            "draws have no weights."
        )
    if fit.program.sites.discrete and (method == NUTS or not fit.has_density):
        raise OptionError(
            f"method: found {method!r}, but the model has discrete latents, {_discrete(fit)}, which have no gradient. "
            "Use method='psis', or sum them out: infer={'enumerate': 'parallel'}."
        )


def _without_density(fit: Fit) -> str:
    return "a point has no density" if fit.point else "its draws have no density"


def _discrete(fit: Fit) -> str:
    return ", ".join(f"'{site.name}'" for site in fit.program.sites.discrete)


def _failures(checks: tuple[Check, ...]) -> str:
    return ", ".join(
        f"{check.name} {check.measured}, limit {check.limit:.3g}" for check in checks if check.passed is not True
    )


def _corrected(
    fit: Fit, method: str, used: str, why: str, outcome: Outcome, request: Request, seconds: float
) -> Corrected:
    return Corrected(
        draws=outcome.tree,
        method=used,
        why=why,
        checks=outcome.checks,
        table=table_of(outcome.moments, outcome.raw, outcome.labels),
        log_weights=outcome.log_weights,
        config={
            "method": method,
            "num_draws": request.num_draws,
            "seed": request.seed,
            "backend": request.backend,
            "num_proposals": outcome.num_proposals,
            **outcome.attrs,
            "guide": fit.guide_name,
            "fit": dict(fit.config),
            "versions": versions(),
        },
        seconds=seconds,
    )
