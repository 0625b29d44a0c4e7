"""Gates that MCMC draws must pass before a fit is judged against them."""

import math
from collections.abc import Sequence

import numpy as np
import xarray as xr
from arviz_stats.base import array_stats
from numpy.typing import ArrayLike, NDArray

from ppl_models.checks import Check, all_passed
from ppl_models.diagnostics.deviations import is_constant
from ppl_models.diagnostics.labelled import LabelledDraws, labelled_draws
from ppl_models.inference.chain_limits import ESS_LIMIT, RHAT_LIMIT

Float64Array = NDArray[np.float64]


def baseline_gates(posterior: xr.Dataset, diverging: ArrayLike | None = None) -> tuple[Check, ...]:
    """Whether MCMC draws may stand for the truth.

    Args:
        posterior: draws, dims (chain, draw, event...).
        diverging: whether each draw diverged, shape (chain, draw); None for a sampler that has no divergences.

    Returns:
        Checks `R-hat` (rank-normalised, split, at most 1.01), `bulk ESS` and `tail ESS` (at least 400) of the worst
        parameter, and `divergences` (none) unless `diverging` is None. Constant parameters are skipped. A single
        chain is split in two, and the detail says so. A gate that cannot be measured (NaN draws, fewer than eight
        draws a chain, nothing that varies) has `passed` None.

    Raises:
        DataError: a variable without the dims `chain` and `draw`.

    Vehtari et al. (2021), Rank-normalization, folding, and localization, Bayesian Analysis 16(2).
    """
    draws = labelled_draws(posterior, what="baseline")
    checks = _convergence(draws)
    return checks if diverging is None else (*checks, _divergences(np.asarray(diverging)))


def gates_passed(gates: Sequence[Check]) -> bool:
    """Whether there are gates and every one of them is passed; one that could not be measured is not."""
    return all_passed(gates)


def _convergence(draws: LabelledDraws) -> tuple[Check, ...]:
    values = draws.values
    num_chains, num_draws, _ = values.shape
    if obstacle := _obstacle(draws):
        return tuple(
            Check(name, math.nan, limit, None, "sample again", detail=obstacle)
            for name, limit in (("R-hat", RHAT_LIMIT), ("bulk ESS", ESS_LIMIT), ("tail ESS", ESS_LIMIT))
        )
    vary = np.flatnonzero(~is_constant(np.moveaxis(values, 2, 0).reshape(values.shape[2], -1)))
    labels = [draws.labels[index] for index in vary]
    chains = np.ascontiguousarray(np.moveaxis(values[..., vary], 2, 0))
    halves = chains if num_chains > 1 else chains[..., : num_draws // 2 * 2].reshape(len(vary), 2, -1)
    single = " (one chain, split in two: it cannot show a mode that the chain missed)" if num_chains == 1 else ""
    with np.errstate(divide="ignore", invalid="ignore"):  # chains stuck at different values
        rhat = np.asarray(array_stats.rhat(halves, chain_axis=-2, draw_axis=-1, method="rank"), dtype=float)
        bulk = np.asarray(array_stats.ess(chains, chain_axis=-2, draw_axis=-1, method="bulk"), dtype=float)
        tail = np.asarray(
            array_stats.ess(chains, chain_axis=-2, draw_axis=-1, method="tail", prob=(0.05, 0.95)), dtype=float
        )
    return (
        _gate("R-hat", rhat, RHAT_LIMIT, 1, labels, "run longer, from other initial points, or reparametrise", single),
        _gate("bulk ESS", bulk, ESS_LIMIT, -1, labels, "run longer", ""),
        _gate("tail ESS", tail, ESS_LIMIT, -1, labels, "run longer", ""),
    )


def _obstacle(draws: LabelledDraws) -> str:
    """Why nothing can be measured, or an empty text."""
    num_draws = draws.values.shape[1]
    if num_draws < 8:
        return f"{num_draws} draws a chain, needs at least 8"
    bad = ~np.isfinite(draws.values)
    if bad.any():
        worst = int(bad.sum(axis=(0, 1)).argmax())
        return f"{bad[..., worst].sum()} draws of {draws.labels[worst]} are NaN or infinite"
    flat = np.moveaxis(draws.values, 2, 0).reshape(draws.values.shape[2], -1)
    return "no parameter varies" if is_constant(flat).all() else ""


def _gate(name: str, values: Float64Array, limit: float, sign: int, labels: list[str], advice: str, note: str) -> Check:
    """The worst value, where sign is 1 for an upper limit and -1 for a lower one."""
    if np.isnan(values).any():
        label = labels[int(np.isnan(values).argmax())]
        return Check(name, math.nan, limit, None, advice, detail=f"{label} could not be measured{note}")
    worst = int((sign * values).argmax())
    value = float(values[worst])
    passed = sign * value <= sign * limit
    return Check(name, value, limit, passed, "" if passed else advice, detail=f"worst: {labels[worst]}{note}")


def _divergences(diverging: NDArray[np.generic]) -> Check:
    count = int(diverging.astype(bool).sum())
    advice = "reparametrise or raise the target acceptance rate" if count else ""
    return Check("divergences", float(count), 0.0, count == 0, advice, detail=f"of {diverging.size:,} draws")
