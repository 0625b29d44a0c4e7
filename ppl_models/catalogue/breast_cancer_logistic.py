"""Logistic regression of breast cancer biopsies, nearly separable."""

import pyro
import pyro.distributions as dist
import torch

from guides.handwritten.breast_cancer_logistic import guide
from ppl_models import datasets
from ppl_models.catalogue.problem import Problem


def model(x: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
    """Logistic regression: y ~ Bernoulli(logits = a + X b), a ~ Normal(0, 2.5), b_j ~ Normal(0, 1).

    The classes are all but separable, so that the likelihood alone has no finite maximum to speak of: the prior decides
    how far the coefficients go. Scale 1 for a standardised covariate says that one standard deviation of it rarely
    changes the log odds by more than two.

    Args:
        x: Standardised covariates, unitless, shape (biopsy, covariate).
        y: 1 where benign, 0 where malignant, shape (biopsy,); None to draw it.

    Returns:
        The classes, measured or drawn.

    Gelman et al. (2008), A weakly informative default prior distribution for logistic and other regression models.
    """
    intercept = pyro.sample("intercept", dist.Normal(0.0, 2.5))
    coefficients = pyro.sample("coefficients", dist.Normal(torch.zeros(x.shape[-1]), 1.0).to_event(1))
    logits = intercept + (x.to(coefficients) * coefficients).sum(-1)  # broadcasts over particles
    with pyro.plate("biopsy", x.shape[-2]):
        return pyro.sample("y", dist.Bernoulli(logits=logits), obs=y)


def build() -> Problem:
    """The problem: scikit-learn's breast cancer data, covariates standardised."""
    table = datasets.breast_cancer()
    covariates = torch.tensor(table["covariates"])
    x = (covariates - covariates.mean(0)) / covariates.std(0, correction=0)
    return Problem(
        name="breast_cancer_logistic",
        title="logistic regression of biopsies on thirty collinear measurements, nearly separable",
        model=model,
        data={"x": x, "y": torch.tensor(table["benign"], dtype=torch.float64)},
        coords={"biopsy": list(range(x.shape[0])), "covariate": table["covariate"].tolist()},
        dims={"intercept": (), "coefficients": ("covariate",), "y": ("biopsy",), "x": ("biopsy", "covariate")},
        guides={"handwritten": guide},
        cite="Street, Wolberg and Mangasarian (1993), Nuclear feature extraction for breast tumor diagnosis (data); "
        "Gelman et al. (2008), Annals of Applied Statistics 2, 1360-1383 (priors).",
        expected={
            "normal": "has the means, but standard deviations that are too small: the covariates are collinear.",
            "full_rank": "does well: the posterior is log-concave and nearly normal.",
            "handwritten": "does well, like full_rank: it is a dense normal too.",
        },
    )
