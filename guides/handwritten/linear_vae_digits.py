"""Guide of the linear VAE: a linear encoder with one standard deviation for each latent.

At the best decoder whose columns are orthogonal, p(z | x) is normal with a mean linear in x and a diagonal covariance
that is the same for all x (Tipping and Bishop 1999, Probabilistic principal component analysis, section 3.2): this
guide holds it, so that neither amortisation nor its form costs anything, and the ELBO's maximum is the likelihood's
(Lucas et al. 2019, Don't blame the ELBO! A linear VAE perspective on posterior collapse).
"""

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints

from guides.errors import MissingDataError

NUM_LATENTS = 2


def guide(x: torch.Tensor | None = None, num_rows: int | None = None) -> None:
    """q(z_n | x_n) = Normal(A x_n + b, diag(s²)), the same A, b and s for every image.

    Args:
        x: Pixels between 0 and 1, shape (image, pixel).
        num_rows: How many images the model would draw without x; not used.

    Raises:
        MissingDataError: If x is None.
    """
    if x is None:
        raise MissingDataError("linear_vae_digits", "x")
    weights = pyro.param("encoder_weights", lambda: torch.zeros(NUM_LATENTS, x.shape[-1]))
    offset = pyro.param("encoder_offset", lambda: torch.zeros(NUM_LATENTS))
    scale = pyro.param(
        "encoder_scale", lambda: torch.full((NUM_LATENTS,), 0.5), constraint=constraints.softplus_positive
    )
    mean = x.to(weights) @ weights.T + offset
    with pyro.plate("datum", len(x)):
        pyro.sample("z", dist.Normal(mean, scale).to_event(1))
