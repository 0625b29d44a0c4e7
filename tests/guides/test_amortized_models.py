"""Which models the amortised guide serves: plates, supports, globals, enumerated sites, subsamples; what it says."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO
from pyro.infer.autoguide import AutoGuide
from pyro.optim import Adam
from torch import nn
from torch.distributions import biject_to, constraints

import guides
from guides.errors import FamilyOptionError, MissingDataError, UnsuitableModelError

FAMILIES = pytest.mark.parametrize("family", ["normal", "full_rank", "iaf", "realnvp"])


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)


def observed(x, mean):
    return pyro.sample("x", dist.Normal(mean, 1.0), obs=x)


def traced(guide, *args):
    """The guide's trace, validated against the model's, with log densities."""
    with pyro.validation_enabled(True):
        drawn = poutine.trace(guide).get_trace(*args)
        joint = poutine.trace(poutine.replay(guide.model, drawn)).get_trace(*args)
        drawn.compute_log_prob()
        joint.compute_log_prob()
    assert torch.isfinite(joint.log_prob_sum())
    return drawn


@pytest.mark.parametrize(
    "prior",
    [
        dist.Gamma(2.0, 1.0),
        dist.Uniform(-1.0, 3.0),
        dist.Dirichlet(torch.ones(3)),
        dist.Gamma(torch.ones(3), 1.0).to_event(1),
        dist.LKJCholesky(3),
        dist.Normal(0.0, 1.0).expand([2, 2]).to_event(2),
        dist.MultivariateNormal(torch.zeros(2), torch.eye(2)),
    ],
    ids=lambda prior: str(prior.support),
)
@FAMILIES
def test_any_support_gets_its_bijection_and_jacobian(prior, family):
    def model(x):
        with pyro.plate("datum", len(x)):
            z = pyro.sample("z", prior)
            observed(x, z.reshape(len(x), -1).sum(-1))

    drawn = traced(guides.amortized(model, family=family, hidden=(5,)), torch.randn(4))
    z = drawn.nodes["z"]
    assert z["fn"].batch_shape == (4,)
    assert prior.support.check(z["value"]).all()
    found = z["log_prob"]
    if "z_unconstrained" in drawn.nodes:
        found = found + drawn.nodes["z_unconstrained"]["log_prob"]
        base = drawn.nodes["z_unconstrained"]["fn"]
        transformed = dist.TransformedDistribution(base, [biject_to(prior.support)])
        torch.testing.assert_close(found, transformed.log_prob(z["value"]), rtol=1e-6, atol=1e-6)
    else:
        assert not isinstance(z["fn"], dist.Delta)
        torch.testing.assert_close(found, z["fn"].log_prob(z["value"].clone()), rtol=1e-8, atol=1e-8)


def test_the_density_of_a_positive_latent_integrates_to_one():
    def model(x):
        with pyro.plate("datum", len(x)):
            observed(x, pyro.sample("z", dist.Gamma(2.0, 1.0)))

    guide = guides.amortized(model, hidden=(5,), init_scale=0.5)
    guide(torch.randn(2))
    grid = torch.linspace(-5.0, 5.0, 401)
    total = torch.zeros(2)
    for point in grid:
        with poutine.condition(data={"z_unconstrained": point.expand(2)}):
            drawn = poutine.trace(guide).get_trace(torch.tensor([0.3, -1.0]))
        drawn.compute_log_prob()
        both = drawn.nodes["z_unconstrained"]["log_prob"] + drawn.nodes["z"]["log_prob"]
        # dz = z du
        total += (both + point).detach().exp() * (grid[1] - grid[0])
    torch.testing.assert_close(total, torch.ones(2), rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("globals_family", ["normal", "full_rank"])
def test_latents_outside_of_the_data_plate_get_an_automatic_family(globals_family):
    def model(x):
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        top = pyro.sample("top", dist.LogNormal(0.0, 1.0))
        with pyro.plate("datum", len(x)):
            z = pyro.sample("z", dist.Uniform(0.0, top))  # a support that moves with another latent
            observed(x, mean + z)

    guide = guides.amortized(model, globals=globals_family, hidden=(5,))
    for rows in (6, 3):
        nodes = traced(guide, torch.randn(rows)).nodes
        assert nodes["z"]["value"].shape == (rows,)
        assert (nodes["z"]["value"] < nodes["top"]["value"]).all()
        inner = nodes["z_unconstrained"]["fn"]
        support = constraints.interval(torch.tensor(0.0), nodes["top"]["value"])
        wanted = dist.TransformedDistribution(inner, [biject_to(support)]).log_prob(nodes["z"]["value"])
        torch.testing.assert_close(nodes["z"]["log_prob"] + nodes["z_unconstrained"]["log_prob"], wanted)
    assert isinstance(guide.globals, AutoGuide)
    svi = SVI(model, guide, Adam({"lr": 0.01}), Trace_ELBO(2, vectorize_particles=True, max_plate_nesting=1))
    svi.step(torch.randn(5))


def mixture(x, enumerate_how="parallel"):
    weights = pyro.param("weights", torch.ones(2) / 2, constraint=constraints.simplex)
    with pyro.plate("datum", len(x)):
        kind = pyro.sample("kind", dist.Categorical(weights), infer={"enumerate": enumerate_how})
        z = pyro.sample("z", dist.Normal(torch.tensor([-1.0, 1.0])[kind], 1.0))
        observed(x, z)


def test_enumerated_sites_get_no_factor_and_are_summed_out():
    guide = guides.amortized(mixture)
    svi = SVI(mixture, guide, Adam({"lr": 0.01}), TraceEnum_ELBO(max_plate_nesting=1))
    assert svi.step(torch.randn(6)) > 0.0
    assert set(guide(torch.randn(4))) == {"z"}


def nested(x):
    """x of shape (pixel, row): the data plate need not be the innermost, nor latents all be as deep."""
    rows = pyro.plate("datum", x.shape[-2], dim=-2)
    with rows:
        level = pyro.sample("level", dist.Normal(0.0, 1.0))
        with pyro.plate("part", x.shape[-1], dim=-1):
            part = pyro.sample("part_effect", dist.Normal(level, 1.0))
            spread = pyro.sample("spread", dist.Gamma(2.0, 1.0).expand([2]).to_event(1))
            pyro.sample("x", dist.Normal(part, spread.sum(-1)), obs=x)


def test_plates_inside_the_data_plate_may_hold_latents():
    guide = guides.amortized(nested, hidden=(5,))
    for rows in (6, 2):
        nodes = traced(guide, torch.randn(rows, 3)).nodes
        assert nodes["level"]["value"].shape == (rows, 1)
        assert nodes["part_effect"]["value"].shape == nodes["part_effect"]["log_prob"].shape == (rows, 3)
        assert nodes["spread"]["value"].shape == (rows, 3, 2)
        assert nodes["spread_unconstrained"]["log_prob"].shape == (rows, 3)
    assert guide.layout.plate == "datum"
    x = torch.randn(4, 3)
    loc = guide_loc(guide, x, "level")
    torch.testing.assert_close(guide_loc(guide, x[1:3], "level"), loc[1:3])
    SVI(nested, guide, Adam({"lr": 0.01}), Trace_ELBO(2, vectorize_particles=True, max_plate_nesting=2)).step(x)
    with pytest.raises(UnsuitableModelError, match=r"'part_effect' lies in plate 'part'.*Take family='normal'"):
        guides.amortized(nested, family="iaf")(x)


def guide_loc(guide, x, name):
    return poutine.trace(guide).get_trace(x).nodes[name]["fn"].mean


def test_the_plate_may_be_named():
    x = torch.randn(4, 3)
    with pytest.raises(UnsuitableModelError, match=r"plate 'rows' does not hold both.*those that do: 'datum', 'part'"):
        guides.amortized(nested, plate="rows")(x)
    with pytest.raises(UnsuitableModelError, match=r"to the left of the data plate 'part'.*plate='datum'"):
        guides.amortized(nested, plate="part")(x)


DATA = torch.linspace(-3.0, 3.0, 12)


def subsampled(x, index=None):
    with pyro.plate("datum", 12, subsample_size=None if index is not None else 4, subsample=index) as rows:
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        observed(x[rows], z)


@pytest.mark.parametrize("inputs", [None, "x", lambda x, index=None: x])
def test_a_subsample_of_the_models_own_reads_its_rows(inputs):
    guide, index = guides.amortized(subsampled, inputs=inputs, encoder=nn.Identity()), torch.tensor([7, 2, 11])
    guide(DATA, index)
    for chosen in (index, torch.tensor([0, 5])):
        drawn = traced(guide, DATA, chosen)
        fn = drawn.nodes["z"]["fn"]
        torch.testing.assert_close(fn.mean, guide.heads["z"].loc(DATA[chosen, None])[:, 0])
        assert fn.batch_shape == (len(chosen),)
    assert drawn.nodes["z"]["scale"] == 12 / 2


def test_a_subsample_drawn_by_pyro_is_shared_with_the_model():
    guide = guides.amortized(subsampled, inputs="x", encoder=nn.Identity())
    drawn = traced(guide, DATA)
    rows = drawn.nodes["datum"]["value"]
    assert len(rows) == 4
    torch.testing.assert_close(drawn.nodes["z"]["fn"].mean, guide.heads["z"].loc(DATA[rows, None])[:, 0])
    joint = poutine.trace(poutine.replay(subsampled, drawn)).get_trace(DATA)
    assert joint.nodes["datum"]["value"].equal(rows)
    SVI(subsampled, guide, Adam({"lr": 0.01}), Trace_ELBO()).step(DATA)


def two_arguments(x, y=None, mask=None):
    with pyro.plate("datum", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z[:, None], 1.0).expand([len(x), 3]).to_event(1), obs=x * 2.0)
        pyro.sample("y", dist.Poisson(z.exp()), obs=y)


class Seen(nn.Module):
    """An encoder that keeps what it is given."""

    def forward(self, x):
        self.x = x
        return x.flatten(1)


def test_the_encoder_sees_what_inputs_says():
    x, y = torch.randn(4, 3), torch.arange(4)
    wanted = {
        None: torch.cat([x * 2.0, y[:, None]], -1),
        "x": x,
        ("x", "y"): torch.cat([x, y[:, None]], -1),
        (lambda x, y, mask=None: x.reshape(-1, 1, 3)): x.reshape(-1, 1, 3),
    }
    for inputs, expected in wanted.items():
        encoder = Seen()
        guide = guides.amortized(two_arguments, inputs=inputs, encoder=encoder)
        guide(x, y)
        torch.testing.assert_close(encoder.x, expected)
        guide(x[:2], y=y[:2])
        torch.testing.assert_close(encoder.x, expected[:2])
    assert not guide.reader.needs_model


def test_images_reach_a_convolutional_encoder():
    def model(images):
        with pyro.plate("datum", len(images)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample(
                "x", dist.Normal(z.sum(-1)[:, None, None], 1.0).expand([len(images), 8, 8]).to_event(2), obs=images
            )

    pyro_model = lambda images: model(images)  # noqa: E731 (an argument that is not the observed value's name)
    x = torch.randn(5, 8, 8)
    for inputs in (None, "images"):
        guide = guides.amortized(pyro_model, encoder=guides.networks.ConvEncoder(8, 6, (3,)), inputs=inputs)
        assert guide(x)["z"].shape == (5, 2)


def test_data_that_are_an_argument_cost_no_run_of_the_decoder():
    runs = []

    def model(x):
        with pyro.plate("datum", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            runs.append(1)
            observed(x, z)

    guide = guides.amortized(model)
    guide(torch.randn(3))
    runs.clear()
    guide(torch.randn(5))
    assert not runs


def no_plate(x):
    pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Normal(0.0, 1.0).expand(x.shape).to_event(1), obs=x)


def no_local(x):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("datum", len(x)):
        observed(x, z)


def plain(x=None):
    with pyro.plate("datum", 4 if x is None else len(x)):
        observed(x, pyro.sample("z", dist.Normal(0.0, 1.0)))


def discrete(x):
    with pyro.plate("datum", len(x)):
        observed(x, pyro.sample("z", dist.Bernoulli(0.5)))


X = torch.randn(4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("model", "options", "x", "error", "says"),
    [
        (no_plate, {}, X, UnsuitableModelError, "has no data plate: its observed sites .'x'. lie in no plate"),
        (no_local, {}, X, UnsuitableModelError, "no local latent: none of its latents .'z'. lies in a plate"),
        (plain, {}, None, UnsuitableModelError, "observes nothing when it is called so"),
        (discrete, {}, X, UnsuitableModelError, "latent 'z' is discrete. Sum it out"),
        (plain, {"order": ["y"]}, X, FamilyOptionError, "order has 'y', wanted each local latent once: 'z'"),
        (plain, {"inputs": "y"}, X, FamilyOptionError, "inputs names argument 'y', and the model's are 'x'"),
        (plain, {"inputs": lambda x: 3}, X, FamilyOptionError, "is no tensor with rows first: found int"),
        (plain, {"inputs": lambda x: x[:2, None]}, X, FamilyOptionError, r"has 2 rows .* data plate 'datum' 4"),
        (plain, {"encoder": nn.Flatten(0)}, X, FamilyOptionError, r"made \(4,\) of inputs .* wanted \(4, number of"),
        (plain, {"encoder": nn.LSTM(1, 1)}, X, FamilyOptionError, r"made tuple of inputs of shape \(4, 1\)"),
        (
            plain,
            {"encoder": nn.Linear(3, 2)},
            X,
            FamilyOptionError,
            r"failed on inputs of shape \(4, 1\): RuntimeError",
        ),
        (plain, {"family": {"y": "normal"}}, X, FamilyOptionError, "nothing for local latent 'z'"),
        (plain, {"family": nn.Identity()}, X, FamilyOptionError, "head of latent 'z' returned event shape"),
    ],
)
def test_a_mistake_is_answered_with_what_to_do(model, options, x, error, says):
    with pytest.raises(error, match=says):
        guides.amortized(model, **options)(x)


@pytest.mark.parametrize("inputs", [None, "x"])
def test_missing_data_are_named(inputs):
    guide = guides.amortized(plain, inputs=inputs)
    guide(X)
    with pytest.raises(MissingDataError, match=r"guide 'amortized': argument 'x' is None"):
        guide()


def test_missing_observed_values_are_named_too():
    def scaled(x=None):
        return plain(None if x is None else 2.0 * x)

    guide = guides.amortized(scaled)
    guide(X)
    with pytest.raises(MissingDataError, match=r"guide 'amortized': argument 'x' is None"):
        guide()
