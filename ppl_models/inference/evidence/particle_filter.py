"""Sequential Monte Carlo for state-space models: an unbiased estimate of the evidence, and the state given the past."""

import time as clock
from typing import Any, Protocol

import numpy as np
import torch

from ppl_models.errors import OptionError
from ppl_models.inference.evidence.filter_records import (
    Found,
    between_runs,
    by_name,
    record,
    stacked,
    without_particles,
)
from ppl_models.inference.evidence.filtered import Filtered, OfState
from ppl_models.inference.evidence.filtering_checks import (
    MORE,
    check_alive,
    check_effective,
    check_spread,
    check_support,
    check_unique,
)
from ppl_models.inference.evidence.laws import STATE, State
from ppl_models.inference.evidence.observed_series import as_observations
from ppl_models.inference.evidence.proposal_support import nats_lost, times_probed
from ppl_models.inference.evidence.pyro_state_space import PyroStateSpace
from ppl_models.inference.evidence.resampling import RESAMPLERS, Resampler, resample
from ppl_models.inference.evidence.result import CONFIDENCE
from ppl_models.inference.evidence.state_space import StateSpace
from ppl_models.inference.evidence.tail import check_tail
from ppl_models.inference.evidence.weight_means import interval, log_mean
from ppl_models.options import check_choice, check_count
from ppl_models.program import isolated
from ppl_models.seeds import check_seed, child_seed
from ppl_models.versions import versions

NUMBERS_AT_ONCE = 500_000
"""Bounds memory: runs times particles times elements of the state that move together."""

ENOUGH_FOR_KHAT = 100


class Moves(Protocol):
    """What a particle filter needs of a model; what is missing is observed as None."""

    def begin(self, observed: Any, count: int) -> tuple[State, torch.Tensor]:
        """States at time 0 and their log weights in nats, shape (particle,)."""
        ...

    def advance(self, time: int, state: State, observed: Any) -> tuple[State, torch.Tensor]:
        """States at `time` given those before, and what that adds to their log weights."""
        ...


def particle_filter(
    state_space: StateSpace | PyroStateSpace | Any,
    observations: Any,
    *,
    num_particles: int,
    resampling: str = "systematic",
    threshold: float = 0.5,
    num_runs: int = 100,
    keep_history: bool = False,
    seed: int = 0,
) -> Filtered:
    """Filter a series with particles, in many independent runs side by side.

    Each run's estimate of the evidence is unbiased (of p, not of log p), whatever the number of particles and whichever
    resampling; the mean of the runs is the estimate, and their spread its error.

    Args:
        state_space: the model; or one for Pyro's `SMCFilter`, with the methods `init(state)` and
            `step(state, observation)`, whose time 0 is before the first observation (`PyroStateSpace` takes a guide).
        observations: an array of shape (time, *event), or a list; what is None or NaN is missing, and is skipped.
            Particles stand on its device, in its floating dtype; numbers that are no tensors count in float64.
        num_particles: in each run.
        resampling: "systematic", "stratified", "multinomial" or "residual".
        threshold: a run resamples where its effective number of particles is below this share of them: 1 at every
            time, 0 never.
        num_runs: independent runs; at least 2, and 100 for a k-hat of their weights.
        keep_history: whether to keep particles, weights and ancestors of all times, not of the last alone.
        seed: seed of everything random.

    Returns:
        The evidence, with means, draws and effective numbers of particles. Where all particles of all runs lose their
        weight, `log_evidence` is -inf and a check says at which time.

    Raises:
        OptionError, UnknownNameError: an option is out of its range.
        ModelError: a function of the model fails, gives a distribution of another batch shape, or a density of NaN.
        DataError: an observation is of another shape, or outside the support.

    Gordon, Salmond and Smith (1993), Novel approach to nonlinear/non-Gaussian Bayesian state estimation; Del Moral
    (2004), Feynman-Kac formulae, section 7.4.1 (unbiased); Whiteley, Lee and Heine (2016), On the role of interaction
    in sequential Monte Carlo algorithms, Bernoulli 22 (unbiased with a threshold).
    """
    moves, series = _moves(state_space), as_observations(observations)
    return _filter_in_groups(
        moves,
        [None, *series] if isinstance(moves, PyroStateSpace) else series,
        num_particles=num_particles,
        resampling=resampling,
        threshold=threshold,
        num_runs=num_runs,
        keep_history=keep_history,
        seed=seed,
    )


def _moves(found: Any) -> Moves:
    if isinstance(found, (StateSpace, PyroStateSpace)):
        return found
    if callable(getattr(found, "init", None)) and callable(getattr(found, "step", None)):
        return PyroStateSpace(found)
    raise OptionError(
        f"state_space: found {type(found).__name__}, wanted a ppl.StateSpace, or a model for Pyro's SMCFilter with the "
        "methods init(state) and step(state, observation)."
    )


