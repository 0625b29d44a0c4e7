"""Pyro as it is: `SVI.step` in a loop with validation off (on, its default, is slower still), and its NUTS."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal
from pyro.optim import Adam

from race import autoencoder
from race.effective import smallest_ess
from race.models_pyro import MODELS
from race.timing import Run, block_of_steps
from race.workloads import make

Block = Callable[[int], dict[str, Any]]
GUIDES = {"normal": AutoNormal, "full_rank": AutoMultivariateNormal}
pyro.enable_validation(False)


def steps(model: str, guide: str, sizes: dict[str, int], particles: int, target: float) -> Block:
    """Blocks of SVI steps in float64."""
    return block_of_steps(_stepper(model, guide, sizes, particles), target)


def fit(model: str, guide: str, sizes: dict[str, int], count: int) -> Block:
    """One fit of `count` steps, for its memory."""
    run = _stepper(model, guide, sizes, 1)
    return lambda seed: {"seconds": run(count)[0]}


def _stepper(model: str, guide: str, sizes: dict[str, int], particles: int) -> Run:
    torch.set_default_dtype(torch.float64)
    pyro.clear_param_store()
    pyro.set_rng_seed(1)
    run = MODELS["logistic_broadcast" if model == "logistic" and particles > 1 else model]
    data = _tensors(make(model, **sizes))
    elbo = Trace_ELBO(num_particles=particles, vectorize_particles=particles > 1, max_plate_nesting=1)
    return _loop(SVI(run, GUIDES[guide](run), Adam({"lr": 1e-3}), elbo), data)


def _loop(svi: SVI, data: dict[str, Any]) -> Run:
    def run(count: int) -> tuple[float, int]:
        started = time.perf_counter()
        for _ in range(count):
            svi.step(**data)
        return time.perf_counter() - started, count

    return run


def autoencoder_steps(batch: int, batches: int, target: float) -> Block:
    """Blocks of SVI steps on the autoencoder in float32."""
    return block_of_steps(_autoencoder_stepper(batch, batches), target)


def autoencoder_fit(batch: int, batches: int, count: int) -> Block:
    """One fit of the autoencoder, for its memory."""
    run = _autoencoder_stepper(batch, batches)
    return lambda seed: {"seconds": run(count)[0]}


def _autoencoder_stepper(batch: int, batches: int) -> Run:
    torch.set_default_dtype(torch.float32)
    pyro.clear_param_store()
    decoder, encoder = autoencoder.modules()
    loader = autoencoder.batches(batches, batch)
    svi = SVI(decoder, encoder, Adam({"lr": 1e-3}), Trace_ELBO())

    def run(count: int) -> tuple[float, int]:
        made, started = 0, time.perf_counter()
        while made < count:
            for (x,) in loader:
                svi.step(x)
                made += 1
                if made == count:
                    break
        return time.perf_counter() - started, made

    return run


def nuts(model: str, chains: int, warmup: int, draws: int, scale: float = 1.0) -> Block:
    """Runs of NUTS.

    Args:
        model: name of the model.
        chains: chains, one after the other.
        warmup: transitions of each chain's warm-up.
        draws: transitions of each chain that are kept.
        scale: the seconds and gradients are reported times this, for runs shorter than those of the others.
    """
    torch.set_default_dtype(torch.float64)
    data = _tensors(make(model))
    calls = [0]

    def counted(**arguments: Any) -> None:
        calls[0] += 1
        MODELS[model](**arguments)

    def block(seed: int) -> dict[str, Any]:
        pyro.clear_param_store()
        pyro.set_rng_seed(seed)
        in_warmup = []

        def hook(kernel: NUTS, samples: Any, stage: str, index: int) -> None:
            if stage == "Sample" and not in_warmup:
                in_warmup.append(calls[0])

        calls[0], started = 0, time.perf_counter()
        mcmc = MCMC(NUTS(counted), draws, warmup_steps=warmup, num_chains=chains, disable_progbar=True, hook_fn=hook)
        mcmc.run(**data)
        seconds = time.perf_counter() - started
        found = {name: value.numpy() for name, value in mcmc.get_samples(group_by_chain=True).items()}
        gradients = calls[0] - in_warmup[0]
        return {
            "seconds": seconds * scale,
            "gradients": gradients * scale,
            "ess_per_second": smallest_ess(found) / seconds,
        }

    return block


def prior(model: str, count: int) -> Block:
    """Draws of all latents from the prior, as nested lists by name."""
    torch.set_default_dtype(torch.float64)

    def block(seed: int) -> dict[str, Any]:
        pyro.set_rng_seed(seed)
        traces = [poutine.trace(MODELS[model]).get_trace(**_tensors(make(model))) for _ in range(count)]
        points = [{name: trace.nodes[name]["value"].tolist() for name in trace.stochastic_nodes} for trace in traces]
        plates = {name for trace in traces for name in trace.stochastic_nodes if _is_plate(trace.nodes[name])}
        return {"points": [{k: v for k, v in point.items() if k not in plates} for point in points]}

    return block


def log_density(model: str, points: list[dict[str, Any]]) -> Block:
    """Log joint density in nats at points given as nested lists by name, constrained."""
    torch.set_default_dtype(torch.float64)
    data = _tensors(make(model))

    def one(point: dict[str, Any]) -> float:
        conditioned = poutine.condition(MODELS[model], {name: torch.tensor(value) for name, value in point.items()})
        return float(poutine.trace(conditioned).get_trace(**data).log_prob_sum())

    return lambda seed: {"log_density": [one(point) for point in points]}


def _is_plate(node: dict[str, Any]) -> bool:
    return type(node["fn"]).__name__ == "_Subsample"


def _tensors(data: dict[str, Any]) -> dict[str, Any]:
    return {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in data.items()}
