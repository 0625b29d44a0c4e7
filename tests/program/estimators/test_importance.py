"""Bounds from importance weights: values by brute force and in closed form, gradients with and without the score."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from closed_forms import DATA, EVIDENCE, log_normal_density, regression
from engine.steps import elbo_of
from pyro.infer import RenyiELBO
from randomness import seeded
from scipy.special import logsumexp
from torch import nn
from torch.distributions import constraints

import guides
from ppl_models.errors import OptionError
from ppl_models.program.estimators import (
    DoublyReparameterised,
    ImportanceWeighted,
    Renyi,
    Total,
    doubly_reparameterised,
)
from program.estimators.noise import Z, errors_apart, errors_from, gradients_of

COUNT = 4_000
Y = torch.tensor([0.3, -1.2, 2.0], dtype=torch.float64)
PLACES = torch.tensor([0.5, -0.2, 0.4], dtype=torch.float64)
NOISE = torch.tensor([[0.1, -0.4, 1.2], [-1.0, 0.3, 0.6], [0.8, 0.2, -0.5], [0.0, 1.1, -1.4]], dtype=torch.float64)
GUIDE_SD = 0.9


def local(y, subsample_size=None):
    """y_i ~ Normal(z_i, 1), z_i ~ Normal(shift, 1): each datum has its own latent."""
    shift = pyro.param("shift", torch.tensor(0.2, dtype=torch.float64))
    with pyro.plate("row", len(y), subsample_size=subsample_size) as index:
        z = pyro.sample("z", dist.Normal(shift, 1.0))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y[index])


def local_guide(y, subsample_size=None):
    places = pyro.param("places", PLACES.clone())
    with pyro.plate("row", len(y), subsample_size=subsample_size) as index:
        pyro.sample("z", dist.Normal(places[index], GUIDE_SD))


def log_weights(noise=NOISE, index=(0, 1, 2)):
    """By hand, shape (draw, datum)."""
    index = list(index)
    places, y = PLACES.numpy()[index], Y.numpy()[index]
    z = places + GUIDE_SD * noise.numpy()
    return log_normal_density(z, 0.2, 1.0) + log_normal_density(y, z, 1.0) - log_normal_density(z, places, GUIDE_SD)


LOCAL_EVIDENCE = float(log_normal_density(Y.numpy(), 0.2, math.sqrt(2.0)).sum())


def loss_at(model, guide, data, estimator, noise, indices=()):
    with elbo_of(model, data, guide, particles=len(noise), estimator=estimator) as elbo, torch.no_grad():
        return float(elbo(elbo.flat_parameters(), noise, torch.zeros(len(noise), 1), *indices))


@pytest.mark.parametrize("kind", [ImportanceWeighted, DoublyReparameterised])
def test_every_datum_has_weights_of_its_own(kind):
    found = loss_at(local, local_guide, (Y,), kind(4), NOISE)
    wanted = (logsumexp(log_weights(), axis=0) - math.log(4)).sum()
    assert -found == pytest.approx(wanted, rel=1e-10)
    joint = logsumexp(log_weights().sum(axis=1)) - math.log(4)
    assert abs(joint - wanted) > 0.01


def test_particles_are_means_over_groups_of_draws():
    found = loss_at(local, local_guide, (Y,), ImportanceWeighted(2), NOISE)
    by_group = logsumexp(log_weights().reshape(2, 2, 3), axis=1) - math.log(2)
    assert -found == pytest.approx(by_group.sum() / 2, rel=1e-10)


def test_a_subsample_is_scaled_outside_the_logarithm():
    noise = NOISE[:, :2].contiguous()
    found = loss_at(
        local, local_guide, {"y": Y, "subsample_size": 2}, ImportanceWeighted(4), noise, [torch.tensor([2, 0])]
    )
    each = logsumexp(log_weights(noise, (2, 0)), axis=0) - math.log(4)
    assert -found == pytest.approx(3 / 2 * each.sum(), rel=1e-10)


def test_one_weight_for_global_latents():
    with elbo_of(regression, DATA, "full_rank", particles=4, estimator=Total()) as elbo, torch.no_grad():
        torch.manual_seed(0)
        normal, uniform = (tensor[0] for tensor in elbo.draw_noise(1))
        flat = elbo.flat_parameters()
        ratios = [float(elbo.particle(flat, n, u, [])["log_ratio"]) for n, u in zip(normal, uniform, strict=True)]
    with elbo_of(regression, DATA, "full_rank", particles=4, estimator=ImportanceWeighted(4)) as elbo, torch.no_grad():
        assert -float(elbo(flat, normal, uniform)) == pytest.approx(logsumexp(ratios) - math.log(4), rel=1e-10)


def test_global_and_local_latents_share_one_weight():
    def model(y):
        shift = pyro.sample("shift", dist.Normal(0.0, 1.0))
        with pyro.plate("row", len(y)):
            pyro.sample("y", dist.Normal(pyro.sample("z", dist.Normal(shift, 1.0)), 1.0), obs=y)

    def guide(y):
        shift = pyro.sample("shift", dist.Normal(pyro.param("place", torch.tensor(0.1)), 0.5))
        with pyro.plate("row", len(y)):
            pyro.sample("z", dist.Normal(0.5 * (shift + y), GUIDE_SD))

    noise = torch.cat([NOISE, 0.5 - NOISE[:, :1]], dim=1)
    shift = 0.1 + 0.5 * noise[:, :1].numpy()
    middle = 0.5 * (shift + Y.numpy())
    z = middle + GUIDE_SD * noise[:, 1:].numpy()
    local_part = log_normal_density(z, shift, 1.0) + log_normal_density(Y.numpy(), z, 1.0)
    local_part = (local_part - log_normal_density(z, middle, GUIDE_SD)).sum(axis=1)
    weight = log_normal_density(shift, 0.0, 1.0)[:, 0] - log_normal_density(shift, 0.1, 0.5)[:, 0] + local_part
    found = loss_at(model, guide, (Y,), ImportanceWeighted(4), noise)
    assert -found == pytest.approx(logsumexp(weight) - math.log(4), rel=1e-10)


def test_a_subsample_with_global_latents_is_refused():
    def model(y):
        shift = pyro.sample("shift", dist.Normal(0.0, 1.0))
        with pyro.plate("row", len(y), subsample_size=2) as index:
            pyro.sample("y", dist.Normal(shift, 1.0), obs=y[index])

    with pytest.raises(OptionError, match="'row' holds a subsample"), elbo_of(model, (Y,), "normal") as elbo:
        ImportanceWeighted().check(elbo.program, elbo.guide)


def test_other_scales_in_one_plate_are_refused():
    def model(y):
        with pyro.plate("row", len(y)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            with pyro.poutine.scale(scale=0.5):
                pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    with pytest.raises(OptionError, match="'z' and 'y'"), elbo_of(model, (Y,), local_guide) as elbo:
        Renyi().check(elbo.program, elbo.guide)


@pytest.mark.statistical
def test_the_bound_rises_to_the_evidence_with_the_draws_inside():
    means, errors = [], []
    for number, inside in enumerate((1, 4, 16)):
        losses, _ = gradients_of(
            local, (Y,), local_guide, ImportanceWeighted(inside), particles=inside, count=COUNT, seed=number
        )
        means.append(-losses.mean())
        errors.append(losses.std(ddof=1) / math.sqrt(COUNT))
    rises = np.diff(means) / np.hypot(errors[1:], errors[:-1])
    assert (rises > Z).all()
    assert means[-1] < LOCAL_EVIDENCE + Z * errors[-1]
    # the gap is var(w) / 2K for each datum, w the weight over its mean, but for terms of 1 / K squared
    weights = np.exp(log_weights(torch.randn(200_000, 3, generator=torch.Generator().manual_seed(1)).double()))
    gap = (weights.var(axis=0) / weights.mean(axis=0) ** 2).sum() / (2 * 16)
    assert LOCAL_EVIDENCE - means[-1] == pytest.approx(gap, abs=Z * errors[-1] + 0.2 * gap)


@pytest.mark.statistical
def test_pyros_renyi_elbo_passes_the_evidence_where_data_are_subsampled():
    """It scales the weights and adds up the batch inside the logarithm: no bound for local latents."""
    count, inside = 1_500, 16
    losses, _ = gradients_of(
        local, {"y": Y, "subsample_size": 1}, local_guide, ImportanceWeighted(inside), particles=inside, count=count
    )
    with elbo_of(local, {"y": Y, "subsample_size": 1}, local_guide), torch.no_grad():
        pyro.set_rng_seed(0)
        pyros = RenyiELBO(alpha=0.0, num_particles=inside, vectorize_particles=True, max_plate_nesting=1)
        found = np.asarray([-pyros.loss(local, local_guide, Y, 1) for _ in range(count)])
    assert (found.mean() - LOCAL_EVIDENCE) / (found.std(ddof=1) / math.sqrt(count)) > Z
    assert -losses.mean() < LOCAL_EVIDENCE + Z * losses.std(ddof=1) / math.sqrt(count)


def test_renyi_bounds_at_the_ends_are_those_of_others():
    for noise in (NOISE, -NOISE):
        weighted = loss_at(local, local_guide, (Y,), ImportanceWeighted(4), noise)
        elbo = loss_at(local, local_guide, (Y,), Total(), noise)
        assert loss_at(local, local_guide, (Y,), Renyi(0.0, 4), noise) == pytest.approx(weighted, rel=1e-12)
        assert loss_at(local, local_guide, (Y,), Renyi(1.0, 4), noise) == pytest.approx(elbo, rel=1e-12)
        near = [loss_at(local, local_guide, (Y,), Renyi(1.0 + step, 4), noise) for step in (-1e-5, 1e-5)]
        assert sum(near) / 2 == pytest.approx(elbo, rel=1e-8)
        half = logsumexp(0.5 * log_weights(noise), axis=0) - math.log(4)
        found = loss_at(local, local_guide, (Y,), Renyi(0.5, 4), noise)
        assert -found == pytest.approx(half.sum() / 0.5, rel=1e-10)


def wrong_place(x, y=None):
    location = pyro.param("location", torch.tensor([0.2, 0.7], dtype=torch.float64))
    scale = pyro.param("scale", torch.tensor([0.6, 0.4], dtype=torch.float64), constraint=constraints.positive)
    pyro.sample("weights", dist.Normal(location, scale).to_event(1))


@pytest.mark.statistical
@pytest.mark.parametrize(("model", "data", "guide"), [(local, (Y,), local_guide), (regression, DATA, wrong_place)])
def test_doubly_reparameterised_gradient_is_that_of_the_bound_with_less_noise(model, data, guide):
    """The model's parameter `shift` too: its gradient is the other kind of sum."""
    inside = 32
    options = {"particles": inside, "count": COUNT}
    losses, plain = gradients_of(model, data, guide, ImportanceWeighted(inside), **options)
    others, doubly = gradients_of(model, data, guide, DoublyReparameterised(inside), **options, seed=1)
    assert errors_apart(losses, others) < Z
    assert (errors_apart(plain, doubly) < Z).all()
    learnt_by_guide = slice(0, 3) if model is local else slice(None)
    noise = [one.var(axis=0)[learnt_by_guide].sum() for one in (doubly, plain)]
    assert noise[0] < 0.7 * noise[1]


