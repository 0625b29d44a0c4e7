"""Flat vectors to constrained values and back, over supports."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import constraints
from pyro.distributions.transforms import ExpTransform, OrderedTransform

from ppl_models.errors import ModelError
from ppl_models.program import build_program

from .evaluation import points, value_and_gradient


def every(values):
    return values.reshape(-1)


def but_the_last(values):
    return values[..., :-1].reshape(-1)


def strictly_lower(values):
    return values[torch.tril_indices(*values.shape, offset=-1).unbind()]


def improper(constraint, *event_shape):
    return lambda: dist.ImproperUniform(constraint, (), event_shape)


def ordered():
    return dist.TransformedDistribution(dist.Normal(torch.zeros(4), 1.0).to_event(1), [OrderedTransform()])


SUPPORTS = {
    "real": (lambda: dist.Normal(0.0, 1.0).expand([2, 3]).to_event(2), every),
    "positive": (lambda: dist.Gamma(2.0, 3.0), every),
    "log normal": (lambda: dist.TransformedDistribution(dist.Normal(0.0, 1.0), [ExpTransform()]), every),
    "interval": (lambda: dist.Uniform(-2.0, torch.tensor([5.0, 6.0])).to_event(1), every),
    "unit interval": (lambda: dist.Beta(2.0, 3.0), every),
    "above a bound": (lambda: dist.Pareto(1.5, 2.0), every),
    "simplex": (lambda: dist.Dirichlet(torch.ones(2, 4)).to_event(1), but_the_last),
    "ordered vector": (ordered, every),
    "positive ordered vector": (improper(constraints.positive_ordered_vector, 3), every),
    "Cholesky factor of a correlation": (lambda: dist.LKJCholesky(4, 2.0), strictly_lower),
    "flat real": (improper(constraints.real), every),
    "flat positive": (improper(constraints.positive), every),
    "flat interval": (improper(constraints.interval(-1.0, 4.0)), every),
    "flat simplex": (improper(constraints.simplex, 3), but_the_last),
    "less than": (improper(constraints.less_than(-1.0)), every),
}


@pytest.fixture(params=SUPPORTS, ids=lambda name: name.replace(" ", "_"))
def site(request):
    make, free = SUPPORTS[request.param]

    def model():
        pyro.sample("z", make())

    return build_program(model, ()), free


def test_round_trip(site):
    program, _ = site
    for flat in points(program):
        with program.isolated():
            values = program.constrain(flat)
            back = program.unconstrain(values)
        assert values["z"].shape == program.sites["z"].shape
        assert program.sites["z"].support.check(values["z"]).all()
        torch.testing.assert_close(back, flat, rtol=1e-8, atol=1e-8)


def test_log_jacobian_is_that_of_the_free_coordinates(site):
    program, free = site
    for flat in points(program, 3):
        with program.isolated():
            jacobian = torch.autograd.functional.jacobian(lambda u: free(program.constrain(u)["z"]), flat)
            joint = float(program.log_joint(program.constrain(flat)))
        assert jacobian.shape == (program.num_dims, program.num_dims)
        wanted = joint + float(torch.linalg.slogdet(jacobian).logabsdet)
        with program.isolated():
            assert float(program.log_density(flat)) == pytest.approx(wanted, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", [name for name in SUPPORTS if name.startswith("flat")])
def test_flat_prior_has_density_one_in_the_constrained_variable(name):
    make, _ = SUPPORTS[name]
    program = build_program(lambda: pyro.sample("z", make()), ())
    with program.isolated():
        for flat in points(program):
            assert float(program.log_joint(program.constrain(flat))) == 0.0


def test_flat_prior_leaves_the_likelihood_alone():
    def model(y):
        mu = pyro.sample("mu", dist.ImproperUniform(constraints.real, (), ()))
        with pyro.plate("row", len(y)):
            pyro.sample("y", dist.Normal(mu, 1.0), obs=y)

    y = np.array([1.0, 3.0])
    program = build_program(model, (y,))
    value, gradient = value_and_gradient(program, [0.5])
    assert value == pytest.approx(float(-0.5 * ((y - 0.5) ** 2).sum() - np.log(2 * np.pi)), rel=1e-12)
    assert gradient.tolist() == pytest.approx([3.0], rel=1e-12)


def test_flat_prior_in_a_plate_can_start():
    def model():
        with pyro.plate("group", 3):
            pyro.sample("z", dist.ImproperUniform(constraints.positive, (), ()))

    program = build_program(model, ())
    with program.isolated(seed=0):
        starts = torch.stack([program.prior_draw() for _ in range(20)])
    assert program.sites["z"].shape == (3,)
    assert starts.abs().max() < 2.0
    assert len(starts.unique()) == starts.numel()


def chained(y=None):
    top = pyro.sample("top", dist.LogNormal(0.0, 1.0))
    middle = pyro.sample("middle", dist.Uniform(-top, 2 * top))
    with pyro.plate("group", 2):
        pyro.sample("low", dist.Uniform(middle, middle + 1.0))


def test_support_that_depends_on_another_latent():
    program = build_program(chained, ())
    assert program.moving_supports == {"middle", "low"}
    for flat in points(program):
        top = np.exp(float(flat[0]))
        share = 1 / (1 + np.exp(-flat[1:].numpy()))
        middle = -top + 3 * top * share[0]
        with program.isolated():
            values = program.constrain(flat)
            torch.testing.assert_close(program.unconstrain(values), flat, rtol=1e-8, atol=1e-8)
        assert float(values["middle"]) == pytest.approx(middle, rel=1e-10)
        assert values["low"].tolist() == pytest.approx(middle + share[1:], rel=1e-10)
        # a uniform's density cancels the length of its interval, which leaves s(1 - s) of each
        wanted = -0.5 * float(flat[0]) ** 2 - 0.5 * np.log(2 * np.pi) + np.log(share * (1 - share)).sum()
        assert value_and_gradient(program, flat)[0] == pytest.approx(wanted, rel=1e-10)


def test_support_that_stays_is_not_called_moving():
    def model():
        scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        pyro.sample("z", dist.Uniform(-1.0, 1.0).expand([2]).to_event(1))
        pyro.sample("x", dist.Gamma(2.0, scale))

    assert build_program(model, ()).moving_supports == frozenset()


@pytest.mark.parametrize(
    "prior", [lambda: dist.ProjectedNormal(torch.ones(3)), improper(constraints.lower_cholesky, 3, 3)]
)
def test_support_without_a_bijection_is_named(prior):
    with pytest.raises(ModelError, match=r"'z'.*no bijection"):
        build_program(lambda: pyro.sample("z", prior()), ())
