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
# # Can I trust this fit?
#
# A variational fit always returns something. It replaces the posterior by the nearest member of a family, and never
# says how near that is. `ppl.check` answers with one of three words, and with the evidence:
#
# - `trust`: use the draws as they are;
# - `correct`: not yet, but `ppl.correct` can repair them;
# - `reject`: do not use this fit.
#
# We walk through one fit of each. Each posterior here is so small that it can be computed on a grid, exactly for our
# purposes, so that we can also check the checks. Then we show what each diagnostic cannot see: none suffices alone.

# %%
# %matplotlib inline
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from IPython.display import display
from scipy import special, stats
from sklearn.datasets import load_linnerud

import ppl_models as ppl
from ppl_models.diagnostics import check_scores, score_moments
from ppl_models.report import gather, rule_of
from ppl_models.report.figures import density_figure

# %% [markdown]
# ## The model: how poisonous is it?
#
# Four doses of a compound, five animals at each, and how many died (Racine et al. 1986; the bioassay example of
# *Bayesian Data Analysis*). The log odds of death rise with the log dose: `level` is their value at log dose zero, and
# `slope`, by how much they rise per unit. With twenty animals the posterior is wide, skewed, and correlated.

# %%
log_dose, deaths = np.array([-0.86, -0.30, -0.05, 0.73]), np.array([0.0, 1.0, 3.0, 5.0])
data = {"log_dose": torch.tensor(log_dose), "deaths": torch.tensor(deaths)}


def bioassay(log_dose, deaths=None):
    """Deaths among five animals at each dose; the log odds are linear in the log dose."""
    level = pyro.sample("level", dist.Normal(0.0, 2.0))
    slope = pyro.sample("slope", dist.LogNormal(2.0, 1.0))
    log_odds = level.unsqueeze(-1) + slope.unsqueeze(-1) * log_dose
    with pyro.plate("dose", 4):
        pyro.sample("deaths", dist.Binomial(5, logits=log_odds), obs=deaths)


# %% [markdown]
# The truth, from a fine grid over both parameters:

# %%
level, slope = np.meshgrid(np.linspace(-6.0, 9.0, 601), np.linspace(0.02, 80.0, 1601), indexing="ij")
log_posterior = stats.norm(0.0, 2.0).logpdf(level) + stats.lognorm(1.0, scale=np.exp(2.0)).logpdf(slope)
for dose, dead in zip(log_dose, deaths, strict=True):
    log_odds = level + slope * dose
    log_posterior += dead * log_odds - 5.0 * np.logaddexp(0.0, log_odds)
weight = np.exp(log_posterior - special.logsumexp(log_posterior))
truth = pd.DataFrame(index=["level", "slope"], columns=["mean", "sd"], dtype=float)
for name, values in (("level", level), ("slope", slope)):
    mean = (weight * values).sum()
    truth.loc[name] = mean, np.sqrt((weight * (values - mean) ** 2).sum())
truth.round(2)


# %%
def errors(draws, names=("level", "slope"), exact=truth):
    """Errors of the means, in true sds, and of the sds, in per cent."""
    rows = {}
    for name in names:
        values = draws["posterior"][name].to_numpy().ravel()
        mean, sd = exact.loc[name]
        rows[name] = {
            "mean error (sd)": (values.mean() - mean) / sd,
            "sd error (%)": 100.0 * (values.std() / sd - 1.0),
        }
    return pd.DataFrame(rows).T.round(2)


# %% [markdown]
# ## A fit to trust
#
# A normal guide with correlations, fitted by batch-and-match (which matches the gradients of the two log densities). A
# positive parameter is fitted on the log scale, so that `slope` may be skewed.

# %%
full_rank = ppl.fit(bioassay, data, guide="full_rank", method="batch_and_match", seed=1)
trusted = ppl.check(full_rank)
print(trusted)

