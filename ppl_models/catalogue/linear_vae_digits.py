"""Linear VAE of handwritten digits: its best ELBO is known in closed form."""

import torch
from torch import nn

from guides.handwritten.linear_vae_digits import NUM_LATENTS, guide
from ppl_models import datasets
from ppl_models.autoencoders import VAE, Gaussian
from ppl_models.catalogue.digit_images import labels_of_images
from ppl_models.catalogue.problem import Problem
from ppl_models.catalogue.seeded import fixed_seed

INK = 16.0
"""The largest pixel: of ink counted in 4 x 4 cells."""


def build() -> Problem:
    """The problem: all of scikit-learn's digits, pixels between 0 and 1.

    z ~ Normal(0, I) with two latents per image, x ~ Normal(W z + b, noise), W, b and noise learnt: the maximum of the
    likelihood is that of probabilistic PCA, 0.0057 nats per image.
    """
    table = datasets.digits()
    x = torch.tensor(table["pixels"] / INK)
    num_images, num_pixels = x.shape
    with fixed_seed():
        model = VAE(nn.Linear(NUM_LATENTS, num_pixels), NUM_LATENTS, likelihood=Gaussian(num_pixels, init_scale=0.5))
    return Problem(
        name="linear_vae_digits",
        title="linear variational autoencoder of 1,797 handwritten digits, two latents per image",
        model=model,
        data={"x": x, "num_rows": num_images},
        **labels_of_images(num_images, NUM_LATENTS),
        guides={"handwritten": guide},
        observed=("x",),
        cite="Tipping and Bishop (1999), Probabilistic principal component analysis, Journal of the Royal Statistical "
        "Society B 61, 611-622; Lucas et al. (2019), Don't blame the ELBO!, NeurIPS; Alpaydin and Kaynak (1998), "
        "Optical recognition of handwritten digits (data).",
        expected={
            "normal": "does well, slowly: the posterior is normal, but each image has its own mean and scale to learn.",
            "handwritten": "reaches the closed-form optimum: the posterior's mean is linear in the image.",
        },
    )
