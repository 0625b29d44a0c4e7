import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.distributions.transforms import OrderedTransform
from pyro.infer import Trace_ELBO, TraceEnum_ELBO

import guides

FAMILIES = pytest.mark.parametrize("name", guides.names())
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def hierarchy(x, y=None):
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    scale = pyro.sample("scale", dist.HalfCauchy(1.0))
    weights = pyro.sample("weights", dist.Dirichlet(torch.ones(3)))
    with pyro.plate("row", len(x)):
        effect = pyro.sample("effect", dist.Normal(mean, scale))
        pyro.sample("y", dist.Normal(effect + weights[..., :1] * x, 1.0), obs=y)


def mixture(y):
    means = pyro.sample(
        "means", dist.TransformedDistribution(dist.Normal(torch.zeros(2), 1.0).to_event(1), [OrderedTransform()])
    )
    with pyro.plate("row", len(y)):
        component = pyro.sample("component", dist.Categorical(torch.ones(2) / 2), infer={"enumerate": "parallel"})
        pyro.sample("y", dist.Normal(means[..., 0] * (component == 0) + means[..., 1] * (component == 1), 1.0), obs=y)


def scalar(y):
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def hierarchy_data():
    return torch.linspace(-1.0, 1.0, 5), torch.linspace(0.0, 2.0, 5)


def latents(trace):
    return {
        name: site
        for name, site in trace.nodes.items()
        if site["type"] == "sample"
        and not (site["is_observed"] or site["infer"].get("is_auxiliary") or poutine.util.site_is_subsample(site))
    }


def unconstrained_parameters(guide):
    return dict(guide.named_parameters())


@FAMILIES
@DTYPES
def test_guide_has_the_models_latents_with_their_shapes_and_a_finite_density(name, dtype):
    torch.set_default_dtype(dtype)
    data = hierarchy_data()
    guide = guides.make(name, hierarchy)
    guide(*data)
    guide_trace = poutine.trace(guide).get_trace(*data)
    model_trace = poutine.trace(poutine.replay(hierarchy, trace=guide_trace)).get_trace(*data)
    wanted = {site: value["value"].shape for site, value in latents(poutine.trace(hierarchy).get_trace(*data)).items()}
    found = latents(guide_trace)
    assert {site: value["value"].shape for site, value in found.items()} == wanted
    assert all(value["value"].dtype == dtype for value in found.values())
    assert guide_trace.log_prob_sum().isfinite()
    assert model_trace.log_prob_sum().isfinite()


@FAMILIES
@DTYPES
def test_gradient_of_the_elbo_reaches_every_parameter(name, dtype):
    torch.set_default_dtype(dtype)
    data = hierarchy_data()
    guide = guides.make(name, hierarchy)
    guide(*data)
    # at the start some weights of a flow multiply zeros, and a shear's gradient may vanish: move off that point
    with torch.no_grad():
        for parameter in guide.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    Trace_ELBO(num_particles=8).differentiable_loss(hierarchy, guide, *data).backward()
    gradients = {key: parameter.grad for key, parameter in unconstrained_parameters(guide).items()}
    assert gradients
    for key, gradient in gradients.items():
        assert gradient is not None, key
        assert gradient.isfinite().all(), key
        assert (gradient != 0).any(), key


@FAMILIES
def test_particles_can_be_vectorised(name):
    torch.set_default_dtype(torch.float64)
    data = hierarchy_data()
    guide = guides.make(name, hierarchy)
    guide(*data)
    loss = Trace_ELBO(num_particles=7, vectorize_particles=True, max_plate_nesting=1).loss(hierarchy, guide, *data)
    assert torch.tensor(loss).isfinite()


@FAMILIES
def test_enumerated_sites_are_hidden(name):
    torch.set_default_dtype(torch.float64)
    y = torch.tensor([-1.0, -0.8, 1.2, 1.1])
    guide = guides.make(name, mixture)
    guide(y)
    assert set(latents(poutine.trace(guide).get_trace(y))) == {"means"}
    loss = TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(mixture, guide, y)
    loss.backward()
    assert loss.isfinite()


@FAMILIES
def test_one_latent_scalar_is_enough(name):
    torch.set_default_dtype(torch.float64)
    y = torch.tensor([0.3, 0.4])
    guide = guides.make(name, scalar)
    guide(y)
    loss = Trace_ELBO().differentiable_loss(scalar, guide, y)
    loss.backward()
    assert loss.isfinite()


