"""`ppl.elbo_terms` and `ppl.importance_bound`: what a fit's ELBO is made of, and tighter bounds on the evidence."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ppl_models.diagnostics import Check, check_khat, check_khat_by_datum
from ppl_models.errors import OptionError
from ppl_models.inference import Fit
from ppl_models.inference.evidence.elbo_terms import ElboTerms, estimate_terms
from ppl_models.inference.evidence.importance_bound import ImportanceBound, draw_weights, importance_bounds
from ppl_models.options import check_count
from ppl_models.seeds import check_seed
from ppl_models.versions import versions

LEAST_GROUPS = 10
LEAST_DRAWS = 100


def elbo_terms(fit: Fit, *, num_draws: int = 10_000, closed_form: bool = True, seed: int = 0) -> ElboTerms:
    """Split a fit's ELBO into reconstruction and divergence from the prior.

    Args:
        fit: what `ppl.fit` returned.
        num_draws: draws of the guide, at least 100.
        closed_form: whether divergences in closed form take the place of sampled ones, where the sites allow.
        seed: seed of the draws.

    Returns:
        E_q[log p(x | z)], KL(q(z) || p(z)) and their difference in nats, each with its standard error; by datum where
        one plate holds all observations.

    Raises:
        OptionError: an option is out of its range; the guide has no density; the fit saw its data in batches.
        ModelError: the model sums out discrete sites, so that the ELBO has no separate terms; it observes nothing, or a
            prior does not integrate to one.
    """
    began = time.perf_counter()
    _check_fit(fit)
    check_count("num_draws", num_draws, least=LEAST_DRAWS)
    config = _config(fit, {"num_draws": num_draws, "closed_form": closed_form, "seed": check_seed(seed)})
    found = estimate_terms(fit, num_draws, seed, config, closed_form=closed_form)
    return replace(found, seconds=time.perf_counter() - began)


def importance_bound(
    fit: Fit, *, num_importance: Sequence[int] = (1, 5, 50), num_draws: int = 10_000, seed: int = 0
) -> ImportanceBound:
    """Importance weighted bounds on the log evidence, each datum with unscaled weights of its own where it has any.

    Where one plate (or several) holds every site of model and guide, the evidence is a product over its elements and
    each has a bound of its own; else one weight counts for all data. One weight for data with latents of their own
    would give a looser bound, and weights scaled for a subsample none.

    Args:
        fit: what `ppl.fit` returned.
        num_importance: numbers of weights K inside the logarithm; 1 gives the ELBO.
        num_draws: draws of the guide that each bound is estimated from, at least 100 and ten times the largest K.
        seed: seed of the draws.

    Returns:
        A bound for each K with its standard error, and an estimate of log p(x) without the bound's first-order bias.
        k-hat by datum says whose weights are too heavy for either to be trusted.

    Raises:
        OptionError: an option is out of its range; the guide has no density; the fit saw its data in batches.
        ModelError: the model observes nothing, or a prior does not integrate to one.
    """
    began = time.perf_counter()
    _check_fit(fit)
    sizes = _check_sizes(num_importance)
    check_count("num_draws", num_draws, least=max(LEAST_DRAWS, LEAST_GROUPS * max(sizes)))
    log_weights, scale = draw_weights(fit, num_draws, check_seed(seed))
    table, by_datum, errors = importance_bounds(log_weights, scale, sizes)
    config = _config(fit, {"num_importance": sizes, "num_draws": num_draws, "seed": seed})
    return ImportanceBound(
        table=table,
        by_datum=by_datum,
        error_by_datum=errors,
        num_draws=num_draws,
        checks=(_check_tails(log_weights, seed),),
        config=config,
        log_weights=log_weights,
        seconds=time.perf_counter() - began,
    )


def _check_tails(log_weights: np.ndarray, seed: int) -> Check:
    if log_weights.ndim == 1:
        return check_khat(log_weights, seed=seed)
    labels = [f"datum[{', '.join(map(str, place))}]" for place in np.ndindex(log_weights.shape[1:])]
    return check_khat_by_datum(log_weights.reshape(len(log_weights), -1), labels)


def _check_sizes(num_importance: Any) -> tuple[int, ...]:
    if isinstance(num_importance, (int, np.integer)):
        num_importance = (num_importance,)
    if isinstance(num_importance, str) or not isinstance(num_importance, Sequence) or not num_importance:
        raise OptionError(f"num_importance: found {num_importance!r}, wanted whole numbers, like (1, 5, 50).")
    return tuple(check_count("num_importance", size) for size in num_importance)


def _check_fit(fit: Any) -> None:
    if not isinstance(fit, Fit):
        raise OptionError(f"fit: found {type(fit).__name__}, wanted the result of ppl.fit.")
    if not fit.has_density:
        what = "a point has" if fit.point else "particles have"
        raise OptionError(f"fit: guide '{fit.guide_name}' has no density, {what} no ELBO. Fit with 'normal', say.")
    if fit.program.batched:
        raise OptionError(
            "fit: found one that saw its data in batches (a DataLoader), wanted one of all data at once: the density "
            "of all of them is not known here. Fit with the data themselves."
        )


def _config(fit: Fit, options: dict[str, Any]) -> dict[str, Any]:
    return {**options, "guide": fit.guide_name, "fit": dict(fit.config), "versions": versions()}
