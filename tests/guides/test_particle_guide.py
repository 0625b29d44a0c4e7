import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

import guides
from guides.particles import EquallyLikely


def model():
    location = pyro.sample("location", dist.Normal(0.0, 1.0))
    pyro.sample("scale", dist.LogNormal(location, torch.ones(2)).to_event(1))


def made(**options):
    guide = guides.make("particles", model, **options)
    guide()
    return guide


def test_every_draw_is_a_particle_on_its_support():
    guide = made(num_particles=5)
    assert guide.particles.shape == (5, 3)
    points = guide.particles.detach().numpy()
    wanted = np.concatenate([points[:, :1], np.exp(points[:, 1:])], axis=1)
    draws = [guide() for _ in range(100)]
    found = np.array([[draw["location"].item(), *draw["scale"].tolist()] for draw in draws])
    away = np.abs(found[:, None] / wanted - 1.0).max(axis=2)
    assert away.min(axis=1).max() < 1e-5
    assert set(away.argmin(axis=1)) == set(range(5))


@pytest.mark.statistical
def test_all_particles_are_equally_likely():
    points = torch.arange(10.0)[:, None]
    draws = EquallyLikely(points).sample((20_000,))[:, 0].long()
    counts = torch.bincount(draws, minlength=10).double()
    # chi-squared with nine degrees of freedom exceeds 27.9 once in a thousand times
    assert float(((counts - 2_000.0) ** 2 / 2_000.0).sum()) < 27.9


def test_distribution_has_the_shapes_of_any_other():
    chance = EquallyLikely(torch.randn(4, 3))
    assert chance.expand((7, 1)).sample((2,)).shape == (2, 7, 1, 3)
    assert chance.log_prob(torch.zeros(6, 3)).shape == (6,)
    torch.testing.assert_close(chance.log_prob(torch.zeros(3)), torch.tensor(-math.log(4)))


def test_a_draw_moves_with_its_particle():
    points = torch.randn(4, 3, requires_grad=True)
    draw = EquallyLikely(points).rsample()
    draw.sum().backward()
    (moved,) = torch.where((points.grad != 0).any(dim=1))
    torch.testing.assert_close(points[moved[0]], draw)
    assert (points.grad[moved] == 1).all()


def test_the_family_says_that_it_has_no_density():
    family = guides.FAMILIES["particles"]
    assert not family.density
    assert not family.point
    assert guides.FAMILIES["normal"].density


@pytest.mark.parametrize("count", [0, 2.5])
def test_a_count_that_is_none_is_refused(count):
    with pytest.raises(guides.FamilyOptionError, match="num_particles"):
        guides.make("particles", model, num_particles=count)


def test_density_of_a_trace_is_the_share_and_the_jacobian():
    guide = made(num_particles=5)
    trace = poutine.trace(guide).get_trace()
    wanted = -math.log(5) - trace.nodes["scale"]["value"].log().sum().item()
    assert math.isclose(trace.log_prob_sum().item(), wanted, rel_tol=1e-5)