# %% [markdown]
# Read it from the top. The first line is the verdict, and in brackets what the draws were **held against**. There is
# no MCMC baseline here. So the library made proposals of its own: the guide's draws, wider ones around them, and
# normals found by climbing from eight other starting points. Each draw is weighted by the posterior density over the
# density of all proposals together. Such a *pool* can stand for the posterior where its weights are reliable, and two
# checks see to that (`pooled k-hat`, `pooled error`).
#
# Each check has a value with its Monte Carlo error (the noise of finitely many draws), and a limit. A mean may be off
# by 0.2 posterior sds, an sd by a fifth. A check *passes* only if it is within its limit with three such errors to
# spare; it *fails* only if it is beyond the limit and beyond what chance would do. What is neither is marked `?`, and
# a `?` is never counted as a pass.
#
# Which rule made these figures a verdict?

# %%
for step in rule_of(trusted).steps:
    print("-", step)

# %% [markdown]
# And was it right? Against the grid:

# %%
trusted_errors = errors(full_rank.sample(20_000, seed=2))
trusted_errors

# %% [markdown]
# ## A fit to correct
#
# The commonest guide of all: independent normals, "mean-field". It cannot be correlated.

# %%
mean_field = ppl.fit(bioassay, data, guide="normal", method="dadvi", seed=1)
correctable = ppl.check(mean_field)
for reason in correctable.reasons:
    print("-", reason)
correctable.worst()

# %% [markdown]
# The means are right, the sds are not: an independent normal is about as wide as each parameter would be *if the other
# were known*. But k-hat is within its limit. k-hat says how heavy the tail of the importance weights is (posterior
# density over the guide's density, at the guide's draws): below 0.7, and with enough draws, weighting the draws is
# reliable. The guide covers the posterior well enough to be repaired. `ppl.correct` picks the method by k-hat, and
# checks what comes of it:

# %%
better = ppl.correct(mean_field, num_draws=20_000, seed=2)
print(better)

# %% [markdown]
# Do not take its word. Before and after, against the grid:

# %%
before, after = errors(mean_field.sample(20_000, seed=2)), errors(better.draws)
pd.concat({"before": before, "after": after}, axis=1)

# %% [markdown]
# The picture says why; the contours hold 50 % and 94 % of the posterior.

# %%
ordered = np.sort(weight.ravel())[::-1]
contours = [ordered[np.searchsorted(ordered.cumsum(), share)] for share in (0.94, 0.5)]
figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.4), sharex=True, sharey=True, layout="constrained")
for axis, title, draws in zip(
    axes, ("mean-field", "corrected"), (mean_field.sample(1_000, seed=4), better.draws), strict=True
):
    points = draws["posterior"].isel(draw=slice(0, 1_000))
    axis.plot(points["level"].to_numpy().ravel(), points["slope"].to_numpy().ravel(), ".", markersize=2.5)
    axis.contour(level, slope, weight, levels=contours, colors="black", linewidths=1.0)
    axis.set(title=title, xlabel="level", xlim=(-2.5, 4.0), ylim=(0.0, 28.0))
axes[0].set_ylabel("slope")
figure.suptitle("Contours: the posterior. Points: draws.")

# %% [markdown]
# ## A fit to reject
#
# A measurement gives the square of a number, 25 give or take 2. The number is about 5, or about -5; beforehand we
# think it rather positive, Normal(1, 3). The Laplace approximation climbs one of the two hills, and stays there.


# %%
def squared(y=None):
    """y is x², with noise; the sign of x is lost."""
    x = pyro.sample("x", dist.Normal(1.0, 3.0))
    pyro.sample("y", dist.Normal(x**2, 2.0), obs=y)


one_root = ppl.fit(squared, {"y": torch.tensor(25.0)}, guide="laplace", seed=1)
rejected = ppl.check(one_root)
print(rejected)

# %% [markdown]
# Look at how much *passes*. k-hat, the gradients (`score mean`, `score sd`), the kernel Stein discrepancy (a test of
# all draws by their gradients), the gap between the ELBO and a tighter bound, even a theorem's bound on the error: all
# are computed at the guide's draws, and no draw is near -5. Only the pool, whose proposals began elsewhere, holds any.
# The guide's own weights cannot repair it either, for a weight of a draw that was never made is no use:

