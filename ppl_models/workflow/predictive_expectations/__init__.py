"""Predictive expectations of a fit: probabilities, quantiles, decisions; the guide's error beside Monte Carlo's."""

from ppl_models.workflow.predictive_expectations.actions import BestAction, best_action
from ppl_models.workflow.predictive_expectations.probabilities import probability
from ppl_models.workflow.predictive_expectations.quantiles import quantiles
from ppl_models.workflow.predictive_expectations.result import PredictiveExpectation

__all__ = ["BestAction", "PredictiveExpectation", "best_action", "probability", "quantiles"]
