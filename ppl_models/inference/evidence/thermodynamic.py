"""Log evidence by thermodynamic integration: the mean log likelihood, integrated over the inverse temperature."""

import time

import numpy as np
import torch
from scipy.stats import t as student

from ppl_models.checks import Check
from ppl_models.inference.evidence.annealing_checks import FALSE_ALARMS, check_acceptance
from ppl_models.inference.evidence.annealing_options import (
    AnnealingOptions,
    Road,
    by_data,
    num_threads,
    road_of,
    start_of,
)
from ppl_models.inference.evidence.hmc_transitions import Steps, transition
from ppl_models.inference.evidence.result import Evidence
from ppl_models.inference.evidence.temperatures import check_temperatures, power_temperatures
from ppl_models.inference.evidence.tempered_path import TemperedPath
from ppl_models.inference.evidence.weight_means import interval
from ppl_models.inference.fit_result import Fit
from ppl_models.program import Program

THERMODYNAMIC = "thermodynamic"
NUM_TEMPERATURES = 48
NUM_WARMUP, NUM_SWEEPS = 20, 80
"""Transitions before chains count, and those that do; an even number."""


def thermodynamic_evidence(program: Program, options: AnnealingOptions, *, fit: Fit | None = None) -> Evidence:
    """Log evidence by thermodynamic integration, chains at all temperatures side by side.

    The log evidence is the integral over t from 0 to 1 of the mean of u at t, the log likelihood (log joint less log
    guide, where the path starts from a guide). The mean rises with t, so that sums of its values at the left ends of
    the steps lie below the integral, and those at the right ends above. The trapezoidal rule is corrected by the
    mean's slope, which is the variance of u. The error is that between the chains.

    Args:
        program: the model with its data.
        options: temperatures, chains and so on.
        fit: of the model, whose guide the path starts from in place of the prior.

    Returns:
        The estimate, with `lower` and `upper` by these sums.

    Raises:
        ModelError: the model has no evidence, or none that can be had with gradients.
        OptionError: an option does not suit the model.

    Friel and Pettitt (2008), Marginal likelihood estimation via power posteriors; Friel, Hurn and Wyse (2014),
    Improving power posterior estimation of statistical evidence.
    """
    began = time.perf_counter()
    if options.temperatures is not None:
        temperatures = check_temperatures(options.temperatures)
    else:
        temperatures = power_temperatures(options.num_temperatures or NUM_TEMPERATURES)
    num_points = len(temperatures) * options.num_chains
    with program.isolated(seed=options.seed, num_threads=num_threads(program, num_points)), torch.no_grad():
        start = start_of(program, options, fit)
        road = road_of(program, start, options, temperatures, temperatures, keep=True)
        path = TemperedPath(program, start, num_points, options.backend)
        rises, acceptance = _sampled(road, path)
    values = by_data(rises, path.split.shape)
    chains = integrals(values, temperatures)
    estimate, error = chains.mean(axis=0), chains.std(axis=0, ddof=1) / np.sqrt(options.num_chains)
    means = values.mean(axis=0)
    steps = np.diff(temperatures).reshape(-1, *(1,) * (means.ndim - 1))
    left, right = (steps * means[:-1]).sum(axis=0), (steps * means[1:]).sum(axis=0)
    checks = (_check_grid(values, temperatures, estimate, error), _check_halves(values, temperatures))
    return Evidence(
        method=THERMODYNAMIC,
        log_evidence=estimate,
        standard_error=error,
        interval=interval(estimate, error, options.num_chains, options.confidence),
        lower=left.mean(axis=0),
        upper=right.mean(axis=0),
        num_draws=options.num_chains,
        checks=(*checks, check_acceptance(acceptance)),
        config={"method": THERMODYNAMIC, "num_sweeps": NUM_SWEEPS, **road.config},
        seconds=time.perf_counter() - began,
        lower_error=left.std(axis=0, ddof=1) / np.sqrt(options.num_chains),
        upper_error=right.std(axis=0, ddof=1) / np.sqrt(options.num_chains),
    )


def _sampled(road: Road, path: TemperedPath) -> tuple[torch.Tensor, torch.Tensor]:
    """Values of u, shape (sweep, temperature, chain, datum), and mean acceptance, shape (temperature, datum)."""
    tuning = road.tuning
    assert tuning.points is not None
    count, num_chains = tuning.points.shape[:2]

    def spread(values: torch.Tensor) -> torch.Tensor:
        """Values of each temperature for each of its chains."""
        return values.repeat_interleave(num_chains, 0)

    steps = Steps(spread(tuning.log_size.exp()), spread(tuning.log_scale.exp()), tuning.count)
    temperature = spread(road.temperatures[:, None])
    states = path.at(tuning.points.flatten(0, 1))
    rises, accepted = [], []
    for sweep in range(NUM_WARMUP + NUM_SWEEPS):
        states, probability = transition(path, states, temperature, steps, road.generator)
        if sweep >= NUM_WARMUP:
            rises.append(path.rise(states).reshape(count, num_chains, -1))
            accepted.append(probability.reshape(count, num_chains, -1).mean(1))
    return torch.stack(rises), torch.stack(accepted).mean(0)


def integrals(values: np.ndarray, temperatures: np.ndarray) -> np.ndarray:
    """The corrected trapezoidal rule, for each chain.

    Args:
        values: u in nats, shape (sweep, temperature, chain, *datum).
        temperatures: rising from 0 to 1, shape (temperature,).

    Returns:
        Nats, shape (chain, *datum); their mean is the estimate.
    """
    means = values.mean(axis=0)
    # about the mean of all chains, so that each chain's share of the variance is unbiased and they are independent
    variances = ((values - means.mean(axis=1, keepdims=True)) ** 2).mean(axis=0)
    steps = np.diff(temperatures).reshape(-1, *(1,) * (means.ndim - 1))
    trapezoids = 0.5 * steps * (means[1:] + means[:-1])
    return (trapezoids - steps**2 / 12.0 * (variances[1:] - variances[:-1])).sum(axis=0)


def _check_grid(values: np.ndarray, temperatures: np.ndarray, estimate: np.ndarray, error: np.ndarray) -> Check:
    """What the rule leaves out, by that with every second temperature: its error is of the fourth order."""
    name, advice = "error of the rule, in standard errors", "Take more temperatures."
    if len(temperatures) % 2 == 0:
        return Check(name, np.nan, 1.0, None, "", detail="not measured: it takes an even number of steps")
    half = integrals(values[:, ::2], temperatures[::2]).mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = float(np.max(np.abs(half - estimate) / 15.0 / error))
    passed = share <= 1.0 if np.isfinite(share) else False
    return Check(name, share, 1.0, passed, "" if passed else advice, detail="from half of the temperatures")


def _check_halves(values: np.ndarray, temperatures: np.ndarray) -> Check:
    """Whether the chains stand: the first half of the sweeps against the second, chain by chain."""
    first, second = (integrals(part, temperatures) for part in np.split(values, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = (first - second).mean(axis=0) / ((first - second).std(axis=0, ddof=1) / np.sqrt(values.shape[2]))
    worst = float(np.max(np.abs(apart)))
    limit = float(student.ppf(1.0 - 0.5 * FALSE_ALARMS / apart.size, values.shape[2] - 1))
    passed = worst <= limit if np.isfinite(worst) else False
    advice = "" if passed else "The chains still move towards their densities: take more temperatures."
    return Check("first half against second", worst, limit, passed, advice, detail="difference in standard errors")
