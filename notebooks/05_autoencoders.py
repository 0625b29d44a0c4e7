# ---
# jupyter:
#   jupytext:
#     formats: py:percent,ipynb
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Autoencoders whose inference can be believed
#
# A variational autoencoder is a model with latents in a plate over its rows, $z_n \sim p(z)$, $x_n \sim p(x \mid
# z_n)$, and an amortised guide $q(z \mid x)$. Training it raises a bound. It does not say whether $q(z \mid x)$ is
# any good for *this* $x$. Here both are done: a model of handwritten digits is trained, used, and then its posteriors
# are held against Markov chains through the same decoder.

# %%
# %matplotlib inline
import os

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

import guides
import ppl_models as ppl
from guides.networks import MLP
from ppl_models import autoencoders, datasets
from ppl_models.autoencoders.principal_components import PrincipalComponents
from ppl_models.report import figures

QUICK = bool(os.environ.get("PPL_MODELS_QUICK"))  # fewer epochs and rows, for tests

table = datasets.digits()
parts = datasets.split(table["digit"], validation=0.1, test=0.1, seed=0)
x = torch.tensor(datasets.binarised(table["pixels"], seed=None))
train, validation, test = ({"x": x[rows]} for rows in parts)
print({name: len(rows) for name, rows in parts._asdict().items()}, "digits of 8 x 8 pixels, 0 or 1")

# %% [markdown]
# ## First, an answer that is known
#
# With a linear decoder and normal noise the autoencoder is probabilistic PCA, whose best evidence per digit follows
# from the eigenvalues of the covariance. The fit must arrive there, and its guide then *is* the posterior.

# %%
ink = torch.tensor(table["pixels"] / 16.0)
best = PrincipalComponents.of(ink).log_likelihood(2)
with torch.random.fork_rng():
    torch.manual_seed(1)
    linear = autoencoders.LinearVAE(64, 2).double()
linear_fit = ppl.fit(linear, {"x": ink}, guide=linear.guide, max_steps=600 if QUICK else 3_000, seed=1)
linear_elbo = linear_fit.elbo(200, seed=2)[0] / len(ink)
print(f"ELBO {linear_elbo:.4f} nats per digit, probabilistic PCA {best:.4f}")

# %% [markdown]
# ## A model with a network
#
# The decoder is any `nn.Module`; `guides.amortized` builds the guide for the latents of any model with a plate over
# its rows. Digits held out from the training say when to stop, and the history tells reconstruction, divergence and
# bound in nats per digit.

# %%
with torch.random.fork_rng():
    torch.manual_seed(1)
    vae = autoencoders.VAE(MLP(5, 64, hidden=(64,), activation=nn.Tanh), 5, likelihood="bernoulli", num_features=64)
    guide = guides.amortized(vae, hidden=(128,))
fit = ppl.fit(
    vae,
    train,
    guide=guide,
    held_out=validation,
    batch_size=128,
    max_epochs=30 if QUICK else 300,
    warmup_epochs=5,
    patience=40,
    seed=1,
)
print(fit)
fit.history.tail(3)

# %%
history = fit.history
plt.figure(figsize=(7, 3))
plt.plot(history["epoch"], history["objective"], label="training (weighted in the warm-up)")
plt.plot(history["epoch"], history["validation_bound"], label="held out")
plt.xlabel("epoch")
plt.ylabel("nats per digit")
plt.legend()
plt.show()

# %% [markdown]
# ## Using it
#
# Everything comes back as labelled draws with their uncertainty: `encode`, `decode`, `reconstruct`, `generate`,
# `interpolate`, `traverse`, `impute`, `out_of_distribution`.

# %%
some = {"x": test["x"][:8]}
encoded = ppl.encode(fit, some, num_draws=200, seed=3)
reconstructed = ppl.reconstruct(fit, some, num_draws=200, seed=3)
print(encoded["posterior"])


