"""`ppl.check`: can a fit be trusted?"""

import xarray as xr

from ppl_models.diagnostics import Verdict
from ppl_models.errors import OptionError
from ppl_models.inference import Fit
from ppl_models.options import check_count
from ppl_models.seeds import check_seed
from ppl_models.workflow.auto import AutoFit
from ppl_models.workflow.auto.judging import check_auto
from ppl_models.workflow.judging import check_fit

MIN_DRAWS = 10_000


def check(fit: Fit, *, baseline: xr.DataTree | None = None, num_draws: int = MIN_DRAWS, seed: int = 0) -> Verdict:
    """Judge a fit.

    Args:
        fit: what `ppl.fit` returned.
        baseline: draws of the same posterior by MCMC, as from `ppl.sample`; None judges the fit by its own importance
            weights, which cannot see a mode that the guide missed.
        num_draws: draws of the guide to judge; at least 10,000.
        seed: seed of these draws.

    Returns:
        The verdict ("trust", "correct" or "reject") with its checks, its table of errors by scalar parameter, k-hat and
        the reasons in words.

    Raises:
        DataError: fit and baseline do not hold the same parameters or were made from other data, or the baseline is a
            fit's own draws.
        OptionError: an option is out of its range.

    Warns:
        BaselineWarning: the baseline fails its own gates, and is set aside.
    """
    if not isinstance(fit, Fit):
        raise OptionError(f"fit: found {type(fit).__name__}, wanted the result of ppl.fit.")
    check_count("num_draws", num_draws, least=MIN_DRAWS)
    if isinstance(fit, AutoFit):
        return check_auto(fit, baseline=baseline, num_draws=num_draws, seed=check_seed(seed))
    return check_fit(fit, baseline=baseline, num_draws=num_draws, seed=check_seed(seed))
