"""Guide of the logistic regression: one dense normal over the intercept and all coefficients.

The log posterior is concave (a logistic likelihood with a normal prior), and close to quadratic where the data are many
(Bernstein and von Mises); its curvature is XᵀVX + prior precision, dense because the covariates are collinear (Murphy
2012, Machine Learning: a Probabilistic Perspective, section 8.4.1).
"""

import torch
from pyro.distributions import constraints

from guides.handwritten.parts import dense_normal, place


def guide(x: torch.Tensor, y: torch.Tensor | None = None) -> None:
    """q(intercept, coefficients), a dense normal.

    Keeps the dependence among the coefficients: radius, perimeter and area of the same nuclei are all but copies, and
    the data fix their sum much better than their differences.

    Args:
        x: Standardised covariates, unitless, shape (biopsy, covariate).
        y: 1 where benign, 0 where malignant, shape (biopsy,); not read.
    """
    joint = dense_normal("weights", [0.0] * (1 + x.shape[-1]))
    place("intercept", joint[..., 0])
    place("coefficients", joint[..., 1:], constraints.real_vector)
