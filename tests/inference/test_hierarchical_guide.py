"""The families that follow the model, through `ppl.fit`: local latents of subsampled plates, and supports that move."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import ppl_models as ppl
from ppl_models.errors import GuideError

NUM, TAU, NOISE = 24, 0.7, 0.5
Y = np.random.default_rng(0).normal(0.7, math.hypot(TAU, NOISE), NUM)
STEPS = {"eager": 20, "native": 2_500}  # eager steps are those of any fit: a few show that they run
NATIVE = pytest.param("native", marks=(pytest.mark.native, pytest.mark.exhaustive))
BACKENDS = pytest.mark.parametrize("backend", ["eager", NATIVE])


def drawn(y):
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("row", len(y), subsample_size=6) as index:
        effect = pyro.sample("effect", dist.Normal(mean, TAU))
        pyro.sample("y", dist.Normal(effect, NOISE), obs=y[index])


def named(y, index):
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("row", NUM, subsample=index):
        effect = pyro.sample("effect", dist.Normal(mean, TAU))
        pyro.sample("y", dist.Normal(effect, NOISE), obs=y)


def exact(y=Y):
    """Posterior means and standard deviations of the mean and the effects, by conjugacy."""
    mean_variance = 1.0 / (1.0 + len(y) / (TAU**2 + NOISE**2))
    mean = mean_variance * y.sum() / (TAU**2 + NOISE**2)
    variance = 1.0 / (1.0 / TAU**2 + 1.0 / NOISE**2)
    pull = variance / TAU**2
    effects = variance * y / NOISE**2 + pull * mean
    return mean, math.sqrt(mean_variance), effects, math.sqrt(variance + pull**2 * mean_variance)


def assert_close_to_the_posterior(backend, mean, effect):
    """Within a fit's aim of a tenth of a standard deviation, and ten percent of its size, beside Monte Carlo error."""
    assert np.isfinite(effect).all()
    if backend == "eager":
        return
    wanted_mean, mean_sd, wanted, sd = exact()
    z = 4.5 / math.sqrt(len(mean))  # 50 comparisons
    assert abs(mean.mean() - wanted_mean) < (0.1 + z) * mean_sd
    assert (np.abs(effect.mean(0) - wanted) < (0.1 + z) * sd).all()
    assert (np.abs(np.log(effect.std(0) / sd)) < 0.1 + z / math.sqrt(2)).all()


@pytest.mark.parametrize("backend", ["eager"])
def test_subsample_that_pyro_draws(backend):
    fit = ppl.fit(drawn, (Y,), guide="hierarchical", max_steps=STEPS[backend], seed=1, backend=backend, num_particles=8)
    draws = fit.sample(4_000, seed=2)["posterior"]
    assert draws["effect"].shape == (1, 4_000, NUM)
    assert_close_to_the_posterior(backend, draws["mean"].values[0], draws["effect"].values[0])


@BACKENDS
def test_subsample_that_the_model_names(backend):
    order = torch.randperm(NUM, generator=torch.Generator().manual_seed(1))
    data = {"y": Y[order.numpy()], "index": order}
    fit = ppl.fit(named, data, guide="hierarchical", max_steps=STEPS[backend], seed=1, backend=backend)
    draws = fit.sample(4_000, seed=2)["posterior"]
    effect = np.empty((4_000, NUM))
    effect[:, order.numpy()] = draws["effect"].values[0]
    assert_close_to_the_posterior(backend, draws["mean"].values[0], effect)


@BACKENDS
def test_batches_of_a_loader_and_all_rows_afterwards(backend):
    loader = DataLoader(TensorDataset(torch.tensor(Y), torch.arange(NUM)), batch_size=6, shuffle=True)
    fit = ppl.fit(
        named, loader, guide="hierarchical", max_steps=STEPS[backend], seed=1, backend=backend, num_particles=8
    )
    assert fit.sample(3, seed=2)["posterior"]["effect"].shape == (1, 3, 6)  # the program's batch
    with fit.program.isolated(seed=3), torch.no_grad():
        draws = [fit.guide(torch.tensor(Y), torch.arange(NUM)) for _ in range(1_000)]
    mean, effect = (torch.stack([draw[name] for draw in draws]).numpy() for name in ("mean", "effect"))
    assert_close_to_the_posterior(backend, mean, effect)


def test_other_families_name_the_one_that_can():
    with pytest.raises(GuideError, match=r"'effect' lies in a plate.*Take guide='hierarchical'"):
        ppl.fit(named, {"y": Y, "index": torch.arange(NUM)}, guide="normal", max_steps=5)


@pytest.mark.parametrize("guide", ["hierarchical", "dais"])
def test_supports_that_depend_on_a_latent(guide):
    def model():
        scale = pyro.sample("scale", dist.Gamma(3.0, 1.0))
        pyro.sample("part", dist.Uniform(0.0, scale))

    fit = ppl.fit(model, (), guide=guide, max_steps=100, seed=1, backend="eager", num_particles=4)
    draws = fit.sample(2_000, seed=2)
    part, scale = (draws["posterior"][name].values for name in ("part", "scale"))
    assert ((part > 0) & (part < scale)).all()
    elbo, error = fit.elbo(4_000, seed=3)
    assert elbo < 4.5 * error  # the evidence is one
    assert np.isfinite(elbo)
    with pytest.raises(GuideError, match="guide='hierarchical' or guide='dais'"):
        ppl.fit(model, (), guide="normal", max_steps=5)


def test_latents_of_a_subsample_are_refused_by_a_family_that_draws_all_at_once():
    with pytest.raises(GuideError, match=r"'effect' lies in plate 'row'.*'hierarchical'"):
        ppl.fit(drawn, (Y,), guide="dais", max_steps=5)
