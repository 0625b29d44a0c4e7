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
# # A first fit: from your own model to a verdict
#
# Twenty men did as many chin-ups as they could; their weight and waist were measured (Linnerud's data, which come
# with scikit-learn). How does the number of chin-ups depend on the two?
#
# We write the model as a Pyro function, fit two guides to its posterior, and ask whether each can be trusted.

# %%
# %matplotlib inline
import arviz_plots
import pyro
import pyro.distributions as dist
import torch
from IPython.display import display
from sklearn.datasets import load_linnerud

import ppl_models as ppl
from ppl_models.report import gather
from ppl_models.report.figures import elbo_figure, forest_figure

linnerud = load_linnerud(as_frame=True).frame
linnerud.describe().round(1)

# %% [markdown]
# ## The model
#
# Counts with more spread than a Poisson's: a gamma-Poisson (negative binomial) regression with a log link. Covariates
# are standardised, so that a prior sd of one means the same for both. Weight and waist go together in the data
# (correlation 0.87), so their coefficients will be correlated in the posterior. That is where a simple guide will fail.

# %%
covariates = linnerud[["Weight", "Waist"]]
standardised = (covariates - covariates.mean()) / covariates.std()
data = {"x": standardised, "chins": linnerud["Chins"]}
coords = {"covariate": ["weight", "waist"]}
dims = {"slope": ["covariate"]}


def chin_ups(x, chins=None):
    """chins_i ~ GammaPoisson with mean exp(level + x_i · slope)."""
    level = pyro.sample("level", dist.Normal(2.0, 1.0))
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    concentration = pyro.sample("concentration", dist.Gamma(2.0, 0.5))
    mean = (level.unsqueeze(-1) + (x * slope.unsqueeze(-2)).sum(-1)).exp()
    with pyro.plate("man", len(x)):
        pyro.sample(
            "chins", dist.GammaPoisson(concentration.unsqueeze(-1), concentration.unsqueeze(-1) / mean), obs=chins
        )


# %% [markdown]
# Before fitting: does the prior allow sensible counts?

# %%
prior = ppl.sample_prior(chin_ups, data, num_draws=2_000, seed=1)
prior["prior_predictive"]["chins"].quantile([0.05, 0.5, 0.95]).round(1)

# %% [markdown]
# ## Two guides
#
# `normal` takes the latents for independent (mean-field); `full_rank` does not. Nothing else has to be said: the step
# size is looked for, and the fit stops when it has nothing left to gain.

# %%
fits = {name: ppl.fit(chin_ups, data, guide=name, seed=1, coords=coords, dims=dims) for name in ("normal", "full_rank")}
fits["full_rank"]

# %%
for name, fit in fits.items():
    elbo, error = fit.elbo(seed=2)
    print(f"{name:<10} ELBO {elbo:.2f} ± {error:.2f} nats, {fit.status} after {fit.steps} steps")

# %% [markdown]
# How did a fit come to its end? It began with a quick look at the target, which gave it coordinates in which every
# direction has about unit scale, and with a short search for a step size. In the shaded parts it was stationary, and
# its iterates were averaged; at each dotted line it went on with a smaller step size. It stopped when a smaller one
# gained nothing: the last stage's `gain` is by how many nats its average was better than the best before, `gap` what
# longer averaging might still bring.

# %%
display(elbo_figure(fits["full_rank"].losses, stages=fits["full_rank"].stages))
fits["full_rank"].stages[-1]

# %% [markdown]
# A higher ELBO is better: each nat is a nat of Kullback-Leibler divergence from the posterior. But how good is good
# enough? The ELBO alone cannot say.
#
# ## The verdict
#
# NUTS draws from the same model are the baseline. They have to pass gates of their own first (R-hat, effective sample
# size, divergences), and say so if they do not.

# %%
baseline = ppl.sample(chin_ups, data, seed=3, coords=coords, dims=dims)
baseline.attrs["gates"]

# %%
verdicts = {name: ppl.check(fit, baseline=baseline) for name, fit in fits.items()}
print(verdicts["normal"])

# %% [markdown]
# Mean-field finds the means and misses the widths: with two correlated slopes, an independent normal can only be as
# wide as each slope is *given the other*. The full-rank guide keeps the correlation.

# %%
print(verdicts["full_rank"])

# %% [markdown]
# ## See it
#
# The report's figures can be had one by one. Each row is a parameter, centred on the baseline's mean; the guide's
# interval should begin and end where the baseline's does.

# %%
for evidence in gather([(fits[name], verdicts[name]) for name in fits], baseline):
    display(forest_figure(evidence.samples, evidence.worst(4)))

# %% [markdown]
# `ppl.write_report` puts everything on one HTML page. And draws of fits and baselines are `xarray.DataTree`s in ArviZ's
# schema, so that every ArviZ plot works on them.

# %%
page = ppl.write_report("chin_ups.html", [(fits[name], verdicts[name]) for name in fits], baseline=baseline)
draws = fits["full_rank"].sample(4_000, seed=4)
arviz_plots.plot_dist(draws, var_names=["level", "slope"], kind="kde", ci_kind="eti", ci_prob=0.94)

# %% [markdown]
# ## What cannot be said without a baseline
#
# MCMC is not always to be had. Without it, the fit's own importance weights stand in: k-hat tells whether they can, and
# the raw moments are compared with the reweighted ones. No such diagnostic sees a mode that the guide missed.

# %%
alone = ppl.check(fits["full_rank"])
print(alone.verdict, f"k-hat {alone.khat:.2f}")
for reason in alone.reasons:
    print("-", reason)

# %% [markdown]
# ## Use it
#
# How many chin-ups of a man who is one sd heavier than average, with an average waist? And of one with a waist one sd
# wider, of average weight?

# %%
new_men = {"x": torch.tensor([[1.0, 0.0], [0.0, 1.0]]), "chins": None}
predictions = fits["full_rank"].predict(4_000, data=new_men, seed=5)["predictions"]["chins"]
predictions.quantile([0.05, 0.5, 0.95], dim=("chain", "draw")).round(1)

# %% [markdown]
# What this notebook claims:

# %%
assert verdicts["normal"].verdict != "trust"
assert verdicts["normal"].table.loc["slope[waist]", "log_sd_ratio"] < -0.2
assert verdicts["full_rank"].verdict == "trust"
assert fits["full_rank"].elbo(seed=2)[0] > fits["normal"].elbo(seed=2)[0]
assert all(fit.status == "converged" for fit in fits.values())
assert fits["full_rank"].stages[-1].first < fits["full_rank"].stages[-1].stationary < fits["full_rank"].steps