def show(rows, titles):
    """Rows of images, each with a name."""
    _, panels = plt.subplots(len(rows), len(rows[0]), figsize=(len(rows[0]), len(rows) + 0.3), squeeze=False)
    for line, images, title in zip(panels, rows, titles, strict=True):
        for panel, image in zip(line, images, strict=True):
            panel.imshow(np.asarray(image).reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
            panel.set_xticks([])
            panel.set_yticks([])
        line[0].set_ylabel(title, rotation=0, ha="right", va="center")
    plt.show()


show(
    [some["x"], reconstructed["mean"]["x"], 2 * reconstructed["sd"]["x"]],
    ["digit", "mean", "2 sd"],
)

# %% [markdown]
# Half of each image is taken away. `impute` draws it given the other half, by chains whose target is exact whatever
# the guide; the checks say whether they arrived.

# %%
holes = some["x"].clone()
holes[:, 32:] = torch.nan
imputed = ppl.impute(fit, {"x": holes}, num_draws=100, num_steps=400 if QUICK else 1_000, seed=4)
show(
    [torch.nan_to_num(holes, nan=0.5), imputed["mean"]["x"], imputed["sd"]["x"], some["x"]],
    ["given", "mean", "sd", "true"],
)
right = np.abs(imputed["mean"]["x"].values - some["x"].numpy())[:, 32:].mean()
blank = np.abs(train["x"].numpy().mean(axis=0) - some["x"].numpy())[:, 32:].mean()
print(f"mean absolute error of the lower halves: {right:.3f}; of the average digit: {blank:.3f}")

# %% [markdown]
# Rows unlike the digits: noise and inverted digits have small p-values, digits of the same kind have not.

# %%
generator = torch.Generator().manual_seed(0)
noise = torch.bernoulli(torch.full((40, 64), 0.5, dtype=x.dtype), generator=generator)
p_values = {
    name: ppl.out_of_distribution(fit, {"x": rows}, reference=validation, seed=5)["score"]["p_value"].values
    for name, rows in {"digits": test["x"][:40], "inverted": 1.0 - test["x"][:40], "noise": noise}.items()
}
for name, values in p_values.items():
    print(f"{name}: median p {np.median(values):.3f}, below 0.05: {np.mean(values < 0.05):.0%}")

# %% [markdown]
# ## Is q(z | x) any good?
#
# `ppl.audit` takes digits the fit has not seen and holds the guide, digit by digit, against the no-U-turn sampler
# through the frozen decoder, against the best normal of each digit's own, and against a bracket of $\log p(x)$ from
# both sides (importance weighting and annealing from below, annealing back from the posterior from above).

# %%
audit = ppl.audit(fit, {"x": test["x"][: 6 if QUICK else 100]}, seed=6)
print(audit)

# %%
posteriors = audit.posteriors
figures.gap_figure(
    posteriors.amortisation_gap.value, posteriors.approximation_gap.value, posteriors.inference_gap.error
)

# %%
bounds = {f"L_{size}": bound.value for size, bound in posteriors.bounds.items()}
figures.bracket_figure(bounds, posteriors.lower.value, posteriors.upper.value, posteriors.log_evidence.value)

# %% [markdown]
# ## Collapse is not convergence
#
# Weigh the divergence a hundredfold, and the guide falls back on the prior: every digit has the same posterior. The
# loss settles nicely. The fit says what it is.

# %%
collapsed = ppl.fit(vae, train, guide=guide, batch_size=128, max_epochs=20, beta=100.0, seed=1)
print(collapsed.status, "|", collapsed.note)

# %%
assert abs(linear_elbo - best) < 0.05
assert right < blank
assert np.median(p_values["noise"]) < 0.05 < np.median(p_values["digits"])
assert collapsed.status == "collapsed"
assert posteriors.elbo.mean <= posteriors.bounds[50].mean <= posteriors.upper.mean + 3 * posteriors.upper.mean_error
