"""Priors of the latents of a row: modules that give a distribution; one a file."""

from ppl_models.autoencoders.priors.flow import FlowPrior
from ppl_models.autoencoders.priors.prior import Prior
from ppl_models.autoencoders.priors.standard_normal import StandardNormal
from ppl_models.autoencoders.priors.vamp import VampPrior

__all__ = ["FlowPrior", "Prior", "StandardNormal", "VampPrior"]
