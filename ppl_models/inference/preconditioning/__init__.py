"""Coordinates in which every direction of a fit has about unit scale."""

from ppl_models.inference.preconditioning.pilot import Normal, approximate
from ppl_models.inference.preconditioning.precondition import Preconditioning, precondition

__all__ = ["Normal", "Preconditioning", "approximate", "precondition"]