# %%
for step in rule_of(rejected).steps:
    print("-", step)

# %%
(evidence,) = gather({"laplace": (one_root, rejected)}, predictions=False)
display(density_figure(evidence.samples, ["x"]))

# %% [markdown]
# The truth, again from a grid: a quarter of the probability is at the other root.

# %%
x = np.linspace(-8.0, 8.0, 20_001)
density = np.exp(stats.norm(1.0, 3.0).logpdf(x) + stats.norm(x**2, 2.0).logpdf(25.0))
density /= density.sum()
exact_root = pd.DataFrame({"mean": [density @ x], "sd": [np.sqrt(density @ x**2 - (density @ x) ** 2)]}, index=["x"])
root_errors = errors(one_root.sample(20_000, seed=2), ["x"], exact_root)
pooled_share = float((evidence.reference.column("x") < 0).mean())
print(f"probability below zero: exact {density[x < 0].sum():.3f}, pool {pooled_share:.3f}, guide 0")
root_errors

# %% [markdown]
# ## What each diagnostic cannot see
#
# **k-hat cannot see a mode that the guide missed.** One line, from the fit above:

# %%
found = {check.name: check for check in rejected.checks}
print(f"k-hat {found['k-hat'].measured} (limit {found['k-hat'].limit:.2f}); sd off by {root_errors.iloc[0, 1]:.0f} %")

# %% [markdown]
# **Gradients say nothing of a normal guide that has converged.** Where the ELBO of a normal guide is largest, the
# gradients of the log density have mean zero and minus one as their product with the (scaled) draws, just as they
# would if the guide were the posterior. Take the posterior density exp(z - exp(z)), the log of an exponential
# variable: the best normal is N(-1/2, 1), exactly, and the true sd is 1.28.

# %%
points = stats.norm(-0.5, 1.0).rvs(size=(20_000, 1), random_state=3)
scores = 1.0 - np.exp(points)
told = score_moments(points, scores).table.iloc[0]
true_sd = np.sqrt(special.polygamma(1, 1))
print(f"gradients: sd off by {100 * np.expm1(told['log_sd_ratio']):.0f} ± {100 * told['log_sd_ratio_mcse']:.0f} %")
print(f"truth:     sd off by {100 * (1.0 / true_sd - 1.0):.0f} %")
undecided = check_scores(points, scores)[1]
print(f"the check: {undecided.mark} ({undecided.detail})")

# %% [markdown]
# So the check looks at a second thing, how far from a straight line the gradient is, and is undecided rather than
# content where the posterior is not normal.
#
# **Symmetric calibration tests pass a guide of half the width.** Draw a parameter from its prior and data from the
# model, fit, and see where the true parameter falls among the guide's draws, from 0 to 1; many times over. If the
# guide is right this is uniform (simulation-based calibration, `ppl.calibrate`). A cheaper version (VSBC) asks only
# whether it is *symmetric*. Here with a normal posterior and a guide of half its width, in closed form:

# %%
rng = np.random.default_rng(4)
theta = rng.normal(size=4_000)
y = theta + rng.normal(size=4_000)  # the posterior is N(y / 2, 1 / 2)
place = stats.norm(y / 2.0, np.sqrt(0.5) / 2.0).cdf(theta)
symmetric = stats.ks_2samp(place, 1.0 - rng.permutation(place)).pvalue
uniform = stats.kstest(place, "uniform").pvalue
outer = ((place < 0.05) | (place > 0.95)).mean()
print(f"symmetric? p = {symmetric:.2f}. uniform? p = {uniform:.0e}. {100 * outer:.0f} % in the outer tenth, not 10 %.")

# %% [markdown]
# **And the verdict itself?** A mode that neither the guide nor any of the eight other starts found cannot be seen, and
# a `trust` without a baseline says so in its reasons. Put the second hill far off, where nothing climbs to it:


