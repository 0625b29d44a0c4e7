"""Autoencoders as Pyro models, with their likelihoods and priors; one model a file."""

from ppl_models.autoencoders.autoencoder import Autoencoder
from ppl_models.autoencoders.conditional_vae import ConditionalVAE
from ppl_models.autoencoders.factor_analysis import FactorAnalysis
from ppl_models.autoencoders.ladder_vae import LadderVAE
from ppl_models.autoencoders.likelihoods import (
    LIKELIHOODS,
    Bernoulli,
    Categorical,
    ContinuousBernoulli,
    Gaussian,
    Likelihood,
    NegativeBinomial,
    Poisson,
    as_likelihood,
)
from ppl_models.autoencoders.linear_gaussian import LinearGaussian
from ppl_models.autoencoders.linear_vae import LinearVAE
from ppl_models.autoencoders.principal_components import PrincipalComponents
from ppl_models.autoencoders.priors import FlowPrior, Prior, StandardNormal, VampPrior
from ppl_models.autoencoders.probabilistic_pca import ProbabilisticPCA
from ppl_models.autoencoders.semi_supervised_vae import SemiSupervisedVAE
from ppl_models.autoencoders.single_cell_vae import SingleCellVAE
from ppl_models.autoencoders.vae import VAE

__all__ = [
    "LIKELIHOODS",
    "VAE",
    "Autoencoder",
    "Bernoulli",
    "Categorical",
    "ConditionalVAE",
    "ContinuousBernoulli",
    "FactorAnalysis",
    "FlowPrior",
    "Gaussian",
    "LadderVAE",
    "Likelihood",
    "LinearGaussian",
    "LinearVAE",
    "NegativeBinomial",
    "Poisson",
    "PrincipalComponents",
    "Prior",
    "ProbabilisticPCA",
    "SemiSupervisedVAE",
    "SingleCellVAE",
    "StandardNormal",
    "VampPrior",
    "as_likelihood",
]
