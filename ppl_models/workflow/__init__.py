"""The calls that combine rooms."""

from ppl_models.workflow.audit import Audit, audit
from ppl_models.workflow.auto import AutoFit, Rung
from ppl_models.workflow.baseline import sample
from ppl_models.workflow.bounds import elbo_terms, importance_bound
from ppl_models.workflow.by_datum import check_by_datum
from ppl_models.workflow.calibration import Calibration, calibrate
from ppl_models.workflow.checking import check
from ppl_models.workflow.convert import to_datatree
from ppl_models.workflow.correction import Corrected, correct
from ppl_models.workflow.evidence import log_evidence
from ppl_models.workflow.expecting import expect
from ppl_models.workflow.fitting import fit
from ppl_models.workflow.gradient_variance import GradientVariance, gradient_variance
from ppl_models.workflow.leave_one_out import LeaveOneOut, loo
from ppl_models.workflow.loading import load_fit
from ppl_models.workflow.method_comparison import compare_methods
from ppl_models.workflow.predictions import Predictions, check_predictions
from ppl_models.workflow.predictive_expectations import (
    BestAction,
    PredictiveExpectation,
    best_action,
    probability,
    quantiles,
)
from ppl_models.workflow.prior import sample_prior
from ppl_models.workflow.representation import (
    decode,
    encode,
    generate,
    impute,
    interpolate,
    out_of_distribution,
    reconstruct,
    traverse,
)

__all__ = [
    "Audit",
    "AutoFit",
    "BestAction",
    "Calibration",
    "Corrected",
    "GradientVariance",
    "LeaveOneOut",
    "Predictions",
    "PredictiveExpectation",
    "Rung",
    "audit",
    "best_action",
    "calibrate",
    "check",
    "check_by_datum",
    "check_predictions",
    "compare_methods",
    "correct",
    "decode",
    "elbo_terms",
    "encode",
    "expect",
    "fit",
    "generate",
    "gradient_variance",
    "importance_bound",
    "impute",
    "interpolate",
    "load_fit",
    "log_evidence",
    "loo",
    "out_of_distribution",
    "probability",
    "quantiles",
    "reconstruct",
    "sample",
    "sample_prior",
    "to_datatree",
    "traverse",
]
