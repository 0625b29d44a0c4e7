"""BlackJAX's Pathfinder with its defaults on the models of `numpyro_models`, in float64, from a start of NumPyro's."""

import time
from collections.abc import Callable
from typing import Any

import blackjax
import jax
import numpy as np
import numpyro
from numpyro.infer.util import initialize_model

from benchmarks import posteriordb
from benchmarks.accuracy_parts.against_reference import NUM_DRAWS, errors, khat
from benchmarks.accuracy_parts.numpyro_models import load

Block = Callable[[int], dict[str, Any]]
numpyro.enable_x64()


def pathfinder(problem: str, folder: str) -> Block:
    """A block that fits and draws twice; the first time compiles."""
    found = posteriordb.load(problem, folder)
    model, data = load(found)

    def block(seed: int) -> dict[str, Any]:
        begin, drawing = jax.random.split(jax.random.key(seed))
        info = initialize_model(begin, model, model_kwargs=data, dynamic_args=False)
        start = info.param_info.z

        def approximate(key: Any) -> Any:
            return blackjax.vi.pathfinder.approximate(key, lambda point: -info.potential_fn(point), start)[0]

        fit = jax.jit(approximate)
        seconds = []
        for _ in range(2):
            started = time.perf_counter()
            state = jax.block_until_ready(fit(begin))
            seconds.append(time.perf_counter() - started)
        started = time.perf_counter()
        points, log_q = blackjax.vi.pathfinder.sample(drawing, state, NUM_DRAWS)
        draws = jax.device_get(jax.vmap(info.postprocess_fn)(points))
        drawn = time.perf_counter() - started
        log_p = -jax.lax.map(info.potential_fn, points, batch_size=500)
        return {
            "seconds": seconds[0],
            "seconds_warm": seconds[1],
            "sample_seconds": drawn,
            **errors(found, {name: np.asarray(value) for name, value in draws.items()}),
            "khat": khat(np.asarray(log_p - log_q)),
            "evaluations": None,
            "status": "ended",
        }

    return block
