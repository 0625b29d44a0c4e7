"""What is special to problems with networks: where they begin, their options, and the closed form of the linear one."""

import math

import pyro
import pytest
import torch
from pyro import poutine
from pyro.distributions import constraints

from ppl_models.catalogue import load, names
from ppl_models.catalogue.registry import AUTOENCODERS
from ppl_models.datasets import packaged
from ppl_models.errors import DataError

OPTIMUM = 0.0057
"""Largest log likelihood of probabilistic PCA with two components, nats per image."""


def test_the_linear_vae_reaches_the_closed_form():
    """Where the likelihood is largest the guide holds the posterior: log p - log q is the evidence for any draw."""
    torch.set_default_dtype(torch.float64)
    problem = load("linear_vae_digits")
    x = problem.data["x"]
    num_images, num_pixels = x.shape
    values, vectors = torch.linalg.eigh(torch.cov(x.T, correction=0))
    noise = values[:-2].mean()
    weights = vectors[:, -2:] * (values[-2:] - noise).sqrt()
    with torch.no_grad():
        problem.model.decoder.weight.copy_(weights)
        problem.model.decoder.bias.copy_(x.mean(0))
        problem.model.likelihood.set_scale(noise.sqrt())
    precision = (weights**2).sum(0) + noise
    encoder = (weights / precision).T
    pyro.param("encoder_weights", encoder)
    pyro.param("encoder_offset", -encoder @ x.mean(0))
    pyro.param("encoder_scale", (noise / precision).sqrt(), constraint=constraints.softplus_positive)
    evidence = (
        -0.5
        * num_images
        * (num_pixels * math.log(2.0 * math.pi) + values[-2:].log().sum() + (num_pixels - 2) * noise.log() + num_pixels)
    )
    for _ in range(2):
        guide = poutine.trace(problem.guides["handwritten"]).get_trace(**problem.data)
        model = poutine.trace(poutine.replay(problem.model, trace=guide)).get_trace(**problem.data)
        torch.testing.assert_close(model.log_prob_sum() - guide.log_prob_sum(), evidence, rtol=1e-10, atol=1e-7)
    assert float(evidence) / num_images == pytest.approx(OPTIMUM, abs=5e-5)


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_networks_begin_alike_and_move_no_random_numbers(name):
    before = torch.get_rng_state()
    first, second = load(name).model, load(name).model
    assert torch.equal(before, torch.get_rng_state())
    assert first is not second
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_options_are_for_the_problems_own_guides():
    problem = load("vae_digits")
    assert problem.fit_options("handwritten") == problem.fit_options("amortized") == dict(problem.fitting) != {}
    assert problem.fit_options("normal") == {}


def test_without_the_extra_it_is_listed_and_says_what_to_install(monkeypatch):
    monkeypatch.setattr(packaged.util, "find_spec", lambda name: None)
    assert "single_cell_pbmc" in names()
    with pytest.raises(DataError, match=r"pip install ppl-models\[data\]"):
        load("single_cell_pbmc")
