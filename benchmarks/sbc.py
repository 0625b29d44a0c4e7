"""Simulation-based calibration of a five-parameter model: seconds for 500 refits, and what they say.

    python benchmarks/sbc.py [--simulations N] [--jobs N] [--guide FAMILY ...] [--kind KIND ...]

The model is a linear regression with an intercept, three slopes and an unknown noise, on 40 data. `seconds` are those
of `ppl.calibrate` as a user waits for it: workers that start, code that they load, simulation, refits, ranks and
checks. The fit itself comes before it, and leaves the compiled code of its steps in the cache. Run it with
PPL_MODELS_CACHE_DIR set to an empty folder for a first time without any cache.
"""

import argparse
import time

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from rich.console import Console
from rich.table import Table

import ppl_models as ppl

NUM_DATA, NUM_SLOPES = 40, 3


def model(x: torch.Tensor, y: torch.Tensor | None = None) -> None:
    intercept = pyro.sample("intercept", dist.Normal(0.0, 2.0))
    slopes = pyro.sample("slopes", dist.Normal(0.0, 1.0).expand([NUM_SLOPES]).to_event(1))
    noise = pyro.sample("noise", dist.LogNormal(0.0, 0.5))
    mean = intercept.unsqueeze(-1) + (x * slopes.unsqueeze(-2)).sum(-1)
    with pyro.plate("datum", NUM_DATA):
        pyro.sample("y", dist.Normal(mean, noise.unsqueeze(-1)), obs=y)


def data() -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(NUM_DATA, NUM_SLOPES))
    y = 0.5 + x @ np.array([1.0, -0.5, 0.2]) + 0.8 * rng.normal(size=NUM_DATA)
    return {"x": torch.from_numpy(x), "y": torch.from_numpy(y)}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--guide", nargs="+", default=["full_rank", "normal", "laplace"])
    parser.add_argument("--kind", nargs="+", default=["prior"])
    return parser.parse_args()


def main() -> None:
    options = arguments()
    columns = ("guide", "kind", "fit, s", "SBC, s", "a refit, ms", "converged", "result", "worst")
    table = Table(*columns, title=f"{options.simulations} refits in {options.jobs} processes")
    for guide in options.guide:
        started = time.perf_counter()
        fit = ppl.fit(model, data(), guide=guide, seed=1)
        seconds = time.perf_counter() - started
        for kind in options.kind:
            found = ppl.calibrate(fit, kind=kind, num_simulations=options.simulations, n_jobs=options.jobs)
            converged = float((found.ranks["status"] == "converged").mean())
            worst = found.worst(1)
            table.add_row(
                guide,
                kind,
                f"{seconds:.1f}",
                f"{found.seconds:.1f}",
                f"{1e3 * found.refit_seconds / options.simulations:.0f}",
                f"{100 * converged:.1f} %",
                {True: "passed", False: "failed", None: "not settled"}[found.passed],
                f"{worst.index[0]}: {worst['shape'].iloc[0]}",
            )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
