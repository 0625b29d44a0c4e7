"""Markov chain Monte Carlo: kernels and the call that runs them."""

from ppl_models.inference.mcmc.sampling import KERNELS, sample_chains

__all__ = ["KERNELS", "sample_chains"]
