"""What every automatic family promises: a normalised density, values in their supports, state that can be saved."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO

import guides

FAMILIES = pytest.mark.parametrize("name", guides.names())
DENSITIES = pytest.mark.parametrize(
    "name", [name for name, family in guides.FAMILIES.items() if family.density and not family.point]
)
"""A point mass has no density; Laplace has one as soon as it is finalised."""
ROWS = pytest.mark.parametrize("name", ["delta", "normal", "student_t"])
"""The families of a distribution for each site, whose rows are found by plate; Pyro's `AutoStructured` has none."""


def real(y):
    location = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Normal(location, 1.0), obs=y)


def positive(y):
    scale = pyro.sample("z", dist.Gamma(2.0, 1.0))
    pyro.sample("y", dist.Normal(0.0, scale), obs=y)


def vector(y):
    location = pyro.sample("z", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    pyro.sample("y", dist.Normal(location.sum(-1), 1.0), obs=y)


def supports(y):
    """Every kind of support that has a bijection, and a plate."""
    pyro.sample("positive", dist.Gamma(2.0, 1.0))
    pyro.sample("share", dist.Beta(2.0, 2.0))
    pyro.sample("between", dist.Uniform(-1.0, 3.0))
    pyro.sample("simplex", dist.Dirichlet(torch.ones(3)))
    pyro.sample("correlation", dist.LKJCholesky(3, 1.0))
    with pyro.plate("row", len(y)):
        location = pyro.sample("local", dist.LogNormal(0.0, 1.0))
        pyro.sample("y", dist.Normal(location, 1.0), obs=y)


def minibatch(y):
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    scale = pyro.sample("scale", dist.Gamma(2.0, 2.0))
    with pyro.plate("row", len(y), subsample_size=3) as index:
        pyro.sample("y", dist.Normal(mean, scale), obs=y[index])


def local_minibatch(y):
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("row", len(y), subsample_size=3) as index:
        effect = pyro.sample("effect", dist.Normal(mean, 1.0))
        pyro.sample("y", dist.Normal(effect, 1.0), obs=y[index])


def made(name, model, *data, shift=0.1, init_scale=1.0):
    """A guide off its start, finalised where its family asks for that."""
    torch.set_default_dtype(torch.float64)
    guide = guides.make(name, model, init_scale=init_scale)
    guide(*data)
    with torch.no_grad():
        for parameter in guide.parameters():
            parameter.add_(shift * torch.randn_like(parameter))
    finalize = guides.FAMILIES[name].finalize
    return finalize(guide, *data) if finalize else guide


def drawn_sites(guide, *data):
    """The sites that a guide draws: those that are no point mass."""
    trace = poutine.trace(guide).get_trace(*data)
    return {
        name: node
        for name, node in trace.nodes.items()
        if node["type"] == "sample" and not isinstance(_innermost(node["fn"]), dist.Delta)
    }


def _innermost(fn):
    while hasattr(fn, "base_dist") and not isinstance(fn, dist.TransformedDistribution):
        fn = fn.base_dist
    return fn


def density_site(name, guide, *data):
    """The one site that the guide draws all latents from.

    Where a guide draws more numbers than there are latents (annealing does), its density is that of all of them.
    """
    sites = drawn_sites(guide, *data)
    latents = sum(value.numel() for value in guide(*data).values())
    whole = len(sites) == 1 and next(iter(sites.values()))["value"].numel() == latents
    if not whole:
        pytest.skip(f"{name}: the density is that of more numbers than the latents")
    return next(iter(sites.items()))


def stretched(count, reach):
    """Abscissae sinh(t) and the weights of the trapezoid rule there: dense in the middle, far out in the tails."""
    t = torch.linspace(-reach, reach, count)
    return t.sinh(), t.cosh() * (t[1] - t[0])


def assert_is_one(whole, half):
    """An integral on a grid is one, to within what it differs by from that on half of the grid."""
    assert abs(float(whole - half)) < 1e-3
    assert abs(float(whole) - 1.0) < 1e-7 + abs(float(whole - half))


@DENSITIES
def test_density_integrates_to_one_in_one_dimension(name):
    y = torch.tensor(0.5, dtype=torch.float64)
    guide = made(name, real, y)
    _, site = density_site(name, guide, y)
    points, weights = stretched(4001, 12.0)
    with torch.no_grad():
        mass = site["fn"].log_prob(points.reshape(-1, *site["fn"].event_shape)).exp() * weights
    assert_is_one(mass.sum(), 2.0 * mass[::2].sum())


@DENSITIES
def test_density_integrates_to_one_in_two_dimensions(name):
    y = torch.tensor(0.5, dtype=torch.float64)
    guide = made(name, vector, y)
    _, site = density_site(name, guide, y)
    points, weights = stretched(201, 5.0)
    grid = torch.cartesian_prod(points, points)
    with torch.no_grad():
        density = site["fn"].log_prob(grid).exp().reshape(201, 201)
    mass = density * weights[:, None] * weights
    assert_is_one(mass.sum(), 4.0 * mass[::2, ::2].sum())


@DENSITIES
def test_density_integrates_to_one_on_a_constrained_support(name):
    """Of the trace as a whole, which is what an importance weight divides by."""
    y = torch.tensor(0.5, dtype=torch.float64)
    guide = made(name, positive, y)
    inner, site = density_site(name, guide, y)
    points, _ = stretched(8001, 4.0)
    data = {inner: points.reshape(-1, *site["fn"].event_shape)}
    with torch.no_grad(), pyro.plate("grid", len(points), dim=-1):
        trace = poutine.trace(poutine.condition(guide, data=data)).get_trace(y)
    trace.compute_log_prob()
    log_density = trace.nodes[inner]["log_prob"] + trace.nodes["z"]["log_prob"]
    values = trace.nodes["z"]["value"].detach().reshape(-1)
    assert (values.diff() >= 0.0).all()
    density = log_density.detach().exp()
    inside = values.isfinite() & (values > 0.0) & density.isfinite()
    assert_is_one(
        torch.trapezoid(density[inside], values[inside]), torch.trapezoid(density[inside][::2], values[inside][::2])
    )


@FAMILIES
def test_values_are_in_their_supports(name):
    y = torch.zeros(4, dtype=torch.float64)
    guide = made(name, supports, y, init_scale=0.5)
    with torch.no_grad():
        for _ in range(10):
            trace = poutine.trace(guide).get_trace(y)
            model = poutine.trace(poutine.replay(supports, trace=trace)).get_trace(y)
            for site in ("positive", "share", "between", "simplex", "correlation", "local"):
                node = model.nodes[site]
                assert node["fn"].support.check(node["value"]).all(), site
            assert model.log_prob_sum().isfinite()


@FAMILIES
def test_a_saved_state_gives_the_same_draws_and_densities(name, tmp_path):
    y = torch.zeros(4, dtype=torch.float64)
    torch.set_default_dtype(torch.float64)
    # as a fit does it: finalised guides are made again from the parameters
    first = made_unfinished(name, supports, y)
    torch.save(first.state_dict(), tmp_path / "guide.pt")
    second = guides.make(name, supports)
    second(y)
    second.load_state_dict(torch.load(tmp_path / "guide.pt"))
    found = []
    for guide in (first, second):
        pyro.clear_param_store()
        torch.manual_seed(5)
        trace = poutine.trace(guide).get_trace(y)
        found.append(({site: node["value"] for site, node in trace.nodes.items() if node["type"] == "sample"}, trace))
    assert found[0][0].keys() == found[1][0].keys()
    for site, value in found[0][0].items():
        assert torch.equal(value, found[1][0][site]), site
    assert torch.equal(found[0][1].log_prob_sum(), found[1][1].log_prob_sum())


def made_unfinished(name, model, *data):
    guide = guides.make(name, model)
    guide(*data)
    with torch.no_grad():
        for parameter in guide.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return guide


@FAMILIES
def test_minibatches_estimate_the_same_elbo(name):
    """The parts that the subsample takes no part in are as they are, the likelihood is scaled up."""
    torch.set_default_dtype(torch.float64)
    y = torch.linspace(-1.0, 2.0, 7)
    guide = made_unfinished(name, minibatch, y)
    for _ in range(3):
        trace = poutine.trace(guide).get_trace(y)
        model = poutine.trace(poutine.replay(minibatch, trace=trace)).get_trace(y)
        model.compute_log_prob()
        rows = model.nodes["row"]["value"]
        assert len(rows) == 3
        node = model.nodes["y"]
        wanted = 7.0 / 3.0 * node["fn"].log_prob(y[rows]).sum()
        torch.testing.assert_close(node["log_prob_sum"], wanted)
        loss = Trace_ELBO().differentiable_loss(minibatch, guide, y)
        loss.backward()
        assert loss.isfinite()


@ROWS
def test_local_latents_of_a_minibatch_have_parameters_for_every_row(name):
    torch.set_default_dtype(torch.float64)
    y = torch.linspace(-1.0, 2.0, 7)
    guide = made_unfinished(name, local_minibatch, y)
    guide.zero_grad()
    Trace_ELBO().differentiable_loss(local_minibatch, guide, y).backward()
    rows = [parameter for parameter in guide.parameters() if parameter.shape == (7,)]
    assert rows
    for parameter in rows:
        assert int((parameter.grad != 0.0).sum()) == 3


def test_the_integrals_see_a_density_that_is_not_normalised():
    points, weights = stretched(4001, 12.0)
    mass = dist.StudentT(3.0).log_prob(points.double()).exp() * weights * (1.0 + 1e-5)
    with pytest.raises(AssertionError):
        assert_is_one(mass.sum(), 2.0 * mass[::2].sum())


def test_draws_have_the_density_that_the_families_say():
    """The mean of each family's own 1 / (sd density) ratio to a normal reference is one: draws and density agree."""
    y = torch.tensor(0.5, dtype=torch.float64)
    count = 20_000
    for name in ("student_t", "full_rank_student_t", "mixture", "realnvp", "neural_spline"):
        guide = made(name, vector, y)
        _, site = density_site(name, guide, y)
        with torch.no_grad():
            draws = site["fn"].expand((count,))()
            narrow = dist.Normal(draws.median(0).values, 0.5).to_event(1)  # narrower than the guide: bounded weights
            weights = (narrow.log_prob(draws) - site["fn"].log_prob(draws)).exp()
        assert abs(float(weights.mean()) - 1.0) < 4.5 * float(weights.std()) / math.sqrt(count), name
