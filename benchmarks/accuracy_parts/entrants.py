"""Who takes part: families and methods of this library, and the peers, each by the label of its rows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import guides

OURS, PEERS = "ours", "peers"
PACKAGE = "benchmarks.accuracy_parts.peers"
AUTO, AUTO_WITHOUT_MCMC = "auto", "auto_without_mcmc"
NUMPYRO_NUTS, PYRO_NUTS = "numpyro_nuts", "pyro_nuts"
PYRO_NUTS_PROBLEMS = (
    "eight_schools-eight_schools_noncentered",
    "kidiq_with_mom_work-kidscore_interaction_c",
    "earnings-logearn_interaction_z",
    "mesquite-logmesquite_logvolume",
    "nes1996-nes",
)
"""Pyro's NUTS takes minutes a problem, and is timed on a handful."""


@dataclass(frozen=True)
class Entrant:
    """One line of the figure.

    Attributes:
        label: its name in rows and tables.
        side: "ours" or "peers".
        module: the module in `benchmarks.accuracy_parts.peers` that runs it, in a process of its own.
        job: the function there.
        options: its arguments beside problem and folder.
        problems: the only problems that it is run on; all where empty.
        threads: threads that it may use.
    """

    label: str
    side: str
    module: str
    job: str
    options: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    threads: int = 1


METHODS: Mapping[str, Mapping[str, Any]] = {
    "dadvi": {"guide": "normal", "method": "dadvi"},
    "linear_response": {"guide": "linear_response"},
    "pathfinder": {"guide": "pathfinder"},
    "batch_and_match": {"guide": "full_rank", "method": "batch_and_match"},
    "laplace_newton": {"guide": "laplace", "method": "newton"},
    "svgd": {"guide": "svgd"},
    AUTO_WITHOUT_MCMC: {"guide": "auto", "allow_mcmc": False},
    AUTO: {"guide": "auto", "allow_mcmc": True},
}
"""What is not a family fitted by its own default."""


def ours() -> tuple[Entrant, ...]:
    """Every family, then every method."""
    options = {name: {"guide": name} for name in guides.names()} | dict(METHODS)
    return tuple(Entrant(label, OURS, "library", "fit", {"options": dict(of)}) for label, of in options.items())


def peers() -> tuple[Entrant, ...]:
    """Pyro's autoguides, NumPyro's SVI, Pathfinder, and both NUTS."""
    pyro = ("AutoNormal", "AutoMultivariateNormal", "AutoLowRankMultivariateNormal", "AutoLaplaceApproximation")
    return (
        *(Entrant(f"pyro_{name}", PEERS, "of_pyro", "svi", {"guide": name}) for name in (*pyro, "AutoIAFNormal")),
        *(
            Entrant(f"numpyro_{name}", PEERS, "of_numpyro", "svi", {"guide": name})
            for name in ("AutoNormal", "AutoMultivariateNormal")
        ),
        Entrant("blackjax_pathfinder", PEERS, "of_blackjax", "pathfinder"),
        Entrant(NUMPYRO_NUTS, PEERS, "of_numpyro", "nuts", threads=2),
        Entrant(PYRO_NUTS, PEERS, "of_pyro", "nuts", problems=PYRO_NUTS_PROBLEMS),
    )
