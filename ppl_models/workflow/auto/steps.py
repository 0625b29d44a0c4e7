"""The steps of the ladder, cheapest first."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Step:
    """A family with its method.

    Attributes:
        name: for people.
        options: arguments of the fit.
        most_dims: it is not tried with more latents.
        improves: whether it begins at the best fit so far.
        slow: whether it compiles code: it is tried where there is time for that, and may take a share of the seconds
            left only, where MCMC may still follow.
    """

    name: str
    options: Mapping[str, Any]
    most_dims: int
    improves: bool = False
    slow: bool = False


HEAVY_TAILS = "full_rank_student_t"
"""Importance weights need a proposal with heavier tails than the posterior's (Geweke 1989, Bayesian inference in
econometric models using Monte Carlo integration): a multivariate t takes the moments that a method for normals finds.
"""

PATHFINDER = Step("Pathfinder", {"guide": "pathfinder"}, 1_000)
LADDER = (
    Step("mean field with linear response", {"guide": HEAVY_TAILS, "method": "linear_response"}, 500),
    PATHFINDER,
    Step("full rank", {"guide": HEAVY_TAILS, "method": "batch_and_match"}, 500, improves=True),
    Step("flow", {"guide": "realnvp"}, 100, improves=True, slow=True),
)
LAST_RESORT = Step("mean field by SVI", {"guide": "normal"}, 1_000_000_000)
"""Where no rung could be fitted: so that there is a fit, and coordinates for NUTS."""
NUTS = "NUTS"
SLOW_SHARE = 0.5
SLOW_SECONDS = 60.0
"""What compiling and fitting a flow takes, roughly."""
