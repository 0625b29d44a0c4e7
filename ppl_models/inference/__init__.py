"""Fit by SVI, sample by MCMC."""

from ppl_models.inference.compiled_elbo import CompiledTrace_ELBO
from ppl_models.inference.course import Stage
from ppl_models.inference.fit_options import FitOptions
from ppl_models.inference.fit_result import Fit
from ppl_models.inference.fitting import fit_guide
from ppl_models.inference.guides import GuideSpec
from ppl_models.inference.loading import rebuild_fit
from ppl_models.inference.mcmc import KERNELS, sample_chains
from ppl_models.inference.methods import METHODS
from ppl_models.inference.runs import Start

__all__ = [
    "KERNELS",
    "METHODS",
    "CompiledTrace_ELBO",
    "Fit",
    "FitOptions",
    "GuideSpec",
    "Stage",
    "Start",
    "fit_guide",
    "rebuild_fit",
    "sample_chains",
]
