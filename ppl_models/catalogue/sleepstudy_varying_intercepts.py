"""Reaction times under sleep restriction, with an intercept for every subject."""

import numpy as np
import pyro
import pyro.distributions as dist
import torch

from guides.handwritten.sleepstudy_varying_intercepts import guide
from ppl_models import datasets
from ppl_models.catalogue.problem import Problem

BASELINE_DAY = 2  # days 0 and 1 of the study were training


def model(
    subject_index: torch.Tensor, days: torch.Tensor, num_subjects: int, y: torch.Tensor | None = None
) -> torch.Tensor:
    """Varying intercepts: y_i ~ Normal(a_subject(i) + b days_i, noise), a_j ~ Normal(mean, subject_scale).

    mean ~ Normal(3, 1), b ~ Normal(0, 0.5), subject_scale ~ HalfNormal(1), noise ~ HalfNormal(1), all in tenths of a
    second. Centred, because eight measurements per subject fix its intercept better than the population does.

    Args:
        subject_index: Which subject, shape (observation,).
        days: Days of restricted sleep, shape (observation,).
        num_subjects: How many subjects there are.
        y: Reaction times, tenths of a second, shape (observation,); None to draw them.

    Returns:
        The reaction times, measured or drawn.

    Belenky et al. (2003), Patterns of performance degradation and restoration during sleep restriction and subsequent
    recovery; Gelman and Hill (2007), Data Analysis Using Regression and Multilevel/Hierarchical Models, section 12.5.
    """
    mean = pyro.sample("mean", dist.Normal(3.0, 1.0))
    slope = pyro.sample("slope", dist.Normal(0.0, 0.5))
    subject_scale = pyro.sample("subject_scale", dist.HalfNormal(1.0))
    noise = pyro.sample("noise", dist.HalfNormal(1.0))
    with pyro.plate("subject", num_subjects):
        intercepts = pyro.sample("intercepts", dist.Normal(mean, subject_scale))
    location = intercepts[..., subject_index] + slope * days.to(slope)
    with pyro.plate("observation", days.shape[-1]):
        return pyro.sample("y", dist.Normal(location, noise), obs=y)


def build() -> Problem:
    """The problem: days 2 (the baseline) to 9 of the study, 18 subjects."""
    table = datasets.sleepstudy()
    used = table["day"] >= BASELINE_DAY
    labels, index = np.unique(table["subject"][used], return_inverse=True)
    by_observation = ("observation",)
    return Problem(
        name="sleepstudy_varying_intercepts",
        title="reaction times of 18 subjects under sleep restriction, varying intercepts",
        model=model,
        data={
            "subject_index": torch.tensor(index),
            "days": torch.tensor(table["day"][used] - BASELINE_DAY, dtype=torch.float64),
            "num_subjects": len(labels),
            "y": torch.tensor(table["reaction_ms"][used] / 100.0),
        },
        coords={"subject": labels.tolist(), "observation": list(range(int(used.sum())))},
        dims={
            "mean": (),
            "slope": (),
            "subject_scale": (),
            "noise": (),
            "intercepts": ("subject",),
            "y": by_observation,
            "subject_index": by_observation,
            "days": by_observation,
        },
        guides={"handwritten": guide},
        cite="Belenky et al. (2003), Patterns of performance degradation and restoration during sleep restriction and "
        "subsequent recovery, Journal of Sleep Research 12, 1-12.",
        expected={
            "normal": "has the means, but too small a spread of mean and slope, which all the intercepts follow.",
            "full_rank": "does well: eight measurements per subject leave no funnel to speak of.",
            "handwritten": "does well: the intercepts are exact given the population.",
        },
    )
