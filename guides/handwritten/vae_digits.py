"""Guide of the VAE of digits: a network with one hidden layer gives mean and log standard deviation of every latent.

What the posterior of an image is depends on the image alone, once the decoder is known: one function of the image
serves all of them, also those that it was not fitted to (Kingma and Welling 2014, Auto-encoding variational Bayes,
appendix C).
"""

import math

import pyro
import pyro.distributions as dist
import torch

from guides.errors import MissingDataError

NUM_LATENTS = 5
NUM_HIDDEN = 64


def guide(x: torch.Tensor | None = None, num_rows: int | None = None) -> None:
    """q(z_n | x_n) = Normal(m(x_n), diag(s(x_n)²)), m and log s linear in the tanh of a linear layer.

    Args:
        x: Pixels, 0 or 1, shape (image, pixel).
        num_rows: How many images the model would draw without x; not used.

    Raises:
        MissingDataError: If x is None.
    """
    if x is None:
        raise MissingDataError("vae_digits", "x")
    hidden = torch.tanh(_linear("hidden", x, NUM_HIDDEN))
    mean = _linear("mean", hidden, NUM_LATENTS)
    log_scale = _linear("log_scale", hidden, NUM_LATENTS)
    with pyro.plate("datum", len(x)):
        pyro.sample("z", dist.Normal(mean, log_scale.exp()).to_event(1))


def _linear(name: str, inputs: torch.Tensor, num_outputs: int) -> torch.Tensor:
    """A layer whose weights begin at random with a variance of one over the inputs (LeCun et al. 1998)."""
    num_inputs = inputs.shape[-1]
    weights = pyro.param(f"{name}_weights", lambda: torch.randn(num_outputs, num_inputs) / math.sqrt(num_inputs))
    offset = pyro.param(f"{name}_offset", lambda: torch.zeros(num_outputs))
    return inputs.to(weights) @ weights.T + offset
