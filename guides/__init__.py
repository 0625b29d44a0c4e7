"""Variational families for any Pyro model: automatic ones by name, and hand-written ones by problem."""

from guides.amortization import AmortizedGuide, amortized
from guides.automatic import FAMILIES, make, names
from guides.errors import FamilyOptionError, LaplaceError, MissingDataError, UnknownFamilyError, UnsuitableModelError
from guides.family import Family
from guides.initialization import init_to_prior_median
from guides.mixture import StratifiedTrace_ELBO

__all__ = [
    "FAMILIES",
    "AmortizedGuide",
    "Family",
    "FamilyOptionError",
    "LaplaceError",
    "MissingDataError",
    "StratifiedTrace_ELBO",
    "UnknownFamilyError",
    "UnsuitableModelError",
    "amortized",
    "init_to_prior_median",
    "make",
    "names",
]
