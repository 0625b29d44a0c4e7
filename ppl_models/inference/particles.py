"""Whether several ELBO particles can be drawn in one vectorised run, proven on the model at hand."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pyro
import pyro.poutine as poutine
import torch
from pyro.infer.elbo import ELBO
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import site_is_subsample

from ppl_models.program import Parameters, Program, can_vmap, isolated, map_draws
from ppl_models.program.batching import NOT_VECTORISABLE
from ppl_models.program.estimators import Estimator
from ppl_models.program.estimators.drawing import log_p, log_q
from ppl_models.program.handlers import FromValues, is_latent
from ppl_models.program.nodes import nodes_of

MAX_PARTICLES = 64
NUMBERS_PER_STEP = 200_000
NUM_TRIAL = 3
LOG_RATIO = "log p - log q"
RELATIVE_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}


def default_num_particles(program: Program) -> int:
    """As many as are nearly free on a CPU, where Python's overhead per step outweighs the arithmetic."""
    return max(1, min(MAX_PARTICLES, NUMBERS_PER_STEP // program.size_hint))


def can_vectorise(program: Program, guide: Callable, kind: type[ELBO]) -> bool:
    """Whether Pyro's particle plate gives the ELBO that the particles give one by one.

    A model that does not broadcast over an extra leading axis may fail under the plate or, worse, give wrong numbers.
    So the vectorised ELBO of three particles is compared with the mean over the same three draws, each scored alone.
    Call it with the guide's parameters in the store.
    """
    dim = -1 - program.sites.max_plate_nesting
    args, kwargs = program.arguments.args, program.arguments.kwargs
    here = _world(program)
    try:
        with here, torch.no_grad():
            elbo: Any = kind(num_particles=NUM_TRIAL, vectorize_particles=True, max_plate_nesting=-1 - dim)
            pyro.set_rng_seed(0)
            together = -float(elbo.loss(program.model, guide, *args, **kwargs))
            pyro.set_rng_seed(0)
            with pyro.plate("num_particles_vectorized", NUM_TRIAL, dim=dim):
                trace = poutine.trace(guide).get_trace(*args, **kwargs)
            single = poutine.trace(guide).get_trace(*args, **kwargs)
            alone = [_score(program, guide, _particle(trace, single, dim, i)) for i in range(NUM_TRIAL)]
    except NOT_VECTORISABLE:
        return False
    wanted = sum(alone) / NUM_TRIAL
    return abs(together - wanted) <= RELATIVE_TOLERANCE[program.dtype] * max(1.0, *(abs(x) for x in alone))


def can_vmap_particles(program: Program, guide: Callable, estimator: Estimator | None = None) -> bool:
    """Whether vmap makes and scores the draws of a guide right; by default, of one that is reparameterised throughout.

    Three draws made and scored under vmap are scored again, each alone.

    Args:
        program: the model with its data.
        guide: the guide, with its parameters in the store.
        estimator: the estimator that will take the draws; None for `VmappedTrace_ELBO`.
    """
    if estimator is not None and callable(getattr(guide, "strata", None)):
        with _world(program), torch.no_grad():
            return can_vmap(lambda: estimator.particle(program, guide))
    pathwise = estimator is None or estimator.needs_reparameterised
    args, kwargs = program.arguments.args, program.arguments.kwargs

    def one() -> dict[str, torch.Tensor]:
        trace = poutine.trace(guide).get_trace(*args, **kwargs)
        ratio = log_p(program, trace) - log_q(trace)
        return {**{name: node["value"] for name, node in _latents(trace).items()}, LOG_RATIO: ratio}

    with (
        _world(program),
        torch.no_grad(),
    ):
        trace = poutine.trace(guide).get_trace(*args, **kwargs)
        if pathwise and not all(node["fn"].has_rsample for node in _latents(trace).values()):
            return False
        if not can_vmap(one):
            return False
        draws = map_draws(one, NUM_TRIAL)
        together = draws.pop(LOG_RATIO)
        alone = [_score(program, guide, {name: v[i] for name, v in draws.items()}) for i in range(NUM_TRIAL)]
    scale = max(1.0, *(abs(x) for x in alone))
    wanted = torch.tensor(alone, dtype=together.dtype)
    return bool(((together - wanted).abs() <= RELATIVE_TOLERANCE[program.dtype] * scale).all())


def _world(program: Program) -> AbstractContextManager[None]:
    parameters = Parameters.from_store()
    return isolated(dtype=program.dtype, parameters=parameters, full_data=not program.batched, device=program.device)


def _latents(trace: Trace) -> dict[str, Any]:
    return {name: node for name, node in nodes_of(trace).items() if node["type"] == "sample" and is_latent(node)}


def _particle(trace: Trace, single: Trace, dim: int, index: int) -> dict[str, torch.Tensor]:
    """The values of one particle, each in the shape that it has without the particle plate."""
    values = {}
    for name, node in nodes_of(trace).items():
        if node["type"] != "sample" or node["is_observed"] or site_is_subsample(node) or name not in nodes_of(single):
            continue
        value, shape = node["value"], nodes_of(single)[name]["value"].shape
        axis = dim - int(node["fn"].event_dim)
        values[name] = value.select(axis, index if value.shape[axis] > 1 else 0).reshape(shape)
    return values


def _score(program: Program, guide: Callable, values: dict[str, torch.Tensor]) -> float:
    """Log p - log q in nats of one draw."""
    latents = {site.name for site in program.sites.latent + program.sites.discrete}
    with poutine.trace() as tracer, FromValues(values, skip_delta=True):
        guide(*program.arguments.args, **program.arguments.kwargs)
    log_q = tracer.trace.log_prob_sum()
    log_p = program.log_joint({name: value for name, value in values.items() if name in latents})
    return float((log_p - log_q).detach())
