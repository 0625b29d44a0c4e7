"""What the model says of each row: log p(x) by importance weights, and the two parts of its bound."""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from ppl_models.diagnostics.pareto_columns import khat_columns
from ppl_models.errors import GuideError
from ppl_models.workflow.representation.drawing import shared_draws
from ppl_models.workflow.representation.encode import encoded_blocks
from ppl_models.workflow.representation.new_rows import NewRows
from ppl_models.workflow.representation.representation import Representation
from ppl_models.workflow.representation.results import Arrays, joined


@dataclass(frozen=True)
class RowScores:
    """Figures of each row, shape (row,).

    Attributes:
        log_evidence: log p(x) in nats, the log of the mean importance weight.
        log_evidence_error: its Monte Carlo standard error.
        distortion: -E[log p(x | z)] under the guide, nats.
        rate: E[log q(z | x) - log p(z)], nats.
        gap: log_evidence less the ELBO, nats.
        khat: of the weights.
    """

    log_evidence: np.ndarray
    log_evidence_error: np.ndarray
    distortion: np.ndarray
    rate: np.ndarray
    gap: np.ndarray
    khat: np.ndarray

    @property
    def statistics(self) -> np.ndarray:
        """What rows are compared by: distortion, rate and gap, shape (row, 3); their sum is -log p(x)."""
        return np.stack([self.distortion, self.rate, self.gap], axis=1)


def row_scores(representation: Representation, new: NewRows, num_draws: int, seed: int, batch_size: int) -> RowScores:
    """Score rows.

    Args:
        representation: of the fit.
        new: the rows.
        num_draws: draws of the guide, at least 100.
        seed: of the draws.
        batch_size: rows that are worked on at once.

    Raises:
        GuideError: the guide has no density of one row's latents.
    """
    shared = shared_draws(representation, num_draws, seed)
    parts = []
    for block in encoded_blocks(representation, new.arguments, new.num_rows, shared, num_draws, seed, batch_size):
        if block.log_q is None:
            raise GuideError(
                f"guide '{representation.fit.guide_name}' has no density of the latents of one row, so that "
                "log p(x) has no importance weights. Fit an amortised guide with one (guides.amortized(model))."
            )
        parts.append(_scores(block.statistics()))
    return RowScores(**joined(parts, dict.fromkeys(parts[0], 0)))


def _scores(found: Arrays) -> Arrays:
    """From log densities of shape (draw, row)."""
    weights = found["log_weight"].astype(float)
    number = len(weights)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        log_evidence = np.asarray(logsumexp(weights, axis=0)) - np.log(number)
        relative = np.exp(weights - log_evidence)
        error = relative.std(axis=0, ddof=1) / np.sqrt(number)  # of the log of a mean, by the delta method
        return {
            "log_evidence": log_evidence,
            "log_evidence_error": error,
            "distortion": -found["log_likelihood"].mean(axis=0),
            "rate": (found["log_q"] - found["log_prior"]).mean(axis=0),
            "gap": log_evidence - weights.mean(axis=0),
            "khat": khat_columns(weights),
        }
