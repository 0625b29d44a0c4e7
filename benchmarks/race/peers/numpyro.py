"""NumPyro: `SVI.update` in one compiled `lax.scan`, and its NUTS."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
import numpyro
from jax import lax
from numpyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoMultivariateNormal, AutoNormal
from numpyro.infer.util import log_density as log_joint
from numpyro.optim import Adam

from race.effective import smallest_ess
from race.models_numpyro import MODELS
from race.timing import block_of_steps
from race.workloads import make, split

Block = Callable[[int], dict[str, Any]]
GUIDES = {"normal": AutoNormal, "full_rank": AutoMultivariateNormal}
numpyro.enable_x64()


def _prepared(model: str, sizes: dict[str, int]) -> tuple[Callable[..., None], dict[str, Any]]:
    arrays, plain = split(make(model, **sizes))
    return partial(MODELS[model], **plain), {name: jax.numpy.asarray(value) for name, value in arrays.items()}


def steps(model: str, guide: str, sizes: dict[str, int], particles: int, target: float) -> Block:
    """Blocks of SVI steps in float64; the loop is compiled before it is timed, data are its inputs."""
    run, arrays = _prepared(model, sizes)
    svi = SVI(run, GUIDES[guide](run), Adam(1e-3), Trace_ELBO(num_particles=particles))
    state = svi.init(jax.random.key(1), **arrays)
    compiled = {}

    def loop(state: Any, arrays: dict[str, Any], count: int) -> Any:
        return lax.scan(lambda state, _: svi.update(state, **arrays), state, None, length=count)

    def run_steps(count: int) -> tuple[float, int]:
        nonlocal state
        if count not in compiled:
            compiled[count] = jax.jit(loop, static_argnums=2).lower(state, arrays, count).compile()
        started = time.perf_counter()
        state, losses = jax.block_until_ready(compiled[count](state, arrays))
        return time.perf_counter() - started, len(losses)

    return block_of_steps(run_steps, target)


def first_step(model: str, guide: str) -> Block:
    """One step of `SVI.run`, with all that comes before it."""

    def block(seed: int) -> dict[str, Any]:
        started = time.perf_counter()
        run, arrays = _prepared(model, {})
        svi = SVI(run, GUIDES[guide](run), Adam(1e-3), Trace_ELBO())
        jax.block_until_ready(svi.run(jax.random.key(seed), 1, progress_bar=False, **arrays).losses)
        return {"call": time.perf_counter() - started}

    return block


def nuts(model: str, chains: int, warmup: int, draws: int, chain_method: str) -> Block:
    """Runs of NUTS; the first one, in which it compiles, is not reported."""
    if chain_method == "parallel":
        numpyro.set_host_device_count(chains)
    run, arrays = _prepared(model, {})
    mcmc = MCMC(
        NUTS(run),
        num_warmup=warmup,
        num_samples=draws,
        num_chains=chains,
        chain_method=chain_method,
        progress_bar=False,
    )

    def block(seed: int) -> dict[str, Any]:
        started = time.perf_counter()
        mcmc.run(jax.random.key(seed), extra_fields=("num_steps",), **arrays)
        found = jax.device_get(jax.block_until_ready(mcmc.get_samples(group_by_chain=True)))
        seconds = time.perf_counter() - started
        return {
            "seconds": seconds,
            "gradients": int(np.sum(mcmc.get_extra_fields()["num_steps"])),
            "ess_per_second": smallest_ess({name: np.asarray(value) for name, value in found.items()}) / seconds,
        }

    block(0)
    return block


def log_density(model: str, points: list[dict[str, Any]]) -> Block:
    """Log joint density in nats at points given as nested lists by name, constrained."""
    run, arrays = _prepared(model, {})

    def one(point: dict[str, Any]) -> float:
        values = {name: jax.numpy.asarray(value) for name, value in point.items()}
        return float(log_joint(run, (), arrays, values)[0])

    return lambda seed: {"log_density": [one(point) for point in points]}
