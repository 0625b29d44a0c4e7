"""Log evidence by annealed importance sampling: from below, and with a run back from the posterior from both sides."""

import time
from dataclasses import dataclass, replace

import numpy as np
import torch

from ppl_models.checks import Check
from ppl_models.inference.evidence.annealed import Annealed, anneal
from ppl_models.inference.evidence.annealing_checks import bracket_checks, check_acceptance, check_starts, weight_checks
from ppl_models.inference.evidence.annealing_options import (
    NUM_KNOTS,
    AnnealingOptions,
    Road,
    by_data,
    num_threads,
    road_of,
    start_of,
)
from ppl_models.inference.evidence.hmc_transitions import transition
from ppl_models.inference.evidence.result import Evidence
from ppl_models.inference.evidence.reverse_starts import Draws, PosteriorDraws, posterior_draws
from ppl_models.inference.evidence.temperatures import check_temperatures, sigmoid_temperatures
from ppl_models.inference.evidence.tempered_path import States
from ppl_models.inference.evidence.weight_means import interval, log_mean, meeting, unbiased
from ppl_models.inference.fit_result import Fit
from ppl_models.program import Program
from ppl_models.seeds import child_seed

AIS, BIDIRECTIONAL = "ais", "bidirectional"
NUM_TEMPERATURES = 1_000
NUM_MOVES = 30
"""Transitions at the posterior from starts that are alike, or near the posterior only."""


@dataclass(frozen=True)
class Side:
    """One bound on the log evidence: nats, shape of the data, with its standard error and its weights."""

    bound: np.ndarray
    error: np.ndarray
    log_weights: np.ndarray


def ais_evidence(program: Program, options: AnnealingOptions, *, fit: Fit | None = None) -> Evidence:
    """Log evidence by annealed importance sampling with Hamiltonian transitions.

    The mean weight is the evidence in expectation, so that its logarithm lies below the truth in expectation, and above
    it by b nats with probability at most exp(-b).

    Args:
        program: the model with its data.
        options: temperatures, chains and so on.
        fit: of the model, whose guide the path starts from in place of the prior.

    Returns:
        The estimate, with its interval and health; `lower` is the log mean weight itself, and the estimate has its bias
        of first order taken out, which would add up over many data.

    Raises:
        ModelError: the model has no evidence, or none that can be had with gradients.
        OptionError: an option does not suit the model.

    Neal (2001), Annealed importance sampling, Statistics and Computing 11, 125-139.
    """
    began = time.perf_counter()
    with program.isolated(seed=options.seed, num_threads=num_threads(program, options.num_chains)), torch.no_grad():
        road = _road(program, options, fit)
        run = _forward(road, options)
        forward = _lower(road, run)
    checks = [*weight_checks("forward", forward.log_weights), check_acceptance(run.acceptance)]
    estimate = unbiased(forward.bound, forward.error)
    return _evidence(AIS, estimate, forward.error, forward, None, road, checks, began)


def bidirectional_evidence(
    program: Program,
    options: AnnealingOptions,
    *,
    fit: Fit | None = None,
    draws: Draws | None = None,
    exact: bool | None = None,
) -> Evidence:
    """Log evidence between two bounds: annealing forward from the start, and back from the posterior.

    The forward run's log mean weight lies below the truth in expectation; less the log mean of the reverse run's
    inverse weights lies above it, if that run begins at exact draws of the posterior. The estimate is where both meet.

    Args:
        program: the model with its data.
        options: temperatures, chains and so on.
        fit: of the model, whose guide the path starts from in place of the prior.
        draws: where the reverse run begins, as of `posterior_draws`: draws by MCMC, or the latents from which the data
            were simulated. None takes the forward run's ends, resampled and moved on at the posterior: no exact draws,
            so that `upper` is an estimate. Fewer draws than chains make the reverse chains alike: `upper` then has no
            error, and the estimate is the forward run's. The checks say both.
        exact: whether `draws` are exact; None takes one draw for an exact one and many for MCMC.

    Returns:
        The estimate, `lower` and `upper`, with their health. `log_weights` are the forward run's.

    Raises:
        ModelError: the model has no evidence, or none that can be had with gradients.
        OptionError: an option does not suit the model.
        DataError: the draws are not of this model.

    Grosse, Ghahramani and Adams (2015), Sandwiching the marginal likelihood using bidirectional Monte Carlo; Wu, Burda,
    Salakhutdinov and Grosse (2017), On the quantitative analysis of decoder-based generative models.
    """
    began = time.perf_counter()
    given = None if draws is None else posterior_draws(program, draws, exact)
    with program.isolated(seed=options.seed, num_threads=num_threads(program, options.num_chains)), torch.no_grad():
        road = _road(program, options, fit)
        run = _forward(road, options)
        states = _own_starts(road, run) if given is None else _given_starts(road, given, options)
        back = anneal(road.path, states, road.temperatures, road.tuning, road.generator, reverse=True)
        forward, reverse = _lower(road, run), _upper(road, back)
    if given is not None and given.shared(options.num_chains):
        reverse = replace(reverse, error=np.full_like(reverse.error, np.nan))
        estimate, error = unbiased(forward.bound, forward.error), forward.error
    else:
        estimate, error = meeting(forward.log_weights, reverse.log_weights)
    checks = [
        *weight_checks("forward", forward.log_weights),
        *weight_checks("reverse", -reverse.log_weights),
        check_acceptance(run.acceptance, back.acceptance),
        *bracket_checks(forward.bound, reverse.bound, forward.error, reverse.error, options.num_chains),
        *check_starts(given, options.num_chains),
    ]
    road.config["reverse_starts"] = "the forward run's ends, moved on" if given is None else given.what
    road.config["exact"] = given is not None and given.exact
    return _evidence(BIDIRECTIONAL, estimate, error, forward, reverse, road, checks, began)


