"""Guide of the varying-intercept model: exact intercepts given the rest, a dense normal over the rest.

Given mean, slope, subject scale and noise, the intercepts are independent across subjects: n_j residuals with mean r_j
and the prior Normal(mean, subject_scale) give a normal whose precision is n_j / noise² + 1 / subject_scale² and whose
mean weighs r_j and the population mean by those two terms (Gelman and Hill 2007, Data Analysis Using Regression and
Multilevel/Hierarchical Models, section 12.2).
"""

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints

from guides.errors import MissingDataError
from guides.handwritten.parts import dense_normal, place


def guide(subject_index: torch.Tensor, days: torch.Tensor, num_subjects: int, y: torch.Tensor | None = None) -> None:
    """q(mean, slope, log subject scale, log noise) p(intercepts | those, y).

    Keeps the dependence of every intercept on the slope (the days are not centred, so that a steeper slope lowers all
    intercepts together), on the mean, and on the two scales that set the pooling.

    Args:
        subject_index: Which subject, shape (observation,).
        days: Days of restricted sleep, shape (observation,).
        num_subjects: How many subjects there are.
        y: Reaction times, tenths of a second, shape (observation,).

    Raises:
        MissingDataError: If y is None.
    """
    if y is None:
        raise MissingDataError("sleepstudy_varying_intercepts", "y")
    joint = dense_normal("population", [3.0, 0.0, -1.0, -1.0])
    mean = place("mean", joint[..., 0])
    slope = place("slope", joint[..., 1])
    subject_scale = place("subject_scale", joint[..., 2], constraints.positive)
    noise = place("noise", joint[..., 3], constraints.positive)

    # a comparison, since one_hot reads the data to check them, which no captured graph can
    membership = (subject_index.unsqueeze(-1) == torch.arange(num_subjects)).to(mean)
    residual_sums = (y.to(mean) - slope * days.to(mean)) @ membership
    precision = membership.sum(0) / noise**2 + subject_scale**-2
    location = (residual_sums / noise**2 + mean / subject_scale**2) / precision
    with pyro.plate("subject", num_subjects):
        pyro.sample("intercepts", dist.Normal(location, precision**-0.5))