# %%
def far_hill():
    """Half of the probability at 0, half at 300."""
    x = pyro.sample("x", dist.Normal(0.0, 1.0).mask(False))
    hills = dist.Normal(torch.tensor([0.0, 300.0]), 1.0).log_prob(x.unsqueeze(-1))
    pyro.factor("hills", hills.logsumexp(-1))


deceived = ppl.check(ppl.fit(far_hill, {}, guide="normal", method="dadvi", seed=1))
print(deceived.verdict, "-", deceived.reasons[-1])

# %% [markdown]
# No computation that begins elsewhere, MCMC included, would see this one. Knowing that a posterior may have such hills
# (mixtures and their labels, signs of loadings, periods) is up to you: start it there.
#
# ## A right posterior of a wrong model
#
# `trust` is about the computation: these draws are the posterior of *this model*. Whether the model fits the data is
# another question. Chin-ups of twenty men (Linnerud's data), as if every man had the same rate and chance were
# Poisson's:

# %%
chins = torch.tensor(load_linnerud().data[:, 0])


def same_rate(chins=None):
    """Twenty Poisson counts of one rate."""
    rate = pyro.sample("rate", dist.Gamma(2.0, 0.2))
    with pyro.plate("man", 20):
        pyro.sample("chins", dist.Poisson(rate), obs=chins)


poisson = ppl.fit(same_rate, {"chins": chins}, guide="laplace", seed=1)
print(ppl.check(poisson).verdict)
predictions = ppl.check_predictions(poisson, seed=5)
print(predictions)

# %% [markdown]
# The posterior of the rate is right, and the model is wrong: the men differ by far more than a Poisson's spread (the
# observed sd has next to no tail probability among replicated data). That takes another model, not another guide.
#
# ## The whole evidence on one page
#
# `ppl.write_report` shows each verdict with the rule behind it, every check in the order of the argument, what it
# cost, the figures against the reference that was used, and what to do next. It is one file, which can be sent around.

# %%
judged = {"full_rank": (full_rank, trusted), "mean-field": (mean_field, correctable)}
page = ppl.write_report("bioassay.html", judged, title="Bioassay", predictions=False)
print(f"the checks took {sum(trusted.seconds.values()):.1f} s; the page has {page.stat().st_size / 1e3:.0f} kB")

# %% [markdown]
# What this notebook claims:

# %%
assert [trusted.verdict, correctable.verdict, rejected.verdict] == ["trust", "correct", "reject"]
# what is trusted is within the limits, 0.2 sd and a fifth (the errors of 20,000 draws are below a tenth of these)
assert trusted_errors["mean error (sd)"].abs().max() < 0.2
assert trusted_errors["sd error (%)"].abs().max() < 20.0
# mean-field is too narrow, and its corrected draws are right within four standard errors
assert before["sd error (%)"].min() < -15.0
assert better.passed
assert (after["mean error (sd)"].abs() < 4.0 * better.table.loc[after.index, "mcse_sd"] + 0.01).all()
assert (np.log1p(after["sd error (%)"] / 100.0).abs() < 4.0 * better.table.loc[after.index, "log_sd_mcse"] + 0.01).all()
# a missed mode passes every check at the guide's own draws, and fails those against other starts
assert all(found[name].passed for name in ("k-hat", "score mean", "score sd", "kernel Stein discrepancy", "ELBO gap"))
assert found["other starts"].passed is False
assert root_errors["sd error (%)"].iloc[0] < -90.0
assert abs(pooled_share - density[x < 0].sum()) < 0.04
# blind spots
assert abs(np.expm1(told["log_sd_ratio"])) < 0.1 < 1.0 - 1.0 / true_sd
assert undecided.passed is None
assert symmetric > 0.01
assert uniform < 1e-10
assert deceived.verdict == "trust"
assert [check.name for check in predictions.failed] == ["predictive sd of 'chins'"]
