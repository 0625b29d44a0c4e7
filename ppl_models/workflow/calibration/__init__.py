"""`ppl.calibrate`: what a fitting procedure makes of data whose truth is known."""

from ppl_models.workflow.calibration.calibrate import calibrate
from ppl_models.workflow.calibration.result import Calibration

__all__ = ["Calibration", "calibrate"]
