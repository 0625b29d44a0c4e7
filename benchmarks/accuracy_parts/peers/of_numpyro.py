"""NumPyro on the models of `numpyro_models`, in float64: its SVI, and its NUTS.

An autoguide is made with its defaults and fitted by `SVI.run`, `Trace_ELBO()` of one particle and Adam of step size
0.01, for 5,000 steps. NUTS with its defaults runs four parallel chains of 1,000 + 1,000 (four host devices, two
threads): the faster of NumPyro's ways to run chains on the CPU. Everything is run twice; the first time compiles.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
import numpyro
from numpyro import handlers
from numpyro.infer import MCMC, NUTS, SVI, Trace_ELBO, autoguide
from numpyro.infer.util import log_density as log_joint
from numpyro.optim import Adam

from benchmarks import posteriordb
from benchmarks.accuracy_parts.against_reference import NUM_DRAWS, errors, khat, or_none
from benchmarks.accuracy_parts.numpyro_models import load

Block = Callable[[int], dict[str, Any]]
STEPS, STEP_SIZE = 5_000, 0.01
CHAINS, WARMUP, DRAWS = 4, 1_000, 1_000
numpyro.enable_x64()


def svi(problem: str, folder: str, guide: str) -> Block:
    """A block that fits an autoguide."""
    found = posteriordb.load(problem, folder)
    model, data = load(found)

    def block(seed: int) -> dict[str, Any]:
        made = getattr(autoguide, guide)(model)
        run = SVI(model, made, Adam(STEP_SIZE), Trace_ELBO())
        key = jax.random.key(seed)
        started = time.perf_counter()
        jitted = jax.jit(lambda key: run.run(key, STEPS, progress_bar=False, **data)[::2])
        compiled = jitted.lower(key).compile()
        compile_seconds = time.perf_counter() - started
        started = time.perf_counter()
        parameters, losses = jax.block_until_ready(compiled(key))
        seconds = time.perf_counter() - started
        keys = jax.random.split(jax.random.key(seed + 1), NUM_DRAWS)
        drawing = jax.jit(_drawing(model, made, data, parameters)).lower(keys).compile()
        started = time.perf_counter()
        log_ratio, draws = jax.device_get(drawing(keys))
        return {
            "seconds": compile_seconds + seconds,
            "seconds_warm": seconds,
            "sample_seconds": time.perf_counter() - started,
            **errors(found, draws),
            "khat": khat(log_ratio),
            "evaluations": STEPS,
            "steps": STEPS,
            "status": "all steps made" if or_none(float(losses[-1])) is not None else "diverged",
        }

    return block


def _drawing(model: Any, guide: Any, data: dict[str, Any], parameters: Any) -> Callable[[Any], Any]:
    """From keys to draws of the guide with the model's deterministics there, and log p - log q of each in nats."""

    def one(key: Any) -> Any:
        log_q, of_guide = log_joint(handlers.seed(guide, key), (), data, parameters)
        log_p, of_model = log_joint(model, (), data, _values(of_guide))
        return log_p - log_q, _values(of_model)

    return lambda keys: jax.lax.map(one, keys, batch_size=500)


def _values(trace: Any) -> dict[str, Any]:
    kinds = ("sample", "deterministic")
    return {
        name: site["value"] for name, site in trace.items() if site["type"] in kinds and not site.get("is_observed")
    }


def nuts(problem: str, folder: str) -> Block:
    """A block that runs NUTS twice."""
    numpyro.set_host_device_count(CHAINS)
    found = posteriordb.load(problem, folder)
    model, data = load(found)

    def block(seed: int) -> dict[str, Any]:
        mcmc = MCMC(
            NUTS(model), num_warmup=WARMUP, num_samples=DRAWS, num_chains=CHAINS, chain_method="parallel",
            progress_bar=False,
        )  # fmt: skip
        run = partial(mcmc.run, extra_fields=("num_steps",), **data)
        seconds = []
        for turn in range(2):
            started = time.perf_counter()
            run(jax.random.key(seed + turn))
            draws = jax.device_get(jax.block_until_ready(mcmc.get_samples()))
            seconds.append(time.perf_counter() - started)
        return {
            "seconds": seconds[0],
            "seconds_warm": seconds[1],
            "sample_seconds": 0.0,
            **errors(found, {name: np.asarray(value) for name, value in draws.items()}),
            "khat": None,
            "evaluations": int(np.sum(mcmc.get_extra_fields()["num_steps"])),
            "evaluations_note": "of the draws, without warm-up",
            "status": "all draws made",
        }

    return block


def log_density(problem: str, folder: str, points: list[dict[str, Any]]) -> Block:
    """Log joint density in nats at constrained points given as nested lists by parameter."""
    model, data = load(posteriordb.load(problem, folder))

    def one(point: dict[str, Any]) -> float:
        values = {name: jax.numpy.asarray(value) for name, value in point.items()}
        return float(log_joint(model, (), data, values)[0])

    return lambda seed: {"log_density": [one(point) for point in points]}
