"""Diagnostics: each a pure function of draws, log weights or losses."""

from ppl_models.diagnostics.check import Check
from ppl_models.diagnostics.comparison import compare
from ppl_models.diagnostics.elbo import elbo_estimate
from ppl_models.diagnostics.gates import baseline_gates, gates_passed
from ppl_models.diagnostics.joint import check_joint, check_joint_with_psis
from ppl_models.diagnostics.khat import check_khat, khat_limit, pareto_khat, psis_weights
from ppl_models.diagnostics.moments import moment_checks, unmeasured_table
from ppl_models.diagnostics.optimisation import (
    check_arrival,
    check_held_out,
    check_method,
    check_stationarity,
    check_status,
)
from ppl_models.diagnostics.reference import compare_with_psis
from ppl_models.diagnostics.replicates import (
    Moments,
    Replicates,
    check_others,
    check_replicates,
    replicates,
    weighted_moments,
)
from ppl_models.diagnostics.rules import decide
from ppl_models.diagnostics.soundness import check_finite, check_spread
from ppl_models.diagnostics.verdict import Verdict

__all__ = [
    "Check",
    "Moments",
    "Replicates",
    "Verdict",
    "baseline_gates",
    "check_arrival",
    "check_finite",
    "check_held_out",
    "check_joint",
    "check_joint_with_psis",
    "check_khat",
    "check_method",
    "check_others",
    "check_replicates",
    "check_spread",
    "check_stationarity",
    "check_status",
    "compare",
    "compare_with_psis",
    "decide",
    "elbo_estimate",
    "gates_passed",
    "khat_limit",
    "moment_checks",
    "pareto_khat",
    "psis_weights",
    "replicates",
    "unmeasured_table",
    "weighted_moments",
]
