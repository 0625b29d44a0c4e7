"""Sample each problem with the library's NUTS and compare with posteriordb's reference draws.

    python -m benchmarks.posteriordb.verify --folder FOLDER [NAME ...] [--output FILE.json]

A problem passes where every mean lies within 0.15 reference standard deviations of the reference's, and every standard
deviation within 15 %. Run it from the root of the repository; the exit status is 1 where a problem fails.
"""

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import arviz_stats
import numpy as np
from rich.console import Console
from rich.table import Table

import ppl_models as ppl
from benchmarks.posteriordb.problem import Problem
from benchmarks.posteriordb.registry import find_folder, load, names
from ppl_models.errors import UnknownNameError
from ppl_models.files import write_whole
from ppl_models.versions import versions

MAX_MEAN_ERROR = 0.15
MAX_SD_ERROR = 0.15
OPTIONS = {"chains": 4, "warmup": 1_000, "draws": 1_000}


@dataclass(frozen=True)
class Row:
    """How the draws of one problem compare with its reference.

    Attributes:
        name: The problem.
        mean_error: Largest distance of a mean from the reference's, in reference standard deviations.
        sd_error: Largest distance of a ratio of standard deviations from one.
        rhat: Largest rank-normalised split R-hat.
        divergences: Divergent transitions after warm-up.
        compile_seconds: Time to compile the log density.
        seconds: Time to sample.
        backend: What ran the log density.
        note: Why that is not the fastest backend, or empty.
        passed: Whether mean and sd are within their limits.
    """

    name: str
    mean_error: float
    sd_error: float
    rhat: float
    divergences: int
    compile_seconds: float
    seconds: float
    backend: str
    note: str
    passed: bool


def verify(problem: Problem, *, seed: int = 1, backend: str = "auto", **options: Any) -> Row:
    """Sample a problem and compare it with its reference.

    Args:
        problem: What to sample.
        seed: Seed of the chains.
        backend: As for `ppl_models.sample`.
        **options: Options of `ppl_models.sample` that go before the problem's own.
    """
    chosen = {**OPTIONS, **problem.sampling, **options}
    draws = ppl.sample(problem.model, problem.data, seed=seed, backend=backend, **chosen)
    posterior = draws["posterior"]
    mean_error, sd_error = errors(problem, {name: posterior[name].to_numpy() for name in problem.summary})
    rhat = arviz_stats.rhat(draws, var_names=list(problem.summary), method="rank")
    return Row(
        name=problem.name,
        mean_error=mean_error,
        sd_error=sd_error,
        rhat=max(float(rhat[name].max()) for name in problem.summary),
        divergences=int(draws["sample_stats"]["diverging"].to_numpy().sum()),
        compile_seconds=draws.attrs["compile_seconds"],
        seconds=draws.attrs["sampling_time"],
        backend=draws.attrs["backend"],
        note=draws.attrs["backend_note"],
        passed=mean_error <= MAX_MEAN_ERROR and sd_error <= MAX_SD_ERROR,
    )


def errors(problem: Problem, values: dict[str, np.ndarray]) -> tuple[float, float]:
    """Largest error of a mean, in reference sds, and of a ratio of sds; the draws have shape (chain, draw, *shape)."""
    means, sds = [], []
    for name, (mean, sd) in problem.summary.items():
        drawn = values[name].reshape(-1, *mean.shape)
        assert drawn.ndim == 1 + mean.ndim
        means.append(np.max(np.abs(drawn.mean(0) - mean) / sd))
        sds.append(np.max(np.abs(drawn.std(0, ddof=1) / sd - 1.0)))
    return float(max(means)), float(max(sds))


def show(rows: list[Row]) -> Table:
    """The table of the terminal, one row per problem."""
    table = Table(
        "problem", "mean error (sd)", "sd error", "R-hat", "divergent", "compile s", "sample s", "backend", ""
    )
    for row in rows:
        table.add_row(
            row.name,
            f"{row.mean_error:.3f}",
            f"{row.sd_error:.3f}",
            f"{row.rhat:.3f}",
            f"{row.divergences:,}",
            f"{row.compile_seconds:.1f}",
            f"{row.seconds:.1f}",
            row.backend,
            "ok" if row.passed else "FAIL",
        )
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="which problems; all if not given")
    parser.add_argument("--folder", type=Path, help="folder with index.json, else that of PPL_MODELS_POSTERIORDB")
    parser.add_argument("--output", type=Path, help="JSON file for the table")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--backend", default="auto")
    options = parser.parse_args()
    folder = find_folder(options.folder)
    for name in options.names:
        if name not in names():
            raise UnknownNameError("posteriordb problem", name, names())
    rows = []
    for name in options.names or names():
        started = time.perf_counter()
        rows.append(verify(load(name, folder), seed=options.seed, backend=options.backend))
        print(f"{name}: {'ok' if rows[-1].passed else 'FAIL'}, {time.perf_counter() - started:.1f} s", file=sys.stderr)
    Console(width=None if sys.stdout.isatty() else 140).print(show(rows))
    if options.output is not None:
        limits = {"mean_error": MAX_MEAN_ERROR, "sd_error": MAX_SD_ERROR}
        document = {
            "command": "python -m benchmarks.posteriordb.verify",
            "options": {**OPTIONS, "seed": options.seed},
            "limits": limits,
            "versions": versions(),
            "rows": [asdict(row) for row in rows],
        }
        write_whole(options.output, lambda path: path.write_text(json.dumps(document, indent=1) + "\n"))
    return 0 if all(row.passed for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
