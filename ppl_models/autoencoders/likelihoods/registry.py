"""The likelihoods by name."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ppl_models.autoencoders.likelihoods.bernoulli import Bernoulli
from ppl_models.autoencoders.likelihoods.categorical import Categorical
from ppl_models.autoencoders.likelihoods.continuous_bernoulli import ContinuousBernoulli
from ppl_models.autoencoders.likelihoods.gaussian import Gaussian
from ppl_models.autoencoders.likelihoods.likelihood import Likelihood
from ppl_models.autoencoders.likelihoods.negative_binomial import NegativeBinomial
from ppl_models.autoencoders.likelihoods.poisson import Poisson
from ppl_models.errors import OptionError
from ppl_models.options import check_choice

LIKELIHOODS: Mapping[str, type[Likelihood]] = MappingProxyType(
    {
        "bernoulli": Bernoulli,
        "continuous_bernoulli": ContinuousBernoulli,
        "gaussian": Gaussian,
        "categorical": Categorical,
        "poisson": Poisson,
        "negative_binomial": NegativeBinomial,
    }
)
"""Likelihood by name; a user's own is given as an instance."""


def as_likelihood(likelihood: str | Likelihood, num_features: int | None = None, **options: Any) -> Likelihood:
    """A likelihood by its name, or as it is.

    Args:
        likelihood: a name in `LIKELIHOODS`, or an instance.
        num_features: length of one row of the data; a name needs it, an instance knows it.
        options: of the likelihood of that name, as `num_levels` of "categorical".

    Raises:
        UnknownNameError: no likelihood has that name.
        OptionError: the number of features is missing or contradicts the instance, or an option is not known.
    """
    if isinstance(likelihood, Likelihood):
        if num_features not in (None, likelihood.num_features):
            raise OptionError(f"num_features: found {num_features}, but the likelihood has {likelihood.num_features}.")
        if options:
            raise OptionError(f"options of the likelihood: found {sorted(options)}; give them to the instance itself.")
        return likelihood
    made = LIKELIHOODS[check_choice("likelihood", likelihood, LIKELIHOODS)]
    if num_features is None:
        raise OptionError(f"num_features: missing; likelihood={likelihood!r} needs the length of one row of the data.")
    try:
        return made(num_features, **options)
    except TypeError as error:
        raise OptionError(f"likelihood {likelihood!r}: {error}.") from error
