"""This library: `ppl.fit` and `ppl.sample` on Pyro's own models, unmodified."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ppl_models import fit as ppl_fit
from ppl_models import sample as ppl_sample
from ppl_models.inference import Fit
from race import autoencoder
from race.effective import smallest_ess
from race.models_pyro import MODELS
from race.timing import block_of_steps
from race.workloads import make

Block = Callable[[int], dict[str, Any]]
STEP_SIZE = 1e-3


def steps(model: str, guide: str, sizes: dict[str, int], particles: int, target: float, backend: str) -> Block:
    """Blocks of SVI steps in float64; each block is a whole fit, of which the steps alone are timed."""
    return _blocks(_fitter(model, guide, sizes, particles, backend), target, backend)


def autoencoder_steps(batch: int, batches: int, target: float, backend: str) -> Block:
    """Blocks of SVI steps on the autoencoder in float32."""
    return _blocks(_autoencoder_fitter(batch, batches, backend), target, backend)


def fit(model: str, guide: str, sizes: dict[str, int], count: int, backend: str) -> Block:
    """One fit of at most `count` steps, for its memory."""
    return _whole(_fitter(model, guide, sizes, 1, backend), count, backend)


def autoencoder_fit(batch: int, batches: int, count: int, backend: str) -> Block:
    """One fit of the autoencoder, for its memory."""
    return _whole(_autoencoder_fitter(batch, batches, backend), count, backend)


def first_step(model: str, guide: str, backend: str) -> Block:
    """A fit of one step."""

    def block(seed: int) -> dict[str, Any]:
        started = time.perf_counter()
        made = ppl_fit(
            MODELS[model], make(model), guide=guide, backend=backend, num_particles=1, max_steps=1, seed=seed
        )
        seconds = time.perf_counter() - started
        stages = {f"in_{stage}": spent for stage, spent in made.timing.items()}
        return {"call": seconds, **stages, "note": _note(made, backend)}

    return block


def nuts(model: str, chains: int, warmup: int, draws: int, target_accept: float | None) -> Block:
    """Runs of NUTS; compiling, as the result itself tells it, is taken off, and a first run is not reported."""
    options = {} if target_accept is None else {"target_accept": target_accept}

    def block(seed: int) -> dict[str, Any]:
        started = time.perf_counter()
        tree = ppl_sample(MODELS[model], make(model), chains=chains, warmup=warmup, draws=draws, seed=seed, **options)
        seconds = time.perf_counter() - started - tree.attrs["compile_seconds"]
        latents = {str(name): values.to_numpy() for name, values in tree["posterior"].data_vars.items()}
        return {
            "seconds": seconds,
            "sampling": tree.attrs["sampling_time"],
            "gradients": int(np.sum(tree["sample_stats"]["n_steps"].to_numpy())),
            "ess_per_second": smallest_ess(latents) / seconds,
            "note": tree.attrs["backend_note"] and f"ran on {tree.attrs['backend']}: {tree.attrs['backend_note']}",
        }

    block(0)
    return block


def _fitter(model: str, guide: str, sizes: dict[str, int], particles: int, backend: str) -> Callable[[int], Fit]:
    data = make(model, **sizes)
    return lambda count: ppl_fit(
        MODELS[model],
        data,
        guide=guide,
        backend=backend,
        num_particles=particles,
        max_steps=count,
        step_size=STEP_SIZE,
    )


def _autoencoder_fitter(batch: int, batches: int, backend: str) -> Callable[[int], Fit]:
    decoder, encoder = autoencoder.modules()
    loader = autoencoder.batches(batches, batch)
    return lambda count: ppl_fit(
        decoder, loader, guide=encoder, backend=backend, num_particles=1, max_steps=count, step_size=STEP_SIZE
    )


def _blocks(make_fit: Callable[[int], Fit], target: float, backend: str) -> Block:
    note = ""

    def run(count: int) -> tuple[float, int]:
        nonlocal note
        made = make_fit(count)
        note = _note(made, backend)
        return made.timing["steps"], made.steps

    block = block_of_steps(run, target)
    return lambda seed: {**block(seed), "note": note}


def _whole(make_fit: Callable[[int], Fit], count: int, backend: str) -> Block:
    def block(seed: int) -> dict[str, Any]:
        started = time.perf_counter()
        made = make_fit(count)
        return {"seconds": time.perf_counter() - started, "note": _note(made, backend)}

    return block


def _note(made: Fit, backend: str) -> str:
    """What to say where a fit ran on another backend than the one asked for."""
    return "" if made.backend == backend else f"ran on {made.backend}: {made.backend_note}"
