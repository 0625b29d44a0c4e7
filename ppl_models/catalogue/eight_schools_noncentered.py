"""Eight schools, non-centred: the same posterior in coordinates without a funnel."""

import pyro
import pyro.distributions as dist
import torch

from guides.handwritten.eight_schools_noncentered import guide
from ppl_models import datasets
from ppl_models.catalogue.problem import Problem


def model(sigma: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
    """Hierarchy: y_j ~ Normal(theta_j, sigma_j), theta_j = mu + tau theta_trans_j, theta_trans_j ~ Normal(0, 1).

    The priors are mu ~ Normal(0, 5) and tau ~ HalfCauchy(5), as in posteriordb's `eight_schools_noncentered`.

    Args:
        sigma: Standard errors of the effects, points, shape (school,).
        y: Measured effects, points, shape (school,); None to draw them.

    Returns:
        The effects, measured or drawn.

    Rubin (1981), Estimation in parallel randomized experiments; Papaspiliopoulos, Roberts and Sköld (2007), A general
    framework for the parametrization of hierarchical models.
    """
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("school", sigma.shape[-1]):
        theta_trans = pyro.sample("theta_trans", dist.Normal(0.0, 1.0))
        # without event_dim, a deterministic inside a plate takes the plate for a part of its event
        theta = pyro.deterministic("theta", mu + tau * theta_trans, event_dim=0)
        return pyro.sample("y", dist.Normal(theta, sigma.to(theta)), obs=y)


def build() -> Problem:
    """The problem, with the published table as its data."""
    table = datasets.eight_schools()
    by_school = ("school",)
    return Problem(
        name="eight_schools_noncentered",
        title="hierarchical normal model of coaching effects in eight schools, non-centred",
        model=model,
        data={"sigma": torch.tensor(table["standard_error"]), "y": torch.tensor(table["effect"])},
        coords={"school": table["school"].tolist()},
        dims={"mu": (), "tau": (), "theta_trans": by_school, "theta": by_school, "y": by_school, "sigma": by_school},
        guides={"handwritten": guide},
        cite="Rubin (1981), Estimation in parallel randomized experiments, Journal of Educational Statistics 6, "
        "377-401.",
        expected={
            "normal": "does well on the effects; the left tail of log tau is too short.",
            "full_rank": "does as well as normal: hardly any linear correlation is left.",
            "handwritten": "comes within 0.01 nats of the evidence: all is exact given tau, which is nearly Burr.",
        },
    )
