"""Draws with their importance weights, as they are."""

import numpy as np

from ppl_models.diagnostics import weighted_moments
from ppl_models.diagnostics.khat import valid_log_ratio
from ppl_models.workflow.correction.checks import USE_NUTS, advise, check_effective, check_precision, check_weights
from ppl_models.workflow.correction.outcome import Outcome, Request


def correct_by_importance(request: Request) -> Outcome:
    """Weight draws of the fit by p / q, normalised by their sum: `log_weight` among the sample statistics.

    Raises:
        DataError: the weights cannot be computed.

    Owen (2013), Monte Carlo theory, methods and examples, chapter 9; Kong (1992), A note on importance sampling using
    standardized weights, for the effective number of draws.
    """
    proposals = request.propose(request.num_draws, "importance")
    log_ratio = valid_log_ratio(proposals.log_ratio)
    log_weights = log_ratio - np.logaddexp.reduce(log_ratio)
    num_effective = float(np.exp(-np.logaddexp.reduce(2.0 * log_weights)))
    moments = weighted_moments(proposals.matrix, log_weights)
    khat = check_weights(log_ratio)
    share = 1000.0 * num_effective / len(proposals)
    enough = (
        check_effective(moments, proposals.labels, most=num_effective),
        check_precision(moments, proposals.labels),
    )
    checks = advise(
        (khat, *enough), khat.advice or f"raise num_draws (1,000 of these count as {share:.0f}); {USE_NUTS}"
    )
    places = np.arange(len(proposals))[None]
    tree = proposals.tree(places, {"log_weight": log_weights[places]}, {"correction": "importance"})
    return Outcome(tree, moments, proposals.raw, proposals.labels, checks, len(proposals), log_weights)
