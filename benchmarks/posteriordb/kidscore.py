"""Children's test scores on their mothers' schooling and IQ: two regressions and three with an interaction."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch

from benchmarks.posteriordb import improper
from benchmarks.posteriordb.columns import centred, column, design
from benchmarks.posteriordb.problem import POSTERIORDB, Entry, Raw

CITE = (
    "Gelman and Hill (2006), Data Analysis Using Regression and Multilevel/Hierarchical Models, Cambridge University "
    f"Press, chapters 3 and 4; {POSTERIORDB}."
)


def simple(x: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
    """Linear regression: y_n ~ Normal(x_n . beta, sigma); beta is flat, sigma ~ HalfCauchy(2.5).

    Args:
        x: Design matrix, ones in its first column, shape (child, column).
        y: Test scores in points, shape (child,); None to draw them.

    Returns:
        The scores, measured or drawn.

    Gelman and Hill (2006), chapter 3.
    """
    return _regression(x, y, pyro.sample("sigma", dist.HalfCauchy(2.5)))


def interaction(x: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
    """Linear regression: y_n ~ Normal(x_n . beta, sigma); the priors of beta and of sigma > 0 are flat.

    Args:
        x: Design matrix: ones, schooling, IQ and the product of the two, shape (child, column).
        y: Test scores in points, shape (child,); None to draw them.

    Returns:
        The scores, measured or drawn.

    Gelman and Hill (2006), chapters 3 and 4.
    """
    return _regression(x, y, pyro.sample("sigma", improper.positive(scale=20.0)))


def _regression(x: torch.Tensor, y: torch.Tensor | None, sigma: torch.Tensor) -> torch.Tensor:
    beta = pyro.sample("beta", improper.real_vector(x, scale=20.0))
    mean = (x.to(beta) * beta).sum(-1)  # broadcasts over particles, where a matrix product does not
    with pyro.plate("child", x.shape[-2]):
        return pyro.sample("y", dist.Normal(mean, sigma), obs=y)


def _on_schooling(raw: Raw) -> dict[str, Any]:
    return {"x": design(column(raw, "mom_hs")), "y": column(raw, "kid_score")}


def _on_iq(raw: Raw) -> dict[str, Any]:
    return {"x": design(column(raw, "mom_iq")), "y": column(raw, "kid_score")}


def _centred_by_means(raw: Raw) -> dict[str, Any]:
    return _product(raw, centred(column(raw, "mom_hs")), centred(column(raw, "mom_iq")))


def _centred_by_convention(raw: Raw) -> dict[str, Any]:
    return _product(raw, column(raw, "mom_hs") - 0.5, column(raw, "mom_iq") - 100.0)


def _standardised_by_two_sds(raw: Raw) -> dict[str, Any]:
    schooling, iq = column(raw, "mom_hs"), column(raw, "mom_iq")
    return _product(raw, centred(schooling) / (2.0 * schooling.std()), centred(iq) / (2.0 * iq.std()))


def _product(raw: Raw, schooling: torch.Tensor, iq: torch.Tensor) -> dict[str, Any]:
    return {"x": design(schooling, iq, schooling * iq), "y": column(raw, "kid_score")}


ENTRIES = {
    "kidiq-kidscore_momhs": Entry(simple, _on_schooling, CITE),
    "kidiq-kidscore_momiq": Entry(simple, _on_iq, CITE),
    "kidiq_with_mom_work-kidscore_interaction_c": Entry(interaction, _centred_by_means, CITE),
    "kidiq_with_mom_work-kidscore_interaction_c2": Entry(interaction, _centred_by_convention, CITE),
    "kidiq_with_mom_work-kidscore_interaction_z": Entry(interaction, _standardised_by_two_sds, CITE),
}
