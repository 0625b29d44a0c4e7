"""The aggregated posterior q(z), the encoder averaged over the data, against the prior that generation draws from."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.stats import ks_2samp

from ppl_models.checks import Check
from ppl_models.diagnostics.classifier import auc_limit, check_classifier
from ppl_models.diagnostics.moments import RESOLUTION
from ppl_models.errors import DataError

NAME = "aggregated posterior"
ADVICE = "a learned prior (VampPrior, flow), or fewer units; generate from the aggregated posterior meanwhile"
FEWEST = 100
MARGIN = 1.5
"""Of a squared error that comes from ten splits."""

Float64Array = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class AggregatedPosterior:
    """How the latents of the data lie beside draws of the prior.

    Attributes:
        check: a classifier's two-sample test of all units together; its value is the AUC, 0.5 where nothing tells the
            two apart.
        table: one row per unit: mean and sd in prior sds from the prior's mean, `kl` of the normals of these moments
            in nats, and the p-value of a Kolmogorov-Smirnov test.
        kl: KL of the normals of q(z) and p(z) with their means and covariances, all units together, nats: more than
            the sum over the units where units have become dependent.
    """

    check: Check
    table: pd.DataFrame = field(repr=False)
    kl: float

    def __repr__(self) -> str:
        return f"AggregatedPosterior: KL of the normals {self.kl:.3f} nats\n{self.check}\n{self.table}"


def aggregated_posterior(
    draws: ArrayLike, prior: ArrayLike, *, labels: Sequence[str] | None = None, seed: int = 0
) -> AggregatedPosterior:
    """Compare one draw of q(z | x) for each datum with draws of the prior: any prior, learned or not.

    The ELBO charges q(z) for its distance from p(z), yet a small one per datum still leaves holes: places of prior mass
    without data, whose decoded rows look like nothing.

    Args:
        draws: one draw of q(z | x) for each of independent data, shape (row, unit); at least 100 rows to be judged.
        prior: independent draws of p(z), shape (draw, unit); better as many as rows or more.
        labels: names of the units; None takes z[0], z[1], ...
        seed: of the test's splits.

    Raises:
        DataError: the shapes do not agree.

    Hoffman and Johnson (2016), ELBO surgery; Rosca, Lakshminarayanan and Mohamed (2018), Distribution matching in
    variational inference.
    """
    latents, drawn = np.asarray(draws, dtype=float), np.asarray(prior, dtype=float)
    if (
        latents.ndim != 2
        or drawn.ndim != 2
        or latents.shape[1] != drawn.shape[1]
        or min(map(len, (latents, drawn))) < 2
    ):
        raise DataError(
            f"draws: shape {latents.shape}, prior {drawn.shape}; needs (row, unit) and (draw, unit), two or more each."
        )
    names = list(labels) if labels is not None else [f"z[{unit}]" for unit in range(latents.shape[1])]
    if len(names) != latents.shape[1]:
        raise DataError(f"labels: {len(names)} for {latents.shape[1]} units, needs one each.")
    centre, scale = drawn.mean(axis=0), drawn.std(axis=0, ddof=1)
    scale = np.where(scale > 0.0, scale, 1.0)
    centred = (latents - centre) / scale
    mean, sd = centred.mean(axis=0), centred.std(axis=0, ddof=1)
    with np.errstate(divide="ignore"):
        kl = 0.5 * (mean**2 + sd**2 - 1.0 - 2.0 * np.log(sd))
    p_values = [float(np.asarray(ks_2samp(ours, theirs))[1]) for ours, theirs in zip(latents.T, drawn.T, strict=True)]
    table = pd.DataFrame({"mean": mean, "sd": sd, "kl": kl, "p_value": p_values}, index=pd.Index(names, name="unit"))
    found = _told_apart(latents, drawn, names, seed)
    return AggregatedPosterior(found, table.sort_values("kl", ascending=False), _normal_kl(latents, drawn))


def _told_apart(latents: Float64Array, drawn: Float64Array, names: list[str], seed: int) -> Check:
    if min(len(latents), len(drawn)) < FEWEST:
        limit, detail = auc_limit(latents.shape[1]), f"not measured: {len(latents)} rows, needs at least {FEWEST}"
        return Check(NAME, math.nan, limit, None, "more rows", detail=detail)
    quarter = len(drawn) // 4
    chains = drawn[: 4 * quarter].reshape(4, quarter, -1)
    trees = [
        xr.Dataset({name: (("chain", "draw"), values[..., unit]) for unit, name in enumerate(names)})
        for values in (latents[None], chains)
    ]
    found = check_classifier(trees[0], trees[1], seed=seed)
    advice = ADVICE if found.passed is False else "more rows" if found.passed is None else ""
    detail = found.detail.replace("the baseline's own halves", "halves of the prior's draws")
    if found.passed is None and found.value <= 0.5 + RESOLUTION * found.mcse:
        detail += f"; about {_rows_to_resolve(found, len(latents), len(drawn)):,} rows would tell"
    return replace(
        found, name=NAME, advice=advice, detail=detail.replace("the fit away", "the aggregated posterior away")
    )


def _rows_to_resolve(found: Check, num_rows: int, num_prior: int) -> int:
    """Rows at which chance stays within the limit: squared errors go with 1 / rows + 1 / prior draws.

    The prior is taken to have as many draws as there are rows, where there are more rows.
    """
    unit = MARGIN * found.mcse**2 / (1.0 / num_rows + 1.0 / num_prior)
    wanted = ((found.limit - 0.5) / RESOLUTION) ** 2 / unit - 1.0 / num_prior
    rows = 1.0 / wanted if wanted > 1.0 / num_prior else 2.0 / (wanted + 1.0 / num_prior)
    return 100 * math.ceil(rows / 100.0)


def _normal_kl(latents: Float64Array, drawn: Float64Array) -> float:
    """KL of the normals with the two samples' moments."""
    ours, theirs = (np.atleast_2d(np.cov(each.T)) for each in (latents, drawn))
    shift = latents.mean(axis=0) - drawn.mean(axis=0)
    signs, sizes = zip(*(np.linalg.slogdet(each) for each in (ours, theirs)), strict=True)
    if min(signs) <= 0:
        return math.inf
    inverse = np.linalg.inv(theirs)
    return float(0.5 * (np.trace(inverse @ ours) + shift @ inverse @ shift - len(shift) + sizes[1] - sizes[0]))
