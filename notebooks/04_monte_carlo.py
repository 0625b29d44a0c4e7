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
# # Monte Carlo: estimates with honest errors
#
# Variational inference rests on Monte Carlo: expectations by drawing, gradients of expectations, and the evidence. Each
# is an estimate, and an estimate without its error is a rumour. This notebook goes from one integral to a two-sided
# bracket of the evidence; every figure has a known answer to be held against.

# %%
# %matplotlib inline
import math

import matplotlib.pyplot as plt
import numpy as np
import pyro
import pyro.distributions as dist
import torch

import ppl_models as ppl
from ppl_models.report.figures import efficiency_figure

# %% [markdown]
# ## One integral
#
# $E[e^{-z^2}]$ for a standard normal $z$ is $1/\sqrt 3$. The function takes all draws at once, along the first axis.

# %%
standard = dist.Normal(torch.tensor(0.0, dtype=torch.float64), 1.0)


def bump(z):
    """The integrand."""
    return torch.exp(-(z**2))


founding = ppl.expect(bump, standard, num_draws=1_000_000, seed=1)
print(founding)
print("exact:", 1.0 / math.sqrt(3.0))

# %% [markdown]
# The error falls with the square root of the draws. Rather than guess their number, name the error:

# %%
wanted = ppl.expect(bump, standard, target_error=1e-3, seed=1)
print(wanted, "|", wanted.status)

# %% [markdown]
# Is the error bar right? Four hundred runs, and the share of intervals that hold the truth:

# %%
runs = [ppl.expect(bump, standard, num_draws=1_000, seed=seed) for seed in range(400)]
coverage = np.mean([run.interval[0] <= 1.0 / math.sqrt(3.0) <= run.interval[1] for run in runs])
print(f"{coverage:.1%} of 95 % intervals hold the exact value")

# %% [markdown]
# ## Better than more draws
#
# Draws can be arranged so that their errors cancel. How well that works depends on the function.

# %%
comparison = ppl.compare_methods(bump, standard, exact=1.0 / math.sqrt(3.0), seed=1)
print(comparison)

# %%
figure = efficiency_figure(comparison)
figure

# %% [markdown]
# *Antithetic* draws come as $z$ and $-z$. For an even function such as this they are the same draw twice, and the error
# grows; for $e^z$ they cancel. A *control variate* is a function with a known mean that moves with $f$ ($z^2$ here).
# *Stratified* draws and *quasi* (scrambled Sobol) points are spread more evenly than chance would have it; the latter's
# error falls nearly like $n^{-3/2}$ here. Nothing comes free: a jump in $f$, or many dimensions, take much of it away.

# %%
for name in ("plain", "antithetic"):
    print(name, ppl.expect(torch.exp, standard, num_draws=100_000, method=name, seed=1))

# %% [markdown]
# ## When an error bar lies
#
# A standard error is itself an estimate, from the spread of the draws. Where the variance is infinite it goes on
# shrinking while the estimate does not settle. The tail of the values tells (Pareto k-hat):

# %%
heavy = ppl.expect(lambda z: torch.exp(0.45 * z**2), standard, num_draws=100_000, seed=1)
print(heavy)

# %% [markdown]
# Importance sampling draws from another distribution and weights. From a normal of variance $s^2 < 1$ to the standard
# normal, k-hat is $1 - s^2$. At $s^2 = 1/3$ it is $2/3$; and yet $w f$ is *constant* for our bump, so that this very
# expectation has no error at all. k-hat speaks of the weights, and an expectation is about weights times function.

# %%
narrow = dist.Normal(torch.tensor(0.0, dtype=torch.float64), math.sqrt(1.0 / 3.0))
lucky = ppl.expect(bump, standard, num_draws=10_000, method="importance", proposal=narrow, seed=1)
unlucky = ppl.expect(lambda z: z**4, standard, num_draws=10_000, method="importance", proposal=narrow, seed=1)
print(lucky, unlucky, sep="\n")

# %% [markdown]
# ## Gradients
#
# SVI climbs the gradient of an expectation. Along the draw's own path (*reparameterised*) its noise is small; by the
# *score* it needs no path, and is noisier: for $f = z^2$ and $z \sim N(\mu, 1)$ the variances are $4$ and
# $\mu^4 + 14\mu^2 + 15$.

# %%
square = ppl.gradient_variance(
    lambda z: z**2,
    lambda mean: dist.Normal(mean, 1.0),
    torch.tensor(1.0, dtype=torch.float64),
    estimators=["reparameterised", ("score", {"baseline": "none"})],
    exact=2.0,
    num_replicates=2_000,
    seed=1,
)
print(square)

# %% [markdown]
# A coin has no path. Estimators for discrete latents differ by what they subtract to calm the score; those marked with
# a star take another road, and pay with bias.

# %%
coin = ppl.gradient_variance(
    lambda b: (b - 0.499) ** 2,
    lambda logit: dist.Bernoulli(logits=logit),
    torch.tensor(0.5, dtype=torch.float64),
    num_replicates=4_000,
    seed=1,
)
print(coin)

# %% [markdown]
# ## What a fit says of events
#
# An expectation under a fitted guide has two errors: that of finitely many draws, and that of the guide. The first
# falls with more draws; the second does not. Eight schools, by independent normals: how probable is it that coaching
# in school A adds more than 10 points?


