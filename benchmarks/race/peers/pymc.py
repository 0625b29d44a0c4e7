"""PyMC's models sampled by nutpie, compiled by Numba."""

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from race.effective import smallest_ess
from race.models_pymc import MODELS
from race.workloads import make

Block = Callable[[int], dict[str, Any]]


def nuts(model: str, chains: int, warmup: int, draws: int) -> Block:
    """Runs of nutpie's NUTS; building, compiling and a first run are not reported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the old top-level ArviZ announces its own successor
        import nutpie
    pymc_model = MODELS[model](**make(model))
    compiled = nutpie.compile_pymc_model(pymc_model, backend="numba")
    names = [variable.name for variable in pymc_model.free_RVs]

    def block(seed: int) -> dict[str, Any]:
        started = time.perf_counter()
        result = nutpie.sample(
            compiled, draws=draws, tune=warmup, chains=chains, seed=seed, save_warmup=False, progress_bar=False
        )
        seconds = time.perf_counter() - started
        found = {name: np.asarray(result["posterior"][name]) for name in names}
        return {
            "seconds": seconds,
            "gradients": int(np.sum(np.asarray(result["sample_stats"]["n_steps"]))),
            "ess_per_second": smallest_ess(found) / seconds,
        }

    block(0)
    return block


def log_density(model: str, points: list[dict[str, Any]]) -> Block:
    """Log joint density in nats at points given as nested lists by name, constrained."""
    pymc_model = MODELS[model](**make(model))
    compiled = pymc_model.compile_fn(pymc_model.logp(jacobian=False))

    def unconstrained(variable: Any, value: Any) -> np.ndarray:
        transform = pymc_model.rvs_to_transforms[variable]
        array = np.asarray(value)
        return array if transform is None else transform.forward(array, *variable.owner.inputs).eval()

    def one(point: dict[str, Any]) -> float:
        values = {
            pymc_model.rvs_to_values[pymc_model[name]].name: unconstrained(pymc_model[name], value)
            for name, value in point.items()
        }
        return float(compiled(values))

    return lambda seed: {"log_density": [one(point) for point in points]}
