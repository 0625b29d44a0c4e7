"""What a fit and a baseline both hold, so that they can be compared."""

import numpy as np
import xarray as xr

from ppl_models.errors import DataError
from ppl_models.inference import Fit

SAME_DATA = 1e-5  # relative; single precision stores data so


def shared_draws(
    fit: Fit, draws: xr.Dataset, tree: xr.DataTree, baseline: xr.DataTree
) -> tuple[xr.Dataset, xr.Dataset]:
    """Fit's and baseline's draws of what both hold, or a `DataError` that says why they cannot be compared."""
    if not isinstance(baseline, xr.DataTree) or "posterior" not in baseline.children:
        raise DataError(
            f"baseline: found {type(baseline).__name__} without a group 'posterior', wanted draws as from ppl.sample "
            "(ppl.to_datatree makes them from other samplers' output)."
        )
    if "guide" in baseline.attrs:
        raise DataError(
            f"baseline: found a fit's own draws (guide {baseline.attrs['guide']!r}), wanted draws by MCMC, "
            "as from ppl.sample: a fit cannot vouch for itself."
        )
    reference = baseline["posterior"].to_dataset()
    missing = [site.name for site in fit.program.sites.latent if site.name not in reference]
    if missing:
        raise DataError(
            f"baseline: it lacks '{missing[0]}', a latent of the fit; it has {', '.join(map(str, reference))}. "
            "Compare posteriors of the same model."
        )
    _check_same_data(tree, baseline)
    names = [name for name in draws.data_vars if name in reference]
    return draws[names], reference[names]


def _check_same_data(tree: xr.DataTree, baseline: xr.DataTree) -> None:
    if not all("observed_data" in group.children for group in (tree, baseline)):
        return
    ours, theirs = (group["observed_data"].to_dataset() for group in (tree, baseline))
    for name in set(ours.data_vars) & set(theirs.data_vars):
        found, wanted = theirs[name].to_numpy(), ours[name].to_numpy()
        if found.shape != wanted.shape or not all(array.dtype.kind in "fiub" for array in (found, wanted)):
            continue
        if not np.allclose(found.astype(float), wanted.astype(float), rtol=SAME_DATA, atol=0.0, equal_nan=True):
            raise DataError(
                f"baseline: its observed data {str(name)!r} have other values than the fit's, wanted the same data. "
                "Sample the baseline from the data of the fit."
            )
