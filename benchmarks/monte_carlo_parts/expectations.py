"""Expectations: a million draws beside NumPy's two lines, memory, and every method on every named integrand."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributions as dist

from ppl_models.inference.monte_carlo.integrands import INTEGRANDS, KnownExpectation
from ppl_models.workflow.expecting import expect
from ppl_models.workflow.method_comparison import compare_methods

ROOT = Path(__file__).parents[2]
NUM_DRAWS = 1_000_000
MEMORY = """
import json, sys, torch
from torch import distributions as dist
from benchmarks.race.timing import memory
from ppl_models.workflow.expecting import expect
torch.set_num_threads(1)
found = expect(lambda z: torch.exp(-(z**2)), dist.Normal(0.0, 1.0), int(sys.argv[1]))
print(json.dumps({"peak": memory().get("peak"), "seconds": found.seconds}))
"""


def speed_rows(quick: bool) -> list[dict[str, Any]]:
    """The founding example in time, interleaved with NumPy on one thread, and in memory, a process for each size."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = _time_rows(15 if quick else 101)
    finally:
        torch.set_num_threads(threads)
    return rows + [_memory_row(count) for count in ((10**6, 10**7) if quick else (10**6, 10**8))]


def efficiency_rows(quick: bool) -> list[dict[str, Any]]:
    """One row for each integrand and method: errors, variance times cost, and how errors fall with the draws."""
    count, repeats = (4_096, 8) if quick else (65_536, 50)
    return [row for known in INTEGRANDS.values() for row in _efficiency(known, count, repeats)]


def _time_rows(num_repeats: int) -> list[dict[str, Any]]:
    random, q = np.random.default_rng(0), dist.Normal(0.0, 1.0)

    def numpy_lines() -> None:
        z = random.standard_normal(NUM_DRAWS)
        np.exp(-(z**2)).mean()

    def ours() -> None:
        expect(lambda z: torch.exp(-(z**2)), q, num_draws=NUM_DRAWS)

    runs: dict[str, Callable[[], None]] = {
        "ppl.expect, with error and tail check": ours,
        "NumPy, two lines": numpy_lines,
    }
    wall: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(num_repeats + 2):
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            wall[name].append(1e3 * (time.perf_counter() - begin))
    times = {name: np.array(found[2:]) for name, found in wall.items()}
    ratio = float(np.median(times["NumPy, two lines"]) / np.median(times["ppl.expect, with error and tail check"]))
    return [
        {
            "what": name,
            "draws": NUM_DRAWS,
            "median_ms": float(np.median(found)),
            "best_ms": float(found.min()),
            "times_faster_than_numpy": ratio if name != "NumPy, two lines" else 1.0,
        }
        for name, found in times.items()
    ]


def _memory_row(num_draws: int) -> dict[str, Any]:
    command = [sys.executable, "-c", MEMORY, str(num_draws)]
    found = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    return {
        "what": "ppl.expect in a process of its own",
        "draws": num_draws,
        "peak_mib": found["peak"],
        "best_ms": 1e3 * found["seconds"],
    }


def _efficiency(known: KnownExpectation, num_draws: int, num_repeats: int) -> list[dict[str, Any]]:
    found = compare_methods(known.f, known.q, exact=known.exact, num_draws=num_draws, num_repeats=num_repeats)
    rows = []
    for run, (method, row) in zip(found.runs, found.table.to_dict(orient="index").items(), strict=True):
        rows.append(
            {
                "integrand": known.name,
                "method": str(method),
                "draws": int(row["draws"]),
                "exact": known.exact,
                "rmse": row["rmse"],
                "standard_error": row["standard_error"],
                "variance_per_draw": row["variance_per_draw"],
                "ms": 1e3 * row["seconds"],
                # JSON has no infinity: an exact method has no figure
                "efficiency": row["efficiency"] if np.isfinite(row["efficiency"]) else None,
                "slope": row["slope"] if np.isfinite(row["slope"]) else None,
                "trusted": row["trusted"],
                "sizes": run.num_draws.tolist(),
                "errors": found.errors(run).tolist(),
            }
        )
    return rows
