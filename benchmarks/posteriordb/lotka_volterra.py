"""Hares and lynxes of the Hudson's Bay Company: the Lotka-Volterra equations with log-normal noise."""

import math
from typing import Any

import pyro
import pyro.distributions as dist
import torch

from benchmarks.posteriordb import improper
from benchmarks.posteriordb.columns import column
from benchmarks.posteriordb.problem import POSTERIORDB, Entry, Raw

CITE = (
    "Hewitt (1921), The Conservation of the Wild Life of Canada, Scribner (data); Lotka (1925), Elements of Physical "
    "Biology, Williams and Wilkins; Volterra (1926), Fluctuations in the abundance of a species considered "
    "mathematically, Nature 118, 558-560; Carpenter (2018), Predator-prey population dynamics: the Lotka-Volterra "
    "model in Stan, Stan Case Studies 5; "
    f"{POSTERIORDB}."
)

HALF_PREDATOR = (
    0.0502627644003922,
    0.413514300428344,
    0.0450798897943977,
    -0.188054853819569,
    0.541960678450780,
)
HALF_PREY = (0.148816447901042, -0.132385865767784, 0.067307604692185, 0.432666402578175)
PREDATOR_KICKS = (*HALF_PREDATOR, 1.0 - 2.0 * sum(HALF_PREDATOR), *HALF_PREDATOR[::-1])
PREY_KICKS = (*HALF_PREY, 0.5 - sum(HALF_PREY), 0.5 - sum(HALF_PREY), *HALF_PREY[::-1])
"""Durations of the kicks in units of a step; those of the predator come first and last."""

CYCLE = 10.0
"""Years from peak to peak, about; with the mean populations it gives the scale of the rates."""

LOG_MOST = 5.0
"""Where populations explode, a kick is cut to exp(5), which keeps densities finite; plausible kicks are of size one."""


def model(times: torch.Tensor, y_init: torch.Tensor, y: torch.Tensor) -> None:
    """Prey u and predator v: u' = (theta[0] - theta[1] v) u, v' = (-theta[2] + theta[3] u) v, (u, v)(0) = z_init.

    y_init[k] ~ LogNormal(log z_init[k], sigma[k]), y[n, k] ~ LogNormal(log z_n[k], sigma[k]); theta[0], theta[2] ~
    Normal(1, 0.5) and theta[1], theta[3] ~ Normal(0.05, 0.05), cut to the positive side and not renormalised;
    z_init[k] ~ LogNormal(log 10, 1), sigma[k] ~ LogNormal(-1, 1).

    Solutions far from the data leave modes a hundred nats and more below the main one, in which chains are stuck. So
    the sites are logarithms, in quarters, of theta over a guess from cycle and means of the data, and of z_init over
    y_init: starts of a few units are of the right order.

    Args:
        times: Years after the first, shape (year,).
        y_init: Pelts of hare and lynx in the first year, thousands, shape (species,).
        y: Pelts of hare and lynx, thousands, shape (year, species).

    Carpenter (2018).
    """
    guess = _rates(*y.mean(0).unbind())
    quarters = pyro.sample("log_theta_quarters", improper.real_vector(guess, scale=1.0))
    theta = pyro.deterministic("theta", guess * (quarters / 4.0).exp(), event_dim=1)
    prior = dist.Normal(y.new_tensor([1.0, 0.05, 1.0, 0.05]), y.new_tensor([0.5, 0.05, 0.5, 0.05]))
    pyro.factor("prior_of_theta", (prior.log_prob(theta) + theta.log()).sum(-1))  # the latter from log theta to theta
    quarters = pyro.sample("log_z_init_quarters", improper.real_vector(y_init, scale=1.0))
    start = y_init.log() + quarters / 4.0
    pyro.factor("prior_of_z_init", dist.Normal(math.log(10.0), 1.0).log_prob(start).sum(-1))
    pyro.deterministic("z_init", start.exp(), event_dim=1)
    sigma = pyro.sample("sigma", dist.LogNormal(y.new_full((2,), -1.0), 1.0).to_event(1))
    path = log_populations(theta, start, times)
    pyro.sample("y_init", dist.LogNormal(start, sigma).to_event(1), obs=y_init)
    pyro.sample("y", dist.LogNormal(path, sigma.unsqueeze(-2)).to_event(2), obs=y)


def _rates(prey: torch.Tensor, predator: torch.Tensor) -> torch.Tensor:
    """The rates at which those populations are in balance, and small swings about them take `CYCLE` years."""
    one = torch.ones_like(prey)
    return torch.stack([one, 1.0 / predator, one, 1.0 / prey]) * (math.tau / CYCLE)


def log_populations(theta: torch.Tensor, start: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
    """Solve the equations for the logarithms of the populations, which keeps them positive.

    The system x' = theta[0] - theta[1] exp(y), y' = -theta[2] + theta[3] exp(x) is Hamiltonian and separable, so that
    each logarithm changes in kicks by the other, and a symmetric composition of kicks has an order of six. The constant
    rates are exact: what is kicked is x - theta[0] t and y + theta[2] t, and the kicks' sizes are one vector.

    Args:
        theta: Yearly growth of the prey, its loss per predator, death of the predator, its gain per prey, shape (...,
            4).
        start: Logarithms of prey and predator at time 0, shape (..., 2).
        times: Increasing times, years, about one apart, shape (time,).

    Returns:
        The logarithms at those times, shape (..., time, 2).

    Blanes and Moan (2002), Practical symplectic partitioned Runge-Kutta and Runge-Kutta-Nyström methods, Journal of
    Computational and Applied Mathematics 142, 313-330.
    """
    growth, loss, death, gain = theta.unsqueeze(-2).unbind(-1)
    of_predator, of_prey = times.new_tensor(PREDATOR_KICKS), times.new_tensor(PREY_KICKS)
    span = torch.diff(times, prepend=times.new_zeros(1)).unsqueeze(-1)
    begin = times.unsqueeze(-1) - span
    prey_time = begin + span * torch.cat([of_prey.new_zeros(1), of_prey.cumsum(0)])
    predator_time = begin + span * of_predator.cumsum(0)[:-1]
    up = (span * of_predator.abs()).flatten().log() + gain.log() + growth * prey_time.flatten()
    down = (span * of_prey.abs()).flatten().log() + loss.log() - death * predator_time.flatten()
    log_up, log_down = iter(up.unbind(-1)), iter(down.unbind(-1))
    prey, predator = start.unbind(-1)
    path = []
    for _ in range(len(times)):
        for duration, duration_of_prey in zip(PREDATOR_KICKS, (*PREY_KICKS, None), strict=True):
            predator = _kicked(predator, prey + next(log_up), forward=duration > 0)
            if duration_of_prey is not None:
                prey = _kicked(prey, predator + next(log_down), forward=duration_of_prey < 0)
        path += [prey, predator]
    drift = torch.stack([growth * times, -death * times], dim=-1)
    return torch.stack(path, dim=-1).unflatten(-1, (-1, 2)) + drift


def _kicked(species: torch.Tensor, log_size: torch.Tensor, *, forward: bool) -> torch.Tensor:
    size = log_size.clamp(max=LOG_MOST).exp()
    return species + size if forward else species - size


def _prepare(raw: Raw) -> dict[str, Any]:
    return {"times": column(raw, "ts"), "y_init": column(raw, "y_init"), "y": column(raw, "y")}


ENTRIES = {"hudson_lynx_hare-lotka_volterra": Entry(model, _prepare, CITE, {"draws": 2_000})}