@FAMILIES
def test_same_seed_same_guide(name):
    data = hierarchy_data()
    losses = []
    for _ in range(2):
        torch.manual_seed(7)
        guide = guides.make(name, hierarchy)
        guide(*data)
        losses.append(Trace_ELBO(num_particles=3).loss(hierarchy, guide, *data))
    assert losses[0] == losses[1]


@pytest.mark.parametrize("name", [name for name in guides.names() if name not in ("delta", "laplace")])
def test_initial_location_and_scale_are_where_they_were_asked_for(name):
    torch.set_default_dtype(torch.float64)
    y = torch.tensor([0.3, 0.4])
    guide = guides.make(name, scalar, init_loc_fn=lambda site: torch.tensor(2.0), init_scale=1e-3)
    draws = torch.stack([guide(y)["mean"].detach() for _ in range(50)])
    assert ((draws - 2.0).abs() < 0.01).all()  # ten initial standard deviations


@FAMILIES
def test_every_option_is_accepted_and_documented(name):
    examples = {
        "create_plates": None,
        "rank": 2,
        "conditionals": "normal",
        "dependencies": "linear",
        "num_transforms": 1,
        "hidden_dims": [16],
        "bins": 4,
        "num_components": 2,
        "covariance": "diagonal",
        "num_steps": 2,
        "base": "dense",
        "num_particles": 3,
    }
    data = hierarchy_data()
    family = guides.FAMILIES[name]
    guide = guides.make(name, hierarchy, **{option: examples[option] for option in family.options})
    guide(*data)
    assert all("default" in text for text in family.options.values())
    assert family.cite in str(family)


def test_unknown_family_lists_the_nearest_first():
    with pytest.raises(guides.UnknownFamilyError, match=r"'ful_rank'.*first: full_rank") as caught:
        guides.make("ful_rank", hierarchy)
    assert isinstance(caught.value, LookupError)
    assert set(caught.value.valid) == set(guides.names())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("low_rank", {"rnak": 2}, "'low_rank' has no option 'rnak'; its options: rank"),
        ("full_rank", {"rank": 2}, "its options: none"),
        ("low_rank", {"rank": 0}, "'rank': 0, wanted a positive integer"),
        ("iaf", {"num_transforms": 1.5}, "'num_transforms': 1.5"),
        ("iaf", {"hidden_dims": [0]}, "'hidden_dims': 0"),
        ("realnvp", {"hidden_dims": [0]}, "'hidden_dims': 0"),
        ("realnvp", {"num_transforms": 0}, "'num_transforms': 0"),
        ("neural_spline", {"bins": 0.5}, "'bins': 0.5"),
        ("neural_spline", {"num_transforms": 0}, "'num_transforms': 0"),
        ("mixture", {"num_components": 0}, "'num_components': 0"),
        ("mixture", {"covariance": "ful"}, "'covariance': 'ful', wanted 'full', 'diagonal' or None"),
        ("normal", {"init_scale": -1.0}, "init_scale: -1.0, wanted a positive number"),
    ],
)
def test_wrong_options_are_named(name, options, message):
    with pytest.raises(guides.FamilyOptionError, match=message) as caught:
        guides.make(name, hierarchy, **options)
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, ValueError)


def test_only_delta_is_a_point_and_only_laplace_is_finalised():
    assert [name for name in guides.names() if guides.FAMILIES[name].point] == ["delta"]
    assert [name for name in guides.names() if guides.FAMILIES[name].finalize] == ["laplace"]


def test_laplace_says_where_there_is_no_mode():
    guide = guides.make("laplace", hierarchy, init_loc_fn=lambda site: site["fn"].support and _far(site))
    data = hierarchy_data()
    guide(*data)
    with pytest.raises(guides.LaplaceError, match="smallest eigenvalue"):
        guide.laplace_approximation(*data)


def _far(site):
    """A wide funnel: effects far from their mean, where the density is convex in the log scale."""
    value = site["fn"].sample()
    return torch.full_like(value, 1e-2) if site["name"] == "scale" else value


def test_flow_needs_hidden_layers_as_wide_as_the_latents():
    guide = guides.make("iaf", hierarchy, hidden_dims=[3])
    with pytest.raises(guides.FamilyOptionError, match=r"'hidden_dims': \[3\], wanted at least 9"):
        guide(*hierarchy_data())
