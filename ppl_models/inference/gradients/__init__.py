"""Gradients of expectations: estimates with their errors, and many of one kind to see how noisy they are."""

from ppl_models.inference.gradients.comparison import GradientVariance
from ppl_models.inference.gradients.estimate import GradientEstimate, estimate_gradient
from ppl_models.inference.gradients.replicates import Replicates, make_replicates
from ppl_models.inference.gradients.setting import Setting, free_setting, model_setting

__all__ = [
    "GradientEstimate",
    "GradientVariance",
    "Replicates",
    "Setting",
    "estimate_gradient",
    "free_setting",
    "make_replicates",
    "model_setting",
]
