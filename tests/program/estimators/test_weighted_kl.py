"""The weighted divergence: its parts against closed forms, its limits, and its names."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from ppl_models.errors import OptionError
from ppl_models.program import build_program
from ppl_models.program.elbo import program_log_ratio
from ppl_models.program.estimators import WeightedKl
from ppl_models.program.estimators.parts import parts_of
from ppl_models.program.row_scale import RowScale

NUM_ROWS, UNITS = 6, 3


def model(x):
    weight = pyro.sample("weight", dist.Normal(0.0, 2.0))
    with pyro.plate("datum", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(len(x), UNITS), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(weight * z, 0.7).to_event(1), obs=x)


def guide(x):
    pyro.sample("weight", dist.Normal(0.3, 0.5))
    scale = pyro.param("scale", torch.tensor([0.3, 0.6, 0.999]))
    with pyro.plate("datum", len(x)):
        pyro.sample("z", dist.Normal(torch.tensor([0.5, 0.1, 0.001]) * x, scale).to_event(1))


def with_heavy_tails(x):
    """A prior without a closed form."""
    with pyro.plate("datum", len(x)):
        z = pyro.sample("z", dist.StudentT(4.0, 0.0, 1.0).expand([len(x), UNITS]).to_event(1))
        pyro.sample("x", dist.Normal(z, 0.7).to_event(1), obs=x)


def local_model(x):
    with pyro.plate("datum", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(len(x), UNITS), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z, 0.7).to_event(1), obs=x)


def local_guide(x):
    with pyro.plate("datum", len(x)):
        pyro.sample("z", dist.Normal(0.4 * x, 0.6).to_event(1))


@pytest.fixture
def program():
    x = torch.randn(NUM_ROWS, UNITS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return build_program(model, {"x": x})


def units_of(x):
    q = Normal(torch.tensor([0.5, 0.1, 0.001]) * x, torch.tensor([0.3, 0.6, 0.999]))
    return kl_divergence(q, Normal(torch.zeros(()), torch.ones(()))).sum(0)


def test_the_divergence_of_each_unit_is_the_closed_form(program):
    with program.isolated(seed=0), torch.no_grad():
        wanted = units_of(program.arguments.named()["x"])
        found = parts_of(program, guide)
        with RowScale("datum", 5 * NUM_ROWS):
            scaled = parts_of(program, guide)
    torch.testing.assert_close(found.divergence, wanted, rtol=1e-10, atol=0.0)
    torch.testing.assert_close(scaled.divergence, 5.0 * wanted, rtol=1e-10, atol=0.0)
    assert found.rows.tolist() == [NUM_ROWS] * UNITS
    assert scaled.rows.tolist() == [5 * NUM_ROWS] * UNITS
    assert found.labels == ("z[0]", "z[1]", "z[2]")


@pytest.mark.parametrize("prior", [model, with_heavy_tails])
def test_the_parts_sum_to_the_elbo(program, prior):
    """At the same draw where nothing is in closed form; its mean elsewhere, whose difference is that of one draw."""
    x = program.arguments.named()["x"]
    own = guide if prior is model else local_guide
    other = build_program(prior, {"x": x})
    with other.isolated(seed=0), torch.no_grad():
        pyro.set_rng_seed(3)
        parts = parts_of(other, own)
        pyro.set_rng_seed(3)
        ratio = program_log_ratio(other, own)
        if prior is model:
            pyro.set_rng_seed(3)
            trace = pyro.poutine.trace(guide).get_trace(x)
            z, q = trace.nodes["z"]["value"], trace.nodes["z"]["fn"]
            drawn = q.log_prob(z).sum() - Normal(torch.zeros(()), torch.ones(())).log_prob(z).sum()
            ratio = ratio + drawn - units_of(x).sum()
            q, p = Normal(torch.tensor(0.3), torch.tensor(0.5)), Normal(torch.tensor(0.0), torch.tensor(2.0))
            assert float(parts.others) == pytest.approx(
                float(q.log_prob(trace.nodes["weight"]["value"]) - p.log_prob(trace.nodes["weight"]["value"])),
                rel=1e-10,
            )
    total = parts.reconstruction - parts.others - parts.divergence.sum()
    torch.testing.assert_close(total, ratio, rtol=1e-10, atol=0.0)


@pytest.mark.parametrize(("beta", "free_bits", "weight"), [(1.0, 0.0, 1.0), (4.0, 0.0, 1.0), (2.0, 0.6, 0.3)])
def test_the_objective_is_what_it_says(program, beta, free_bits, weight):
    estimator = WeightedKl(beta, free_bits)
    with program.isolated(seed=0), torch.no_grad():
        estimator.check(program, guide)
        estimator.set_weight(weight)
        pyro.set_rng_seed(3)
        terms = {name: term[None] for name, term in estimator.particle(program, guide).items()}
        pyro.set_rng_seed(3)
        parts = parts_of(program, guide)
        x = program.arguments.named()["x"]
        floor = torch.maximum(units_of(x), torch.tensor(free_bits * NUM_ROWS))
        if free_bits:
            assert (floor > units_of(x)).any()
            assert (floor == units_of(x)).any()
        wanted = parts.reconstruction - parts.others - weight * beta * floor.sum()
        torch.testing.assert_close(-estimator.combine(terms), wanted, rtol=1e-10, atol=0.0)
    assert estimator.is_elbo == (beta == 1.0 and not free_bits)


def test_a_plate_of_features_inside_that_of_the_rows_leaves_latents_local(program):
    def in_two_plates(x):
        with pyro.plate("datum", len(x), dim=-2):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 1, UNITS), 1.0).to_event(1))
            with pyro.plate("feature", UNITS, dim=-1):
                pyro.sample("x", dist.Normal(z.squeeze(-2), 0.7), obs=x)

    def q(x):
        with pyro.plate("datum", len(x), dim=-2):
            pyro.sample("z", dist.Normal(0.4 * x.unsqueeze(-2), 0.6).to_event(1))

    x = program.arguments.named()["x"]
    inner, flat = build_program(in_two_plates, {"x": x}), build_program(local_model, {"x": x})
    with program.isolated(seed=0), torch.no_grad():
        found, wanted = (WeightedKl(2.0).particle(p, g) for p, g in ((inner, q), (flat, local_guide)))
    assert len(found["divergence"]) == UNITS
    torch.testing.assert_close(found["divergence"], wanted["divergence"], rtol=1e-10, atol=0.0)


def test_units_below_their_free_bits_get_no_gradient(program):
    estimator = WeightedKl(1.0, 0.6)
    with program.isolated(seed=0):
        estimator.check(program, guide)
        pyro.set_rng_seed(3)
        terms = {name: term[None] for name, term in estimator.particle(program, guide).items()}
        divergence = terms["divergence"][0]
        estimator.combine({**terms, "fixed": terms["fixed"].detach()}).backward()
        (gradient,) = (holder.grad for _, holder in pyro.get_param_store().named_parameters())
        free = divergence < 0.6 * NUM_ROWS
    assert torch.equal(gradient == 0.0, free)


def test_bad_weights_and_models_without_local_latents_are_refused(program):
    for options in ({"beta": 0.0}, {"beta": float("nan")}, {"free_bits": -1.0}):
        with pytest.raises(OptionError):
            WeightedKl(**options)
    for one in (WeightedKl(), WeightedKl(beta=4.0, free_bits=0.5)):
        assert one.weights == ("" if one.is_elbo else "beta = 4, free bits = 0.5")

    def no_latents(x):
        weight = pyro.sample("weight", dist.Normal(0.0, 2.0))
        with pyro.plate("datum", len(x)):
            pyro.sample("x", dist.Normal(weight, 0.7).expand([len(x), UNITS]).to_event(1), obs=x)

    bare = build_program(no_latents, {"x": program.arguments.named()["x"]})
    with bare.isolated(seed=0), pytest.raises(OptionError, match="no latent stands in the plate"):
        WeightedKl(4.0).check(bare, lambda x: pyro.sample("weight", dist.Normal(0.0, 1.0)))
