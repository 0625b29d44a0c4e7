"""Fit by SVI, sample by MCMC, estimate by Monte Carlo."""

from ppl_models.inference.compiled_elbo import CompiledTrace_ELBO
from ppl_models.inference.course import Stage
from ppl_models.inference.evidence.bayes_factor import BayesFactor, bayes_factor
from ppl_models.inference.evidence.elbo_terms import ElboTerms
from ppl_models.inference.evidence.filtered import Filtered
from ppl_models.inference.evidence.importance_bound import ImportanceBound
from ppl_models.inference.evidence.particle_filter import particle_filter
from ppl_models.inference.evidence.pyro_state_space import PyroStateSpace
from ppl_models.inference.evidence.result import Evidence
from ppl_models.inference.evidence.state_space import StateSpace
from ppl_models.inference.fit_options import FitOptions
from ppl_models.inference.fit_result import Fit
from ppl_models.inference.fitting import fit_guide
from ppl_models.inference.gradients.estimate import GradientEstimate, estimate_gradient
from ppl_models.inference.guides import GuideSpec
from ppl_models.inference.loading import rebuild_fit
from ppl_models.inference.mcmc import KERNELS, sample_chains
from ppl_models.inference.methods import METHODS
from ppl_models.inference.monte_carlo.comparison import MethodComparison
from ppl_models.inference.monte_carlo.coupled_paths import CoupledEuler, geometric_brownian_motion
from ppl_models.inference.monte_carlo.expectation import Expectation
from ppl_models.inference.runs import Start

__all__ = [
    "KERNELS",
    "METHODS",
    "BayesFactor",
    "CompiledTrace_ELBO",
    "CoupledEuler",
    "ElboTerms",
    "Evidence",
    "Expectation",
    "Filtered",
    "Fit",
    "FitOptions",
    "GradientEstimate",
    "GuideSpec",
    "ImportanceBound",
    "MethodComparison",
    "PyroStateSpace",
    "Stage",
    "Start",
    "StateSpace",
    "bayes_factor",
    "estimate_gradient",
    "fit_guide",
    "geometric_brownian_motion",
    "particle_filter",
    "rebuild_fit",
    "sample_chains",
]
