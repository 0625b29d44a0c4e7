"""Corrections of a fit's draws, each judged by its own checks."""

from ppl_models.workflow.correction.correcting import METHODS, correct
from ppl_models.workflow.correction.result import Corrected

__all__ = ["METHODS", "Corrected", "correct"]
