"""Variational families for any Pyro model: automatic ones by name, and hand-written ones by problem."""

from guides.automatic import FAMILIES, make, names
from guides.errors import FamilyOptionError, LaplaceError, MissingDataError, UnknownFamilyError
from guides.family import Family
from guides.initialization import init_to_prior_median

__all__ = [
    "FAMILIES",
    "Family",
    "FamilyOptionError",
    "LaplaceError",
    "MissingDataError",
    "UnknownFamilyError",
    "init_to_prior_median",
    "make",
    "names",
]
