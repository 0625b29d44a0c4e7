"""The catalogue: models with their data, labels, guides and citations, in a registry open to users."""

from ppl_models.catalogue.problem import Problem
from ppl_models.catalogue.registry import load, names, register

__all__ = ["Problem", "load", "names", "register"]
