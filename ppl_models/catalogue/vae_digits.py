"""VAE of handwritten digits, black and white."""

import torch
from torch import nn

import guides
from guides.handwritten.vae_digits import NUM_HIDDEN, NUM_LATENTS, guide
from guides.networks import MLP
from ppl_models import datasets
from ppl_models.autoencoders import VAE
from ppl_models.catalogue.digit_images import labels_of_images
from ppl_models.catalogue.problem import Problem
from ppl_models.catalogue.seeded import fixed_seed


def build() -> Problem:
    """The problem: all of scikit-learn's digits, a pixel 1 where half of its cell is inked or more.

    z ~ Normal(0, I) with five latents per image, x ~ Bernoulli(logits = network(z)), one hidden layer. Black and white
    since the likelihood is then one of probabilities, at most 0 nats, which no scale can inflate; and with one number
    per pixel, where 17 levels of ink would need 17. Tanh, since NUTS and quadrature through the decoder want a smooth
    one.
    """
    table = datasets.digits()
    x = torch.tensor(datasets.binarised(table["pixels"], seed=None))
    num_images, num_pixels = x.shape
    with fixed_seed():
        decoder = MLP(NUM_LATENTS, num_pixels, (NUM_HIDDEN,), nn.Tanh)
        model = VAE(decoder, NUM_LATENTS, likelihood="bernoulli", num_features=num_pixels)
    return Problem(
        name="vae_digits",
        title="variational autoencoder of 1,797 handwritten digits in black and white, five latents per image",
        model=model,
        data={"x": x, "num_rows": num_images},
        **labels_of_images(num_images, NUM_LATENTS),
        guides={"handwritten": guide, "amortized": guides.amortized(model, hidden=(NUM_HIDDEN, NUM_HIDDEN))},
        observed=("x",),
        fitting={"batch_size": 128, "max_epochs": 300, "step_size": 0.02},
        cite="Kingma and Welling (2014), Auto-encoding variational Bayes, ICLR; Alpaydin and Kaynak (1998), Optical "
        "recognition of handwritten digits (data).",
        expected={
            "normal": "is slow, and serves no new image: each image has means and scales of its own to learn.",
            "handwritten": "does well; a check of single images shows what amortisation and the normal form cost.",
            "amortized": "does well, like the hand-written one with one more layer.",
        },
    )
