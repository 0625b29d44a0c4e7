"""Party identification in the National Election Studies of five years: one regression with flat priors."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch

from benchmarks.posteriordb import improper
from benchmarks.posteriordb.columns import column, design
from benchmarks.posteriordb.problem import POSTERIORDB, Entry, Raw

CITE = (
    "Gelman and Hill (2006), Data Analysis Using Regression and Multilevel/Hierarchical Models, Cambridge University "
    f"Press, section 4.7; American National Election Studies; {POSTERIORDB}."
)
YEARS = (1972, 1980, 1984, 1992, 1996)


def model(x: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
    """Linear regression: y_n ~ Normal(x_n . beta, sigma); the priors of beta and of sigma > 0 are flat.

    Args:
        x: Design matrix: ones, ideology, race, three indicators of age, schooling, sex and income, shape
            (respondent, column).
        y: Party identification, 1 (strong Democrat) to 7 (strong Republican), as a number, shape (respondent,); None to
            draw it.

    Returns:
        The response, measured or drawn.

    Gelman and Hill (2006), section 4.7.
    """
    beta = pyro.sample("beta", improper.real_vector(x, scale=1.0))
    sigma = pyro.sample("sigma", improper.positive(scale=2.0))
    mean = (x.to(beta) * beta).sum(-1)  # broadcasts over particles, where a matrix product does not
    with pyro.plate("respondent", x.shape[-2]):
        return pyro.sample("y", dist.Normal(mean, sigma), obs=y)


def _prepare(raw: Raw) -> dict[str, Any]:
    age = column(raw, "age_discrete")
    ages = [(age == group).to(age) for group in (2, 3, 4)]  # the first of the four is the baseline
    before = [column(raw, name) for name in ("real_ideo", "race_adj")]
    after = [column(raw, name) for name in ("educ1", "gender", "income")]
    return {"x": design(*before, *ages, *after), "y": column(raw, "partyid7")}


ENTRIES = {f"nes{year}-nes": Entry(model, _prepare, CITE) for year in YEARS}