# %%
def schools(sigma, y=None):
    """Rubin's eight schools, non-centred."""
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("school", len(sigma)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        theta = pyro.deterministic("theta", mu + tau * z)
        pyro.sample("y", dist.Normal(theta, sigma), obs=y)


coaching = {"sigma": np.array([15, 10, 16, 11, 9, 11, 10, 18.0]), "y": np.array([28, 8, -3, 7, -1, 1, 18, 12.0])}
fit = ppl.fit(schools, coaching, guide="normal", method="dadvi", seed=1)
more_than_ten = ppl.probability(fit, lambda draw: draw["theta"][:, 0] > 10.0, num_draws=20_000, seed=2)
print(more_than_ten)

# %% [markdown]
# ## Evidence, from both sides
#
# The evidence $p(y)$ compares models. The ELBO is below its logarithm by the guide's divergence from the posterior. A
# linear regression with known noise has it in closed form, which makes an honest test.

# %%
rng = np.random.default_rng(1)
x = torch.as_tensor(rng.normal(size=(30, 2)) @ np.array([[1.0, 0.8], [0.0, 0.6]]))
y = x @ torch.tensor([1.0, -0.5], dtype=torch.float64) + 0.7 * torch.as_tensor(rng.normal(size=30))


def regression(x, y=None):
    """Two slopes, known noise."""
    slope = pyro.sample("slope", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("row", len(x)):
        pyro.sample("y", dist.Normal((x * slope.unsqueeze(-2)).sum(-1), 0.7), obs=y)


covariance = x @ x.T + 0.49 * torch.eye(30)
truth = float(dist.MultivariateNormal(torch.zeros(30), covariance).log_prob(y))
line = {"x": x, "y": y}
mean_field = ppl.fit(regression, line, guide="normal", method="dadvi", seed=1)
print(ppl.elbo_terms(mean_field, seed=2))

# %% [markdown]
# More weights inside the logarithm make a tighter bound, from the same guide:

# %%
bounds = ppl.importance_bound(mean_field, num_importance=(1, 5, 50), seed=2)
print(bounds)
print("exact:", truth)

# %% [markdown]
# All of these are below the truth, and none says how far. Annealed importance sampling goes from the prior to the
# posterior in many small steps, and is below the truth in expectation; the same steps back from posterior draws are
# above it. Where the two meet, there the evidence is.

# %%
draws = ppl.sample(regression, line, chains=4, warmup=500, draws=500, seed=3)
bracket = ppl.log_evidence(regression, line, method="bidirectional", draws=draws, num_temperatures=500, seed=4)
print(bracket)

# %%
bridge = ppl.log_evidence(mean_field, method="bridge", draws=draws, seed=5)
print(bridge)

# %% [markdown]
# On one scale:

# %%
heights = {f"K = {size}": row for size, row in bounds.table.iterrows()}
figure, axis = plt.subplots(figsize=(6.2, 2.8), layout="constrained")
names = [*heights, "AIS, forward", "AIS, reverse", "bridge"]
values = [
    *(row["bound"] for row in heights.values()),
    float(bracket.lower),
    float(bracket.upper),
    float(bridge.log_evidence),
]
axis.plot(values, range(len(names)), "o", color="#0072B2")
axis.axvline(truth, color="black", linewidth=1.0, label="exact")
axis.set_yticks(range(len(names)), names)
axis.set_xlabel("log evidence (nats)")
axis.legend(frameon=False)
axis.invert_yaxis()

# %% [markdown]
# ## A series, by a particle filter
#
# For a state-space model the evidence is a product over time. A particle filter's estimate of it is unbiased; for a
# linear Gaussian model Kalman's filter gives it exactly.

# %%
walk = ppl.StateSpace(
    initial=lambda: dist.Normal(torch.tensor(0.0, dtype=torch.float64), 1.0),
    transition=lambda time, state: dist.Normal(0.9 * state, 0.5),
    observation=lambda time, state: dist.Normal(state, 0.8),
)
series = np.cumsum(rng.normal(size=40)) * 0.3
filtered = ppl.particle_filter(walk, series, num_particles=500, seed=1)
print(filtered)


# %%
def kalman(series, decay=0.9, noise=0.5, blur=0.8):
    """Log likelihood of the same model, exactly."""
    mean, variance, total = 0.0, 1.0, 0.0
    for time, value in enumerate(series):
        if time:
            mean, variance = decay * mean, decay**2 * variance + noise**2
        spread = variance + blur**2
        total -= 0.5 * (math.log(2.0 * math.pi * spread) + (value - mean) ** 2 / spread)
        gain = variance / spread
        mean, variance = mean + gain * (value - mean), variance * (1.0 - gain)
    return total


print("Kalman:", kalman(series))

# %% [markdown]
# ## What was claimed
#
# The last cell holds every claim of this notebook against its known answer.

# %%
four = 4.0
assert abs(founding.estimate - 1.0 / math.sqrt(3.0)) < four * founding.standard_error
assert wanted.status == "met"
assert wanted.standard_error <= 1e-3
assert 0.91 <= coverage <= 0.98  # 95 % of 400 runs, within four binomial errors
assert comparison.table.loc["antithetic", "efficiency"] < 1.0 < comparison.table.loc["quasi", "efficiency"]
assert "cannot be trusted" in str(heavy)
assert lucky.standard_error < 1e-12
assert unlucky.standard_error > 1e-3
assert coin.summary.loc["rebar", "variance_per_draw"] < coin.summary.loc["nvil", "variance_per_draw"]
assert abs(coin.summary.loc["straight_through", "bias"]) > four * coin.summary.loc["straight_through", "bias_error"]
assert abs(more_than_ten.table.loc["probability", "guide_error"]) > 0.02
assert bounds.table["bound"].is_monotonic_increasing
assert abs(float(bracket.log_evidence) - truth) < four * float(bracket.standard_error)
assert abs(float(bridge.log_evidence) - truth) < four * float(bridge.standard_error)
assert abs(float(filtered.log_evidence) - kalman(series)) < four * float(filtered.standard_error)
