"""Flows of zuko: density of remembered draws, both directions, the start, and torch's validation left alone."""

import subprocess
import sys

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch.distributions import Distribution

import guides
from guides.zuko_flow import validation_kept

NAMES = pytest.mark.parametrize("name", ["realnvp", "neural_spline"])


def model_of(dim):
    return lambda: pyro.sample("z", dist.Normal(torch.zeros(dim), 1.0).to_event(1))


def made(name, dim, shift=0.3):
    torch.set_default_dtype(torch.float64)
    guide = guides.make(name, model_of(dim), init_scale=0.5)
    guide()
    with torch.no_grad():
        for parameter in guide.parameters():
            parameter.add_(shift * torch.randn_like(parameter))
    return guide


@NAMES
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_a_remembered_draw_has_the_density_of_any_value(name, dim):
    posterior = made(name, dim).get_posterior().expand((50,))
    value = posterior.rsample()
    torch.testing.assert_close(posterior.log_prob(value), posterior.log_prob(value.clone()), rtol=1e-7, atol=1e-7)


@NAMES
@pytest.mark.parametrize("dim", [1, 3])
def test_the_jacobian_is_autograds(name, dim):
    transform = made(name, dim).get_transform()
    point = torch.randn(dim)
    wanted = torch.autograd.functional.jacobian(transform, point).slogdet().logabsdet
    torch.testing.assert_close(transform.call_and_ladj(point)[1], wanted, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(transform.inv(transform(point)), point, rtol=1e-7, atol=1e-7)


@NAMES
def test_the_flow_begins_near_the_identity(name):
    guide = made(name, 4, shift=0.0)
    noise = torch.randn(1000, 4)
    values, ladj = guide.get_transform().call_and_ladj(noise)
    assert (values - (guide.loc + guide.scale * noise)).abs().max() < 0.1 * 0.5  # a tenth of the scale
    assert (ladj - guide.scale.log().sum()).abs().max() < 0.2


def test_one_latent_is_a_normal_for_realnvp():
    guide = made("realnvp", 1)
    draw = poutine.trace(guide).get_trace().nodes["z"]["value"]
    wanted = dist.Normal(guide.loc, guide.scale).log_prob(draw).sum()
    torch.testing.assert_close(guide.get_posterior().log_prob(draw.clone()), wanted)


@pytest.mark.parametrize("before", [True, False])
def test_validation_is_left_as_it_was(before):
    kept = Distribution._validate_args
    try:
        Distribution.set_default_validate_args(before)
        with validation_kept():
            Distribution.set_default_validate_args(not before)  # as zuko's import does
        assert Distribution._validate_args is before
    finally:
        Distribution.set_default_validate_args(kept)


def test_zuko_is_imported_late_and_leaves_validation_on():
    code = """
import sys, torch, pyro, pyro.distributions as dist
from torch.distributions import Distribution
import guides
assert "zuko" not in sys.modules
before = Distribution._validate_args
guide = guides.make("neural_spline", lambda: pyro.sample("z", dist.Normal(0.0, 1.0)))
guide()
assert "zuko" in sys.modules
assert Distribution._validate_args is before is True
try:
    dist.Normal(0.0, -1.0)
except ValueError:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "refused", done.stderr
