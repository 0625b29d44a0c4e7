"""Estimate the expectation of a function, with an error bar that is checked."""

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from torch.distributions import Distribution

from ppl_models.errors import DataError, OptionError
from ppl_models.inference.fit_result import Fit
from ppl_models.inference.intervals import interval_of
from ppl_models.inference.monte_carlo.distribution_source import DistributionSource
from ppl_models.inference.monte_carlo.expectation import Expectation, plain_value
from ppl_models.inference.monte_carlo.fit_source import FitSource
from ppl_models.inference.monte_carlo.integrand import Integrand
from ppl_models.inference.monte_carlo.method import Estimate, Method, Run
from ppl_models.inference.monte_carlo.quasi import REPLICATES
from ppl_models.inference.monte_carlo.registry import AUTO, choose_method
from ppl_models.inference.monte_carlo.sources import SamplerSource, Source
from ppl_models.inference.monte_carlo.tree_source import TreeSource
from ppl_models.options import check_count, check_positive
from ppl_models.program import isolated
from ppl_models.seeds import check_seed, child_seed
from ppl_models.versions import versions

NUM_DRAWS = 100_000
BUDGET = 10_000_000
FIRST_DRAWS = 4_096
"""Draws before the first look at the error, so that its own error is some percent."""
NOT_MENDED = frozenset({"support", "coupling", REPLICATES})
"""Checks that more draws do not mend, so that no budget is spent on them."""


def expect(
    f: Callable[[Any], Any] | str,
    q: Any,
    num_draws: int | None = None,
    *,
    target_error: float | None = None,
    method: str | Method = AUTO,
    confidence: float = 0.95,
    budget: int = BUDGET,
    seed: int = 0,
    **options: Any,
) -> Expectation:
    """Estimate E_q[f] by Monte Carlo, with its standard error and a check of whether that can be trusted.

    With `target_error` draws are added in doubling batches, and after each batch, the first time after 4,096 draws,
    the error is held against the target and the checks are read. Draws are added until the error is met and the checks
    that more draws can mend have passed, or the budget is spent. The draws that decide when to stop are those of the
    estimate: a run that missed the rare large values of a skewed f stops early, and its estimate and its error are both
    too small. For exp(z) of a normal z the bias is a seventh of the standard error and a 95 % interval holds
    the truth in 94 % of runs; for exp(1.5 z) it is a third, and 91 %. `num_draws` is free of this.

    Args:
        f: takes draws, shape (draw, *event), or a mapping of such by name, and returns (draw, *shape), a tensor or a
            NumPy array. Each value must depend on its own draw alone. A name stands for that variable of a fit or tree.
        q: a torch or Pyro distribution; a fit; a DataTree of MCMC draws; or a sampler `num_draws -> draws`.
        num_draws: evaluations of f; 100,000 where neither this nor `target_error` is given, and for a DataTree all that
            it holds.
        target_error: standard error that is wanted, in the units of f; of every output where there are several.
        method: a name of `inference.monte_carlo.registry.METHODS`, or a method; "auto" is plain Monte Carlo, and for
            MCMC draws their mean with its MCMC error.
        confidence: level of the interval.
        budget: evaluations of f that `target_error` may spend; all of them where a check never passes, as where the
            variance is infinite.
        seed: of all random numbers.
        **options: of the method, as its class lists them.

    Returns:
        The expectation. An error bar that cannot be trusted, as where the variance looks infinite, is no exception: the
        checks and the print say so.

    Raises:
        OptionError: an option is wrong, or the method needs what q does not have.
        DataError: f returns what is not finite, has another shape, or depends on other draws than its own; or q cannot
            be drawn from.
    """
    if num_draws is not None and target_error is not None:
        raise OptionError("num_draws: found beside target_error, wanted one of the two. Leave one out.")
    target = None if target_error is None else check_positive("target_error", target_error)
    if isinstance(confidence, bool) or not isinstance(confidence, float) or not 0.0 < confidence < 1.0:
        raise OptionError(f"confidence: found {confidence!r}, wanted a number between 0 and 1, such as 0.95.")
    check_count("budget", budget, least=2)
    seed = check_seed(seed)
    begin = time.perf_counter()
    source, integrand = as_source(q), Integrand(f)
    # all the draws that there are, where they cannot be added to
    usual = NUM_DRAWS if source.independent else sys.maxsize
    count = usual if num_draws is None else check_count("num_draws", num_draws, least=2)
    chosen = choose_method(method, source, options)
    with isolated(seed=child_seed(seed, "expect")):
        run = chosen.start(integrand, source, seed)
        if target is None:
            run.extend(count)
            found, status = run.estimate(), "fixed"
        else:
            found, status = _until(run, target, budget)
    config = {
        "q": source.label,
        "method": chosen.name,
        "options": dict(options),
        "confidence": confidence,
        "seed": seed,
        "num_draws": num_draws if target is None else None,
        "target_error": target,
        "budget": budget,
        "versions": versions(),
    }
    return _result(found, chosen.name, status, time.perf_counter() - begin, config)


def as_source(q: Any) -> Source:
    """What draws from q.

    Raises:
        DataError: q is none of what can be averaged over.
    """
    if isinstance(q, Distribution):
        return DistributionSource(q)
    if isinstance(q, Fit):
        return FitSource(q)
    if isinstance(q, xr.DataTree):
        return TreeSource(q)
    if callable(q):
        return SamplerSource(q)
    raise DataError(
        f"q: found {type(q).__name__}, wanted a torch or Pyro distribution, a fit, a DataTree of draws, or a function "
        "that takes a number of draws and returns them."
    )


def _until(run: Run, target: float, budget: int) -> tuple[Estimate, str]:
    """Double the draws until the error is met and can be trusted, or the budget is spent."""
    batch, before = min(FIRST_DRAWS, budget), 0
    while True:
        run.extend(batch)
        found = run.estimate()
        error = float(np.max(found.standard_error)) if found.standard_error.size else 0.0
        # an error bar that cannot be trusted, as of draws that are all equal, has not met anything
        if error <= target and all(check.passed is True or check.name in NOT_MENDED for check in found.checks):
            return found, "met"
        batch = min(found.num_draws, budget - found.num_draws)
        if batch < 2 or found.num_draws == before:
            return found, "budget"
        before = found.num_draws


def _result(found: Estimate, method: str, status: str, seconds: float, config: dict[str, Any]) -> Expectation:
    low, high = interval_of(found.value, found.standard_error, found.degrees_of_freedom, config["confidence"])
    return Expectation(
        estimate=plain_value(found.value),
        standard_error=plain_value(found.standard_error),
        interval=(float(low), float(high)) if np.ndim(low) == 0 else np.stack([low, high]),
        ess=plain_value(found.ess),
        num_draws=found.num_draws,
        method=method,
        status=status,
        checks=found.checks,
        seconds=seconds,
        config=config,
        evidence=found.evidence or {},
    )
