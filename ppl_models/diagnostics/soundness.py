"""What draws must be before anything is measured on them: finite, and spread out."""

import math

import numpy as np
import xarray as xr

from ppl_models.checks import Check
from ppl_models.diagnostics.deviations import is_constant
from ppl_models.diagnostics.labelled import labelled_draws


def check_finite(draws: xr.Dataset) -> Check:
    """Whether every draw is a number.

    Args:
        draws: draws of the fit, dims (chain, draw, event...).

    Returns:
        The check `finite draws`; value is the share of draws in which a parameter is NaN or infinite.
    """
    found = labelled_draws(draws)
    bad = ~np.isfinite(found.values)
    share = float(bad.any(axis=2).mean())
    if not share:
        return Check("finite draws", 0.0, 0.0, True, "")
    shares = bad.mean(axis=(0, 1))
    worst = int(shares.argmax())
    detail = f"{100 * shares[worst]:.3g} % of the draws of `{found.labels[worst]}` are NaN or infinite"
    return Check("finite draws", share, 0.0, False, "another parametrisation, initial values or guide", detail=detail)


def check_spread(latents: xr.Dataset) -> Check:
    """Whether every latent has some spread among the draws of a guide.

    Args:
        latents: finite draws of the continuous latents, dims (chain, draw, event...); in unconstrained coordinates
            where a support fixes some elements, as those of a Cholesky factor above the diagonal.

    Returns:
        The check `spread`; value is the number of scalar latents that are constant.
    """
    if not latents.data_vars:
        return Check("spread", math.nan, 0.0, True, "", detail="no continuous latents")
    found = labelled_draws(latents)
    constant = is_constant(np.moveaxis(found.values, 2, 0).reshape(len(found.labels), -1))
    names = [label for label, fixed in zip(found.labels, constant, strict=True) if fixed]
    if not names:
        return Check("spread", 0.0, 0.0, True, "")
    named = ", ".join(f"`{name}`" for name in names[:3]) + (", …" if len(names) > 3 else "")
    detail = f"the guide has no spread in {named}: a point carries no uncertainty"
    return Check("spread", float(len(names)), 0.0, False, "use a family that has one", detail=detail)
