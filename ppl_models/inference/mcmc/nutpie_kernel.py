"""The nutpie kernel: NUTS in Rust, with mass-matrix adaptation from gradients (Seyboldt et al. 2024)."""

import os
import time
import warnings
from typing import Any

import numpy as np

from ppl_models.engine import CompiledDensity
from ppl_models.errors import ModelError
from ppl_models.inference.mcmc.chains import Chains, ChainSettings
from ppl_models.inference.mcmc.nutpie_native import StartFunction, native_interface, native_model
from ppl_models.inference.mcmc.starts import start_point
from ppl_models.progress import Update

STATS = {
    "diverging": "diverging",
    "logp": "lp",
    "energy": "energy",
    "depth": "tree_depth",
    "n_steps": "n_steps",
    "step_size": "step_size",
    "mean_tree_accept": "acceptance_rate",
}
"""nutpie's names of the statistics that are kept, and ArviZ's."""
MIN_WAIT = 0.1


class RejectedPointError(ArithmeticError):
    """The log density has no finite value here; nutpie rejects the point where it sees this attribute."""

    is_recoverable = True


def run_nutpie(density: CompiledDensity, settings: ChainSettings, update: Update) -> Chains:
    """Run nutpie's NUTS on a compiled log density.

    A native density is a C function, and the chains run beside each other; a Python callable holds Python's lock, so
    with it they take turns: more threads would only wait for each other.
    """
    with warnings.catch_warnings():
        # Importing nutpie imports the old top-level ArviZ, which announces its own successor.
        warnings.simplefilter("ignore")
        import nutpie
    start_point(density, settings.seed, settings.starts)  # where there is none, say so before any thread is started
    no_start: list[ModelError] = []

    def start(seed: int) -> np.ndarray:
        try:
            return start_point(density, int(seed) % 2**31, settings.starts)
        except ModelError as error:
            no_start.append(error)
            raise

    cores = min(settings.chains, os.cpu_count() or 1)
    pool = density.pool(cores) if native_interface() else None
    compiled = native_model(density, pool, start) if pool is not None else _callback_model(density, start)
    run: Any = nutpie.sample  # its overloads leave out the keywords that it takes
    try:
        sampler = run(
            compiled,
            draws=settings.draws,
            tune=settings.warmup,
            chains=settings.chains,
            cores=cores if pool is not None else 1,
            seed=settings.seed,
            save_warmup=False,
            progress_bar=False,
            target_accept=settings.target_accept,
            blocking=False,
        )
        result = _wait(sampler, settings.deadline)
    except RuntimeError:
        if no_start:
            # nutpie wraps what its workers raise, with a trace of its own stack.
            raise no_start[0] from None
        raise
    update(settings.chains * (settings.warmup + settings.draws), "")
    found = result["sample_stats"]
    stats = {ours: np.asarray(found[theirs]) for theirs, ours in STATS.items() if theirs in found}
    return Chains(np.asarray(result["posterior"]["flat"]), stats)


def _callback_model(density: CompiledDensity, start: StartFunction) -> Any:
    from nutpie.compiled_pyfunc import from_pyfunc

    num_dims = density.program.num_dims

    def log_density(flat: np.ndarray) -> tuple[float, np.ndarray]:
        try:
            value, gradient = density(flat)
        except (RuntimeError, ValueError, ArithmeticError) as error:
            raise RejectedPointError(str(error)) from error
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            raise RejectedPointError("not finite")
        return value, gradient

    return from_pyfunc(
        num_dims,
        make_logp_fn=lambda: log_density,
        make_expand_fn=lambda *_: lambda flat: {"flat": np.ascontiguousarray(flat)},
        expanded_dtypes=[np.dtype(np.float64)],
        expanded_shapes=[(num_dims,)],
        expanded_names=["flat"],
        make_initial_point_fn=start,
    )


def _wait(sampler: Any, deadline: float | None) -> Any:
    # nutpie's own waiting takes Ctrl-C for the end of the run, and a part of the draws for all of them; and after an
    # error its other chains would go on running the model behind our back.
    try:
        if deadline is None:
            return sampler.wait()
        return sampler.wait(timeout=max(MIN_WAIT, deadline - time.perf_counter()))
    except TimeoutError:
        sampler.cancel()
        raise TimeoutError("max_seconds were used up before the chains had ended.") from None
    except BaseException:
        sampler.cancel()
        raise
