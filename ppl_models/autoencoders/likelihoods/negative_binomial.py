"""Features that are counts, with variance above their mean."""

from typing import Any

import pyro.distributions as dist
import torch
from torch import nn

from ppl_models.autoencoders.likelihoods.likelihood import Likelihood
from ppl_models.autoencoders.likelihoods.rates import LOG_MEANS
from ppl_models.options import check_choice, check_positive


class NegativeBinomial(Likelihood):
    """x_j ~ NegativeBinomial(mean μ_j, inverse dispersion θ_j): variance μ_j + μ_j² / θ_j.

    The mean is softplus(outputs_j) or exp(outputs_j), and θ is learnt, one number for each feature; as θ grows this is
    the Poisson distribution. Lopez et al. (2018), Deep generative modeling for single-cell transcriptomics.

    Args:
        num_features: length of one row of the data.
        rate: "softplus" (steady where outputs are large, as those of an untrained network that reads raw counts) or
            "exp" (outputs are log means: effects multiply).
        init_inverse_dispersion: where θ starts.
    """

    def __init__(self, num_features: int, *, rate: str = "softplus", init_inverse_dispersion: float = 1.0):
        super().__init__(num_features)
        self.rate = check_choice("rate of counts", rate, LOG_MEANS)
        start = check_positive("init_inverse_dispersion", init_inverse_dispersion)
        self.log_inverse_dispersion = nn.Parameter(torch.full((self.num_features,), start).log())

    @property
    def inverse_dispersion(self) -> torch.Tensor:
        """θ of each feature, shape (num_features,)."""
        return self.log_inverse_dispersion.exp()

    def distribution(self, outputs: torch.Tensor) -> Any:
        """Negative binomial distributions, batch shape (..., num_features)."""
        log_odds = LOG_MEANS[self.rate](outputs) - self.log_inverse_dispersion
        return dist.NegativeBinomial(self.inverse_dispersion, logits=log_odds)
