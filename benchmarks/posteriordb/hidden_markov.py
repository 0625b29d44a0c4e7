"""Two hidden Markov models of two states: a simulated series, and the movements of a basketball player."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch

from benchmarks.posteriordb import improper
from benchmarks.posteriordb.columns import column
from benchmarks.posteriordb.problem import POSTERIORDB, Entry, Raw

RABINER = "Rabiner (1989), A tutorial on hidden Markov models, Proceedings of the IEEE 77, 257-286 (model); "
DRIVE = (
    f"Imad Ali (2019), Tagging basketball events with HMM in Stan, Stan Case Studies 6 (model and data); {POSTERIORDB}."
)


def example(y: torch.Tensor) -> None:
    """Two states: y_t ~ Normal(mu[z_t], 1), z_t ~ Categorical(theta[z_(t-1)]); the states are summed out.

    theta1, theta2 ~ Dirichlet(1, 1) are the rows of the transition matrix; mu[0] ~ Normal(3, 1) and mu[1] ~ Normal(10,
    1), cut to 0 < mu[0] < mu[1] and not renormalised. Both first states have weight one. The sites are mu[0] and the
    gap above it, whose map to mu has a unit Jacobian.

    Args:
        y: The series, shape (time,).

    Rabiner (1989).
    """
    theta1 = pyro.sample("theta1", dist.Dirichlet(y.new_ones(2)))
    theta2 = pyro.sample("theta2", dist.Dirichlet(y.new_ones(2)))
    low = pyro.sample("mu_low", improper.positive(scale=3.0))
    gap = pyro.sample("mu_gap", improper.positive(scale=7.0))
    mu = pyro.deterministic("mu", torch.stack([low, low + gap], dim=-1), event_dim=1)
    centre = y.new_tensor([3.0, 10.0])
    pyro.factor("prior_of_mu", dist.Normal(centre, 1.0).to_event(1).log_prob(mu))
    emission = dist.Normal(mu.unsqueeze(-2), 1.0).log_prob(y.unsqueeze(-1))
    pyro.factor("y", log_evidence(torch.stack([theta1, theta2], dim=-2).log(), emission))


def drive(u: torch.Tensor, v: torch.Tensor, alpha: torch.Tensor, tau: float, rho: float) -> None:
    """Two states: u_t ~ Normal(phi[z_t], tau), v_t ~ Normal(lambda[z_t], rho); the states are summed out.

    z_t ~ Categorical(theta[z_(t-1)]), where theta1 ~ Dirichlet(alpha[0]) and theta2 ~ Dirichlet(alpha[1]) are the rows
    of the transition matrix; phi[0], lambda[0] ~ Normal(0, 1) and phi[1], lambda[1] ~ Normal(3, 1), each pair cut to be
    increasing and not renormalised. Both first states have weight one.

    Args:
        u: Logarithm of the player's distance from the defender, shape (time,).
        v: Logarithm of the player's distance from the hoop, shape (time,).
        alpha: Concentrations of the rows, shape (state, state).
        tau: Standard deviation of u.
        rho: Standard deviation of v.

    Imad Ali (2019).
    """
    theta1 = pyro.sample("theta1", dist.Dirichlet(alpha[0]))
    theta2 = pyro.sample("theta2", dist.Dirichlet(alpha[1]))
    centre = u.new_tensor([0.0, 3.0])
    phi = pyro.sample("phi", improper.increasing(centre))
    lambda_ = pyro.sample("lambda", improper.increasing(centre))
    prior = dist.Normal(centre, 1.0).to_event(1)
    pyro.factor("prior_of_phi", prior.log_prob(phi))
    pyro.factor("prior_of_lambda", prior.log_prob(lambda_))
    emission = dist.Normal(phi.unsqueeze(-2), tau).log_prob(u.unsqueeze(-1))
    emission = emission + dist.Normal(lambda_.unsqueeze(-2), rho).log_prob(v.unsqueeze(-1))
    pyro.factor("uv", log_evidence(torch.stack([theta1, theta2], dim=-2).log(), emission))


def log_evidence(transition: torch.Tensor, emission: torch.Tensor) -> torch.Tensor:
    """Log of the sum over all paths of two states, the first states of weight one, in log2(time) vectorised rounds.

    Forward steps are products of matrices, which associate: neighbours are multiplied, then the products' neighbours.

    Args:
        transition: Log probability of the next state, the second axis, given the last, shape (..., 2, 2).
        emission: Log density of each observation in each state, shape (..., time, 2).

    Returns:
        The log evidence in nats, shape (...).

    Särkkä and García-Fernández (2021), Temporal parallelization of Bayesian smoothers, IEEE Transactions on Automatic
    Control 66, 299-306.
    """
    steps = transition.unsqueeze(-3) + emission[..., 1:, None, :]
    while steps.shape[-3] > 1:
        even = steps.shape[-3] // 2 * 2
        left, right, rest = steps[..., 0:even:2, :, :], steps[..., 1:even:2, :, :], steps[..., even:, :, :]
        through = [left[..., :, state, None] + right[..., state, None, :] for state in (0, 1)]
        steps = torch.cat([torch.logaddexp(*through), rest], dim=-3)
    return (emission[..., 0, :, None] + steps[..., 0, :, :]).flatten(-2).logsumexp(-1)


def _prepare_example(raw: Raw) -> dict[str, Any]:
    return {"y": column(raw, "y")}


def _prepare_drive(raw: Raw) -> dict[str, Any]:
    columns = {name: column(raw, name) for name in ("u", "v", "alpha")}
    return {**columns, "tau": float(raw["tau"]), "rho": float(raw["rho"])}


ENTRIES = {
    "bball_drive_event_1-hmm_drive_1": Entry(drive, _prepare_drive, DRIVE),
    "hmm_example-hmm_example": Entry(example, _prepare_example, f"{RABINER}{POSTERIORDB} (simulated data)."),
}
