"""Ranks of a calibration as labelled arrays, and a row for every scalar quantity."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from ppl_models.checks import Check
from ppl_models.diagnostics.calibration import (
    check_coverage,
    check_refits,
    check_sbc,
    check_vsbc,
    coverage_table,
    sbc_p_values,
    symmetry_p_values,
)
from ppl_models.diagnostics.calibration.coverage import coverage_p_values
from ppl_models.diagnostics.calibration.evidence import MIN_SIMULATIONS
from ppl_models.diagnostics.calibration.refits import CONVERGED
from ppl_models.diagnostics.calibration.shapes import rank_moments, shape_in_words
from ppl_models.diagnostics.labelled import labelled_draws

SYMMETRY = "symmetry"


def ranks_dataset(
    ranks: Mapping[str, np.ndarray], statuses: Sequence[str], dims: Mapping[str, Sequence[str]], coords: Mapping
) -> xr.Dataset:
    """Ranks by quantity, dims (simulation, *event), with the refits' statuses along `simulation`."""
    variables = {
        name: (("simulation", *dims.get(name, tuple(f"{name}_dim_{i}" for i in range(value.ndim - 1)))), value)
        for name, value in ranks.items()
    }
    used = {dim for names, _ in variables.values() for dim in names}
    labels = {dim: np.asarray(values) for dim, values in coords.items() if dim in used}
    status = ("simulation", np.array(statuses, dtype=np.str_))
    return xr.Dataset(variables, coords={**labels, "simulation": np.arange(len(statuses)), "status": status})


def scalar_ranks(ranks: xr.Dataset) -> tuple[np.ndarray, tuple[str, ...]]:
    """Ranks of the refits that converged, shape (simulation, quantity), and a label for each scalar quantity."""
    converged = ranks["status"].to_numpy() == CONVERGED
    plain = ranks.drop_vars(["simulation", "status"]).rename(simulation="draw").expand_dims("chain")
    found = labelled_draws(plain, what="ranks")
    return found.values[0, converged].astype(np.int64), found.labels


def judge(
    ranks: xr.Dataset, notes: Sequence[str], *, kind: str, num_draws: int, false_alarm_rate: float
) -> tuple[pd.DataFrame, pd.DataFrame, tuple[Check, ...]]:
    """A row for every quantity, the coverage of its intervals, and the checks.

    The false-alarm rate is shared by the checks, and within each by the quantities.
    """
    statuses = [str(status) for status in ranks["status"].to_numpy()]
    said = next((note for status, note in zip(statuses, notes, strict=True) if status != CONVERGED and note), "")
    refits = check_refits(statuses, note=said)
    if not statuses:
        return pd.DataFrame(), pd.DataFrame(), (refits,)
    values, labels = scalar_ranks(ranks)
    makers = (check_vsbc,) if kind == SYMMETRY else (check_sbc, check_coverage)
    rate = false_alarm_rate / len(makers)
    checks = tuple(make(values, num_draws, labels, false_alarm_rate=rate) for make in makers)
    coverage = coverage_table(values, num_draws, labels)
    return _table(values, labels, kind, num_draws, rate), coverage, (*checks, refits)


def _table(ranks: np.ndarray, labels: Sequence[str], kind: str, num_draws: int, rate: float) -> pd.DataFrame:
    tests = {"symmetry_p": symmetry_p_values} if kind == SYMMETRY else _BOTH
    limit = rate / len(labels)
    if len(ranks) < MIN_SIMULATIONS:
        unknown = dict.fromkeys((*tests, "statistic"), np.nan)
        return pd.DataFrame(
            {**unknown, "limit": limit, "passed": None, "shape": "not measured"}, index=pd.Index(labels)
        )
    p_values = {name: test(ranks, num_draws) for name, test in tests.items()}
    smallest = np.min(list(p_values.values()), axis=0)
    bias, spread = rank_moments(ranks, num_draws)
    passed = smallest >= limit
    words = [
        ("symmetric" if kind == SYMMETRY else "uniform") if good else shape_in_words(*row, symmetry=kind == SYMMETRY)
        for good, row in zip(passed, zip(bias, spread, strict=True), strict=True)
    ]
    columns = {"statistic": smallest, "limit": limit, "passed": passed, "shape": words}
    moments = {"mean_se": bias, "spread_se": spread}
    return pd.DataFrame({**columns, **p_values, **moments}, index=pd.Index(labels, name="quantity"))


_BOTH = {"sbc_p": sbc_p_values, "coverage_p": coverage_p_values}
