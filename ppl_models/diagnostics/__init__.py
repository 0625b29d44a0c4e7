"""Diagnostics: each a pure function of draws, log weights or losses."""

from ppl_models.checks import Check
from ppl_models.diagnostics.active_units import ActiveUnits, active_units, active_units_of_draws
from ppl_models.diagnostics.aggregated_posterior import AggregatedPosterior, aggregated_posterior
from ppl_models.diagnostics.bounds import check_gap, cubo_estimate, importance_bound
from ppl_models.diagnostics.by_datum import check_khat_by_datum, khat_by_datum
from ppl_models.diagnostics.calibration import (
    check_coverage,
    check_refits,
    check_sbc,
    check_vsbc,
    coverage_table,
    ecdf_band,
    ranks_among,
)
from ppl_models.diagnostics.classifier import check_classifier
from ppl_models.diagnostics.comparison import compare
from ppl_models.diagnostics.deciding import decide
from ppl_models.diagnostics.elbo import elbo_estimate
from ppl_models.diagnostics.encoder_calibration import EncoderRanks, encoder_ranks
from ppl_models.diagnostics.error_bounds import (
    ErrorBounds,
    MomentBounds,
    check_error_bound,
    moment_bounds,
    posterior_error_bounds,
    wasserstein_bound,
)
from ppl_models.diagnostics.feature_pit import FeaturePIT, feature_pit
from ppl_models.diagnostics.gates import baseline_gates, gates_passed
from ppl_models.diagnostics.gradient import check_gradient
from ppl_models.diagnostics.iterates import check_iterates
from ppl_models.diagnostics.joint import check_joint, check_joint_with_pool, check_joint_with_psis
from ppl_models.diagnostics.khat import check_khat, pareto_khat, psis_weights
from ppl_models.diagnostics.khat_replicates import KhatReplicates, khat_replicates
from ppl_models.diagnostics.leave_one_out import Pointwise, check_loo_khat, leave_one_out
from ppl_models.diagnostics.loo_pit import check_loo_pit, loo_pit
from ppl_models.diagnostics.moments import moment_checks, unmeasured_table
from ppl_models.diagnostics.optimisation import (
    check_arrival,
    check_held_out,
    check_method,
    check_stationarity,
    check_status,
)
from ppl_models.diagnostics.predictive import check_predictive, tail_probability
from ppl_models.diagnostics.rate_distortion import RateDistortion, rate_distortion, rate_distortion_curve
from ppl_models.diagnostics.reference import compare_with_pool, compare_with_psis
from ppl_models.diagnostics.replicates import (
    Moments,
    Replicates,
    check_others,
    check_replicates,
    replicates,
    weighted_moments,
)
from ppl_models.diagnostics.sample_size import khat_limit, smallest_num_draws
from ppl_models.diagnostics.score_checks import check_scores
from ppl_models.diagnostics.score_moments import ScoreMoments, score_moments
from ppl_models.diagnostics.sliced import check_sliced
from ppl_models.diagnostics.soundness import check_finite, check_spread
from ppl_models.diagnostics.starts import check_starts
from ppl_models.diagnostics.stein import SteinDiscrepancy, check_stein, stein_discrepancy
from ppl_models.diagnostics.stein_statistics import stein_statistics
from ppl_models.diagnostics.verdict import Verdict

__all__ = [
    "ActiveUnits",
    "AggregatedPosterior",
    "Check",
    "EncoderRanks",
    "ErrorBounds",
    "FeaturePIT",
    "KhatReplicates",
    "MomentBounds",
    "Moments",
    "Pointwise",
    "RateDistortion",
    "Replicates",
    "ScoreMoments",
    "SteinDiscrepancy",
    "Verdict",
    "active_units",
    "active_units_of_draws",
    "aggregated_posterior",
    "baseline_gates",
    "check_arrival",
    "check_classifier",
    "check_coverage",
    "check_error_bound",
    "check_finite",
    "check_gap",
    "check_gradient",
    "check_held_out",
    "check_iterates",
    "check_joint",
    "check_joint_with_pool",
    "check_joint_with_psis",
    "check_khat",
    "check_khat_by_datum",
    "check_loo_khat",
    "check_loo_pit",
    "check_method",
    "check_others",
    "check_predictive",
    "check_refits",
    "check_replicates",
    "check_sbc",
    "check_scores",
    "check_sliced",
    "check_spread",
    "check_starts",
    "check_stationarity",
    "check_status",
    "check_stein",
    "check_vsbc",
    "compare",
    "compare_with_pool",
    "compare_with_psis",
    "coverage_table",
    "cubo_estimate",
    "decide",
    "ecdf_band",
    "elbo_estimate",
    "encoder_ranks",
    "feature_pit",
    "gates_passed",
    "importance_bound",
    "khat_by_datum",
    "khat_limit",
    "khat_replicates",
    "leave_one_out",
    "loo_pit",
    "moment_bounds",
    "moment_checks",
    "pareto_khat",
    "posterior_error_bounds",
    "psis_weights",
    "ranks_among",
    "rate_distortion",
    "rate_distortion_curve",
    "replicates",
    "score_moments",
    "smallest_num_draws",
    "stein_discrepancy",
    "stein_statistics",
    "tail_probability",
    "unmeasured_table",
    "wasserstein_bound",
    "weighted_moments",
]
