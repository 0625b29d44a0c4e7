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
) -> Fit:
    """Read a fit that `Fit.save` wrote. The file holds numbers only: model, data and guide come from you.

    Args:
        path: the file.
        model: the model that was fitted.
        data: the data that it was fitted to.
        guide: the guide that was fitted; not needed where it was a family given by name.
        coords: labels of the elements along each dim of the draws; None takes the fit's.
        dims: names of a site's axes; None takes the fit's.

    Raises:
        FileError: the file is missing, damaged or no fit.
        DataError: the data are not those of the fit, or the guide is missing or another one.
    """
    stored = fit_storage.read(path)
    fit = rebuild_fit(stored, path, model, data, guide=guide, coords=coords, dims=dims)
    return from_header(fit, stored.header)
