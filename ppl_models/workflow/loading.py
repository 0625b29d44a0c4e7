"""`ppl.load_fit`: a saved fit, as it was."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ppl_models.inference import Fit, GuideSpec, fit_storage, rebuild_fit
from ppl_models.posterior import Coords, Dims
from ppl_models.program import Data
from ppl_models.workflow.auto.result import from_header


def load_fit(
    path: str | Path,
    model: Callable[..., Any],
    data: Data,
    *,
    guide: GuideSpec | None = None,
    coords: Coords | None = None,
    dims: Dims | None = None,
    other_data: bool = False,
) -> Fit:
    """Read a fit that `Fit.save` wrote. The file holds numbers only: model, data and guide come from you.

    Args:
        path: the file.
        model: the model that was fitted.
        data: the data that it was fitted to, or others, where `other_data` says so.
        guide: the guide that was fitted; not needed where it was a family given by name.
        coords: labels of the elements along each dim of the draws; None takes the fit's.
        dims: names of a site's axes; None takes the fit's.
        other_data: the data are other rows, at which an amortised guide serves as it is, as in `Fit.at`: the data of
            the training need not be kept.

    Raises:
        FileError: the file is missing, damaged or no fit.
        DataError: the data are not those of the fit, or the guide is missing or another one.
        GuideError: `other_data` for a guide that keeps parameters for each row of its own data.
    """
    stored = fit_storage.read(path)
    fit = rebuild_fit(stored, path, model, data, guide=guide, coords=coords, dims=dims, other_data=other_data)
    return from_header(fit, stored.header)