@pytest.fixture(scope="module")
def flow_and_decoder():
    """An amortised flow beside a decoder that is learnt, away from their first parameters.

    Gradients of the importance weighted bound, and what gives those of the other estimator.
    """
    with seeded(0):
        decoder, x = nn.Linear(2, 3).double(), torch.randn(4, 3, dtype=torch.float64)

        def model(x):
            pyro.module("decoder", decoder)
            with pyro.plate("datum", len(x)):
                z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 2, dtype=x.dtype), 1.0).to_event(1))
                pyro.sample("x", dist.Normal(decoder(z), 0.5).to_event(1), obs=x)

        guide = guides.amortized(model, family="realnvp", hidden=(4,), hidden_dims=(4,))
        with elbo_of(model, (x,), guide) as elbo:
            start = elbo.flat_parameters()
        at = start + 0.3 * torch.randn(len(start), dtype=torch.float64)

    def gradients(estimator, seed):
        return gradients_of(model, (x,), guide, estimator, particles=4, count=COUNT // 2, at=at, seed=seed)[1]

    return gradients(ImportanceWeighted(4), 0), lambda: gradients(DoublyReparameterised(4), 1)


@pytest.mark.statistical
def test_doubly_reparameterised_gradient_of_a_flow_beside_a_learnt_decoder(flow_and_decoder):
    plain, doubly = flow_and_decoder
    apart = errors_apart(plain, doubly())
    assert (apart < Z).all()
    # each square has the mean 1 and the variance 2, and they may all go together
    assert (apart**2).mean() < 1.0 + Z * math.sqrt(2.0)


@pytest.mark.statistical
def test_a_flow_that_learns_from_its_density_is_noticed(flow_and_decoder, monkeypatch):
    """The model's part of the gradient must not reach the guide: a flow's density is computed from its parameters."""
    found = doubly_reparameterised.weights_of
    monkeypatch.setattr(doubly_reparameterised, "weights_of", lambda *traces, guide_learns=True: found(*traces))
    plain, wrong = flow_and_decoder
    assert errors_apart(plain, wrong()).max() > Z


@pytest.mark.statistical
def test_gradients_with_one_power_of_the_weights_alone_are_noticed(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "square", lambda tensor: tensor)
    _, plain = gradients_of(regression, DATA, wrong_place, ImportanceWeighted(8), particles=8, count=COUNT)
    _, wrong = gradients_of(regression, DATA, wrong_place, DoublyReparameterised(8), particles=8, count=COUNT, seed=1)
    assert errors_apart(plain, wrong).max() > Z


@pytest.mark.statistical
def test_bound_of_global_latents_stays_below_the_evidence():
    losses, _ = gradients_of(regression, DATA, wrong_place, ImportanceWeighted(64), particles=64, count=COUNT)
    assert errors_from(losses, -EVIDENCE) < Z or losses.mean() > -EVIDENCE