def _road(program: Program, options: AnnealingOptions, fit: Fit | None) -> Road:
    if options.temperatures is not None:
        temperatures = check_temperatures(options.temperatures)
    else:
        temperatures = sigmoid_temperatures(options.num_temperatures or NUM_TEMPERATURES)
    return road_of(program, start_of(program, options, fit), options, temperatures, sigmoid_temperatures(NUM_KNOTS - 1))


def _forward(road: Road, options: AnnealingOptions) -> Annealed:
    states = road.path.drawn(options.num_chains, child_seed(options.seed, "forward"))
    return anneal(road.path, states, road.temperatures, road.tuning, road.generator)


def _lower(road: Road, run: Annealed) -> Side:
    log_weights = by_data(run.log_weights, road.path.split.shape)
    return Side(*log_mean(log_weights), log_weights)


def _upper(road: Road, run: Annealed) -> Side:
    log_weights = by_data(run.log_weights, road.path.split.shape)
    inverse, error = log_mean(-log_weights)
    return Side(-inverse, error, log_weights)


def _given_starts(road: Road, draws: PosteriorDraws, options: AnnealingOptions) -> States:
    rng = np.random.default_rng(child_seed(options.seed, "reverse"))
    points = torch.as_tensor(draws.chosen(options.num_chains, rng)).to(road.temperatures)
    states = road.path.at(road.path.blocks(points))
    # chains from one draw are exact, each by itself, but alike until they have moved
    return _moved(road, states) if draws.shared(options.num_chains) else states


def _own_starts(road: Road, run: Annealed) -> States:
    """The ends of a forward run, of each datum by itself, resampled by their weights and moved on."""
    weights = torch.nan_to_num(torch.softmax(run.log_weights, 0), nan=1.0)
    chosen = torch.multinomial(weights.T, len(weights), replacement=True, generator=road.generator).T
    points = torch.take_along_dim(run.states.points, chosen[..., None], 0)
    return _moved(road, road.path.at(points))


def _moved(road: Road, states: States) -> States:
    one = road.temperatures[-1]
    for _ in range(NUM_MOVES):
        states, _ = transition(road.path, states, one, road.tuning.at(1.0), road.generator)
    return states


def _evidence(
    method: str,
    estimate: np.ndarray,
    error: np.ndarray,
    forward: Side,
    reverse: Side | None,
    road: Road,
    checks: list[Check],
    began: float,
) -> Evidence:
    count = len(forward.log_weights)
    return Evidence(
        method=method,
        log_evidence=estimate,
        standard_error=error,
        interval=interval(estimate, error, count, road.config["confidence"]),
        lower=forward.bound,
        upper=None if reverse is None else reverse.bound,
        num_draws=count if reverse is None else 2 * count,
        checks=tuple(checks),
        config={"method": method, **road.config},
        seconds=time.perf_counter() - began,
        log_weights=forward.log_weights,
        lower_error=forward.error,
        upper_error=None if reverse is None else reverse.error,
    )
