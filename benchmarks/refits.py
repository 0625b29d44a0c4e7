"""Seconds of a refit beside a whole fit, and of 500 refits on two processes.

    python benchmarks/refits.py [case ...] [--refits 500] [--processes 2] [--draws 100]

The model has five parameters: a linear regression with three slopes, an intercept and a log scale, on 50 rows. Every
refit has data of its own, drawn from the prior. All but `build` and `wall` are processor seconds, which other work on
the machine does not touch; those of many refits are of the busiest process, with its preparation.
"""

import argparse
import time

import numpy as np
import pyro
import pyro.distributions as dist
from joblib import Parallel, delayed

import ppl_models as ppl
from ppl_models.inference.refitting import RefitSpec, Refitter

ROWS, SLOPES = 50, 3
CASES = {
    "normal": {"guide": "normal", "backend": "native"},
    "full_rank": {"guide": "full_rank", "backend": "native"},
    "batch_and_match": {"guide": "batch_and_match"},
    "linear_response": {"guide": "linear_response"},
    "dadvi": {"guide": "dadvi"},
    "pathfinder": {"guide": "pathfinder"},
    "newton": {"guide": "laplace"},
}


def regression(x, y):
    """Three slopes, an intercept and a log scale."""
    slopes = pyro.sample("slopes", dist.Normal(0.0, 1.0).expand([SLOPES]).to_event(1))
    intercept = pyro.sample("intercept", dist.Normal(0.0, 1.0))
    log_scale = pyro.sample("log_scale", dist.Normal(0.0, 0.5))
    with pyro.plate("row", len(x)):
        pyro.sample("y", dist.Normal(intercept + x @ slopes, log_scale.exp()), obs=y)


def simulated(seed):
    """Data from a draw of the prior; the covariates are always the same."""
    rng = np.random.default_rng(seed)
    x = np.random.default_rng(0).standard_normal((ROWS, SLOPES))
    mean = rng.standard_normal() + x @ rng.standard_normal(SLOPES)
    return {"x": x, "y": mean + np.exp(0.5 * rng.standard_normal()) * rng.standard_normal(ROWS)}


def share(spec, seeds, num_draws):
    """What one process does: one refitter, many refits; with its processor seconds."""
    began = time.process_time()
    refitter = spec.build()
    done = [refitter.draws(simulated(seed), num_draws, seed=seed) for seed in seeds]
    return time.process_time() - began, [(one.status, one.note) for one in done]


def timed(work, repeats):
    """Processor and wall seconds of one call, after one that warms up."""
    work(0)
    began, clock = time.process_time(), time.perf_counter()
    for number in range(1, repeats + 1):
        work(number)
    return (time.process_time() - began) / repeats, (time.perf_counter() - clock) / repeats


def main():
    """Time the cases named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], metavar="case")
    parser.add_argument("--refits", type=int, default=500)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--draws", type=int, default=100)
    given = parser.parse_args()
    many = f"{given.refits} refits"
    print(f"{'case':>16} {'fit':>7} {'refit':>7} {'build':>7} {many:>12} {'wall':>7}  not converged, whole")
    for name in given.cases or CASES:
        options = CASES[name]
        fit = ppl.fit(regression, simulated(0), seed=1, **options)
        whole, _ = timed(lambda seed, o=options: ppl.fit(regression, simulated(seed), seed=seed, **o), 5)
        began = time.perf_counter()
        refitter = Refitter(fit)
        build = time.perf_counter() - began
        each, _ = timed(lambda seed, r=refitter: r.draws(simulated(seed), given.draws, seed=seed), 20)
        spec, began = RefitSpec.of(fit), time.perf_counter()
        seeds = np.array_split(np.arange(given.refits), given.processes)
        parts = Parallel(given.processes)(delayed(share)(spec, part.tolist(), given.draws) for part in seeds)
        wall = time.perf_counter() - began
        busiest = max(seconds for seconds, _ in parts)
        done = [one for _, part in parts for one in part]
        odd = sum(status != "converged" for status, _ in done), sum("whole fit" in note for _, note in done)
        print(
            f"{name:>16} {whole:7.3f} {each:7.3f} {build:7.2f} {busiest:12.1f} {wall:7.1f}  {odd[0]}, {odd[1]}",
            flush=True,
        )


if __name__ == "__main__":
    main()
