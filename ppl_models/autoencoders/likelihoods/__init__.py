"""Likelihoods: from a decoder's outputs to a distribution of the data; one a file."""

from ppl_models.autoencoders.likelihoods.bernoulli import Bernoulli
from ppl_models.autoencoders.likelihoods.categorical import Categorical
from ppl_models.autoencoders.likelihoods.continuous_bernoulli import ContinuousBernoulli
from ppl_models.autoencoders.likelihoods.gaussian import Gaussian
from ppl_models.autoencoders.likelihoods.likelihood import Likelihood
from ppl_models.autoencoders.likelihoods.negative_binomial import NegativeBinomial
from ppl_models.autoencoders.likelihoods.poisson import Poisson
from ppl_models.autoencoders.likelihoods.registry import LIKELIHOODS, as_likelihood

__all__ = [
    "LIKELIHOODS",
    "Bernoulli",
    "Categorical",
    "ContinuousBernoulli",
    "Gaussian",
    "Likelihood",
    "NegativeBinomial",
    "Poisson",
    "as_likelihood",
]
