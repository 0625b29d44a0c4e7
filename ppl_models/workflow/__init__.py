"""The calls that combine rooms."""

from ppl_models.workflow.auto import AutoFit, Rung
from ppl_models.workflow.baseline import sample
from ppl_models.workflow.by_datum import check_by_datum
from ppl_models.workflow.calibration import Calibration, calibrate
from ppl_models.workflow.checking import check
from ppl_models.workflow.convert import to_datatree
from ppl_models.workflow.correction import Corrected, correct
from ppl_models.workflow.fitting import fit
from ppl_models.workflow.leave_one_out import LeaveOneOut, loo
from ppl_models.workflow.loading import load_fit
from ppl_models.workflow.predictions import Predictions, check_predictions
from ppl_models.workflow.prior import sample_prior

__all__ = [
    "AutoFit",
    "Calibration",
    "Corrected",
    "LeaveOneOut",
    "Predictions",
    "Rung",
    "calibrate",
    "check",
    "check_by_datum",
    "check_predictions",
    "correct",
    "fit",
    "load_fit",
    "loo",
    "sample",
    "sample_prior",
    "to_datatree",
]
