"""Pyro as it is, validation off: its autoguides by its own SVI, and its NUTS.

An autoguide is made with its defaults and fitted by `SVI.step`, `Trace_ELBO()` of one particle and Adam of step size
0.01, for 5,000 steps in float64. NUTS with its defaults runs one chain of 1,000 + 1,000; chains follow one another, so
that four take four times as long.
"""

import time
from collections.abc import Callable
from typing import Any

import pyro
import torch
from pyro.infer import MCMC, NUTS, SVI, Trace_ELBO, autoguide
from pyro.optim import Adam

from benchmarks import posteriordb
from benchmarks.accuracy_parts.against_reference import NUM_DRAWS, errors, khat
from ppl_models.inference.draws import latent_draws
from ppl_models.program import Program, build_program, map_draws

Block = Callable[[int], dict[str, Any]]
STEPS, STEP_SIZE = 5_000, 0.01
CHAINS, WARMUP, DRAWS = 4, 1_000, 1_000
MOST_SECONDS = 900.0


def svi(problem: str, folder: str, guide: str) -> Block:
    """A block that fits an autoguide; what has not ended after 15 minutes is judged as it is."""
    found = posteriordb.load(problem, folder)
    program = build_program(found.model, found.data)

    def block(seed: int) -> dict[str, Any]:
        _begin(seed)
        started = time.perf_counter()
        made = getattr(autoguide, guide)(found.model)
        run = SVI(found.model, made, Adam({"lr": STEP_SIZE}), Trace_ELBO())
        steps = 0
        while steps < STEPS and time.perf_counter() - started < MOST_SECONDS:
            run.step(**found.data)
            steps += 1
        if isinstance(made, autoguide.AutoLaplaceApproximation):
            made = made.laplace_approximation(**found.data)
        fitted = time.perf_counter()
        draws, log_q = latent_draws(program, made, NUM_DRAWS)
        log_p, others = _scored(program, draws)
        drawn = time.perf_counter()
        values = {name: value.detach().numpy() for name, value in {**draws, **others}.items()}
        return {
            "seconds": fitted - started,
            "seconds_warm": fitted - started,
            "sample_seconds": drawn - fitted,
            **errors(found, values),
            "khat": khat((log_p - log_q).detach().numpy()),
            "evaluations": steps,
            "steps": steps,
            "status": "all steps made" if steps == STEPS else "out_of_time",
        }

    return block


def nuts(problem: str, folder: str) -> Block:
    """A block that runs one chain, whose seconds are reported times four."""
    found = posteriordb.load(problem, folder)
    program = build_program(found.model, found.data)
    calls = [0]

    def counted(**data: Any) -> Any:
        calls[0] += 1
        return found.model(**data)

    def block(seed: int) -> dict[str, Any]:
        _begin(seed)
        started, calls[0] = time.perf_counter(), 0
        mcmc = MCMC(NUTS(counted), DRAWS, warmup_steps=WARMUP, num_chains=1, disable_progbar=True)
        mcmc.run(**found.data)
        draws: Any = mcmc.get_samples()
        seconds = CHAINS * (time.perf_counter() - started)
        shapes = {site.name: site.shape for site in program.sites.latent}
        draws = {name: draws[name].reshape(-1, *shape) for name, shape in shapes.items()}
        _, others = _scored(program, draws)
        return {
            "seconds": seconds,
            "seconds_warm": seconds,
            "sample_seconds": 0.0,
            **errors(found, {name: value.detach().numpy() for name, value in {**draws, **others}.items()}),
            "khat": None,
            "evaluations": CHAINS * calls[0],
            "status": "all draws made",
            "note": f"one chain of {WARMUP:,} + {DRAWS:,}, its seconds and evaluations times {CHAINS}",
        }

    return block


def _begin(seed: int) -> None:
    pyro.enable_validation(False)
    torch.set_default_dtype(torch.float64)
    pyro.clear_param_store()
    pyro.set_rng_seed(seed)


def _scored(program: Program, draws: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Log joint density of each draw, and the model's deterministics there."""

    def one(draw: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        log_p, others = program.log_joint_and_deterministics(draw)
        return {**others, "log p": log_p}

    count = len(next(iter(draws.values())))
    with program.isolated(), torch.no_grad():
        found = map_draws(one, count, draws, size_hint=program.size_hint)
    log_p = found.pop("log p")
    return log_p, found