def _filter_in_groups(
    moves: Moves,
    series: list[torch.Tensor | None],
    *,
    num_particles: int,
    resampling: str,
    threshold: float,
    num_runs: int,
    keep_history: bool,
    seed: int,
) -> Filtered:
    began = clock.perf_counter()
    check_count("num_particles", num_particles, least=2)
    check_count("num_runs", num_runs, least=2)
    resampler = RESAMPLERS[check_choice("resampling", resampling, RESAMPLERS)]
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not 0.0 <= threshold <= 1.0:
        raise OptionError(f"threshold: found {threshold!r}, wanted a share of the particles, from 0 to 1.")
    first = next((value for value in series if value is not None), torch.zeros(()).double())
    series = [None if value is None else value.to(first) for value in series]
    world = isolated(seed=child_seed(check_seed(seed), "particle filter"), dtype=first.dtype, device=first.device)
    with world, torch.no_grad():
        state, _ = moves.begin(None, 1)
        held = num_particles * sum(value.numel() for value in state.values())
        most = max(1, NUMBERS_AT_ONCE // held)
        groups = [min(most, num_runs - start) for start in range(0, num_runs, most)]
        found = [_filter(moves, series, size, num_particles, resampler, threshold, keep_history) for size in groups]
    config = {
        "method": "smc",
        "num_particles": num_particles,
        "resampling": resampling,
        "threshold": threshold,
        "num_runs": num_runs,
        "num_times": len(series),
        "seed": seed,
        "versions": versions(),
    }
    joined = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
    num_proposed = sum(value is not None for value in series) if _has_proposal(moves) else 0
    plain = isinstance(moves, StateSpace)
    return _filtered(joined, num_particles, num_proposed, plain, config, clock.perf_counter() - began)


def _has_proposal(moves: Moves) -> bool:
    return isinstance(moves, StateSpace) and moves.proposal is not None


def _filter(
    moves: Moves,
    series: list[torch.Tensor | None],
    num_runs: int,
    num_particles: int,
    resampler: Resampler,
    threshold: float,
    keep_history: bool,
) -> dict[str, np.ndarray]:
    """Some runs side by side; what is recorded, by name, each of shape (run, time, ...)."""
    equal = torch.full((num_runs, num_particles), 1.0 / num_particles).log()
    ancestors = torch.arange(num_particles).expand(num_runs, num_particles)
    log_weights, total, state, effective = equal, torch.zeros(num_runs), {}, torch.zeros(num_runs)
    records: list[Found] = []
    probed = times_probed(len(series)) if _has_proposal(moves) else set()
    for time, observed in enumerate(series):
        before, log_weights_before = None, log_weights
        if time == 0:
            state, gained = moves.begin(observed, num_runs * num_particles)
        else:
            ancestors, log_weights = resample(log_weights, effective < threshold * num_particles, resampler)
            before, log_weights_before = _descended(state, ancestors), log_weights
            state, gained = moves.advance(time, before, observed)
        log_weights = log_weights + gained.reshape(num_runs, num_particles)
        increment = log_weights.logsumexp(1)
        lost = torch.tensor(torch.nan)
        if observed is not None and time in probed:
            assert isinstance(moves, StateSpace)
            lost = nats_lost(moves, time, before, log_weights_before, observed, increment)
        # a run without weight goes on with equal ones, so that nothing becomes NaN; its total stays at -inf
        log_weights = torch.where(increment.isneginf()[:, None], equal, log_weights - increment[:, None])
        total = total + increment.double()
        effective = 1.0 / log_weights.exp().square().sum(1)
        if records and not keep_history:
            records[-1] = without_particles(records[-1])
        found = record(state, log_weights, ancestors, effective, total)
        records.append({**found, "lost": lost.expand(num_runs)})
    return stacked(records)


def _descended(state: State, ancestors: torch.Tensor) -> State:
    """The states of the ancestors."""
    num_runs, num_particles = ancestors.shape
    starts = num_particles * torch.arange(num_runs, device=ancestors.device)
    places = (ancestors + starts[:, None]).reshape(-1)
    return {name: value[places] for name, value in state.items()}


def _filtered(
    found: dict[str, np.ndarray],
    num_particles: int,
    num_proposed: int,
    plain: bool,
    config: dict[str, Any],
    seconds: float,
) -> Filtered:
    totals = found["log_evidence"]
    estimate, error = log_mean(totals[:, -1])
    parts = {kind: by_name(found, kind) for kind in ("mean", "variance", "particles")}
    moments = {name: between_runs(mean, parts["variance"][name], totals) for name, mean in parts["mean"].items()}
    few_runs = len(totals) < ENOUGH_FOR_KHAT

    def of_state(values: dict[str, np.ndarray]) -> OfState:
        return values[STATE] if plain and list(values) == [STATE] else values

    return Filtered(
        method="smc",
        log_evidence=estimate,
        standard_error=error,
        interval=interval(estimate, error, len(totals), CONFIDENCE),
        lower=None,
        upper=None,
        num_draws=len(totals),
        checks=(
            check_alive(totals),
            check_effective(found["effective"], num_particles),
            check_unique(found["unique"]),
            check_spread(totals[:, -1]),
            check_tail("k-hat of the runs", totals[:, -1], "num_runs=100 or more" if few_runs else MORE),
            *((check_support(found["lost"], num_proposed),) if num_proposed else ()),
        ),
        config=config,
        seconds=seconds,
        log_weights=totals[:, -1],
        mean=of_state({name: mean for name, (mean, _, _) in moments.items()}),
        mean_error=of_state({name: spread for name, (_, spread, _) in moments.items()}),
        sd=of_state({name: sd for name, (_, _, sd) in moments.items()}),
        run_log_evidence=totals,
        effective=found["effective"],
        unique=found["unique"],
        particles=of_state(parts["particles"]),
        particle_log_weights=found["log_weights"],
        ancestors=found["ancestors"],
    )
