"""Log evidence by importance sampling from a fitted guide."""

import time

import numpy as np

from ppl_models.errors import OptionError
from ppl_models.inference.evidence.importance_bound import draw_weights
from ppl_models.inference.evidence.result import CONFIDENCE, Evidence
from ppl_models.inference.evidence.tail import check_tail
from ppl_models.inference.evidence.weight_means import interval, log_mean, unbiased
from ppl_models.inference.fit_result import Fit
from ppl_models.options import check_count
from ppl_models.seeds import check_seed
from ppl_models.versions import versions

IMPORTANCE = "importance"
LEAST_DRAWS = 100


def importance_evidence(
    fit: Fit, *, num_draws: int = 10_000, by_datum: bool = False, confidence: float = CONFIDENCE, seed: int = 0
) -> Evidence:
    """Log of the mean importance weight of a fit's draws, which lies below the truth in expectation.

    That is `lower`; the estimate has its bias of first order taken out, which would add up over many data.
    Where one plate holds every site, each datum has a mean of its own, and the evidence of all is their product.

    Args:
        fit: whose guide has a density.
        num_draws: draws of the guide, at least 100.
        by_datum: whether to give the evidence of each datum.
        confidence: of the interval.
        seed: seed of the draws.

    Raises:
        OptionError: an option is out of its range; the guide has no density; the fit saw its data in batches or in
            part; `by_datum`, and one latent concerns all data.
    """
    began = time.perf_counter()
    check_count("num_draws", num_draws, least=LEAST_DRAWS)
    check_seed(seed)
    if not fit.has_density or fit.program.batched:
        what = "saw its data in batches" if fit.program.batched else f"has no density: guide '{fit.guide_name}'"
        raise OptionError(f"fit: found one that {what}, wanted one with weights, like a fit by 'normal' of all data.")
    log_weights, scale = draw_weights(fit, num_draws, seed)
    if (scale != 1.0).any():
        raise OptionError(
            "fit: its model sees a subsample of the data, and the evidence is that of all. Give all data."
        )
    each, errors = log_mean(log_weights)
    if by_datum and not each.ndim:
        raise OptionError("by_datum: found True, but a latent of model or guide concerns all data. Leave it out.")
    columns = log_weights.reshape(num_draws, -1)
    worst = int(np.nan_to_num(errors.reshape(-1), nan=np.inf).argmax())
    advice = "The guide misses a part of the posterior: fit a richer one, or take method='bidirectional'."
    corrected = unbiased(each, errors)
    estimate, lower, error = corrected, each, errors
    if not by_datum:
        estimate, lower, error = corrected.sum(), each.sum(), np.sqrt((errors**2).sum())
    return Evidence(
        method=IMPORTANCE,
        log_evidence=estimate,
        standard_error=error,
        interval=interval(np.asarray(estimate), np.asarray(error), num_draws, confidence),
        lower=lower,
        upper=None,
        lower_error=error,
        num_draws=num_draws,
        checks=(check_tail("k-hat", columns[:, worst], advice),),
        config={
            "method": IMPORTANCE,
            "num_draws": num_draws,
            "by_datum": by_datum,
            "confidence": confidence,
            "seed": seed,
            "guide": fit.guide_name,
            "versions": versions(),
        },
        seconds=time.perf_counter() - began,
        log_weights=log_weights if by_datum or not each.ndim else None,
    )
