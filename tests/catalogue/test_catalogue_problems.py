"""What every problem of the catalogue keeps."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO
from pyro.optim import ClippedAdam
from torch.distributions import biject_to
from torch.fx.experimental.proxy_tensor import make_fx

import guides
from ppl_models.catalogue import load, names
from ppl_models.catalogue.registry import AUTOENCODERS

PROBLEMS = pytest.mark.parametrize("name", names())
# a drawn assignment has no density of its own: the mixture has its own test below
WITHOUT_ENUMERATION = pytest.mark.parametrize("name", [name for name in names() if name != "old_faithful_mixture"])
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
GUIDES = ["handwritten", "normal"]


def sites(trace):
    return {
        name: site
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and not poutine.util.site_is_subsample(site)
    }


def is_deterministic(site):
    return bool(site["infer"].get("_deterministic"))


def latents(problem, trace):
    return {
        name: site
        for name, site in sites(trace).items()
        if not (site["is_observed"] or is_deterministic(site)) and name not in (*problem.enumerated, *problem.observed)
    }


def elbo_of(problem, num_particles=1, vectorize_particles=False):
    kind = TraceEnum_ELBO if problem.enumerated else Trace_ELBO
    return kind(num_particles=num_particles, vectorize_particles=vectorize_particles, max_plate_nesting=1)


def guide_of(problem, name):
    if name in problem.guides:
        return problem.guides[name]
    return guides.make(name, problem.model, init_scale=problem.initial_scale)


@PROBLEMS
def test_problem_describes_itself(name):
    problem = load(name)
    assert problem.name == name
    assert "handwritten" in problem.guides
    assert {"normal", "handwritten"} <= set(problem.expected)
    assert problem.cite in str(problem)
    assert set(problem.observed) <= set(problem.data)


@PROBLEMS
@DTYPES
def test_dims_and_coords_agree_with_the_shapes(name, dtype):
    torch.set_default_dtype(dtype)
    problem = load(name)
    trace = poutine.trace(problem.model).get_trace(**problem.data)
    shapes = {site: value["value"].shape for site, value in sites(trace).items() if site not in problem.enumerated}
    shapes |= {key: value.shape for key, value in problem.data.items() if key in problem.dims}
    assert set(problem.dims) == set(shapes)
    for key, shape in shapes.items():
        assert tuple(shape) == tuple(len(problem.coords[dim]) for dim in problem.dims[key]), key
    for dim, labels in problem.coords.items():
        assert len(set(labels)) == len(labels), dim


@PROBLEMS
def test_deterministic_and_observed_sites_are_named_as_such(name):
    problem = load(name)
    trace = poutine.trace(problem.model).get_trace(**problem.data)
    observed = {site for site, value in sites(trace).items() if value["is_observed"] and not is_deterministic(value)}
    assert observed == set(problem.observed)


@PROBLEMS
@DTYPES
def test_density_and_gradient_are_finite_at_prior_draws(name, dtype):
    torch.set_default_dtype(dtype)
    problem = load(name)
    for _ in range(5):
        prior = latents(problem, poutine.trace(problem.model).get_trace(**problem.predictors))
        transforms = {site: biject_to(value["fn"].support) for site, value in prior.items()}
        free = {site: transforms[site].inv(value["value"]).requires_grad_() for site, value in prior.items()}
        values = {site: transforms[site](value) for site, value in free.items()}
        trace = poutine.trace(poutine.condition(problem.model, data=values)).get_trace(**problem.data)
        density = trace.log_prob_sum()
        density.backward()
        assert density.isfinite()
        for site, value in free.items():
            assert value.grad is not None, site
            assert value.grad.isfinite().all(), site
            assert value.dtype == dtype, site


@PROBLEMS
@DTYPES
def test_prior_predictive_needs_no_observations(name, dtype):
    torch.set_default_dtype(dtype)
    problem = load(name)
    trace = poutine.trace(problem.model).get_trace(**problem.predictors)
    for site in problem.observed:
        assert not trace.nodes[site]["is_observed"]
        assert trace.nodes[site]["value"].shape == problem.data[site].shape
        assert trace.nodes[site]["value"].isfinite().all()


@PROBLEMS
@pytest.mark.parametrize("guide_name", GUIDES)
@DTYPES
def test_guide_covers_exactly_the_latents(name, guide_name, dtype):
    torch.set_default_dtype(dtype)
    problem = load(name)
    guide = guide_of(problem, guide_name)
    guide_trace = poutine.trace(guide).get_trace(**problem.data)
    found = {site: value for site, value in sites(guide_trace).items() if not value["infer"].get("is_auxiliary")}
    wanted = latents(problem, poutine.trace(problem.model).get_trace(**problem.data))
    assert {site: value["value"].shape for site, value in found.items()} == {
        site: value["value"].shape for site, value in wanted.items()
    }
    assert guide_trace.log_prob_sum().isfinite()
    for site, value in wanted.items():
        assert value["fn"].support.check(found[site]["value"]).all(), site
        assert found[site]["value"].dtype == dtype, site


@PROBLEMS
@pytest.mark.parametrize("guide_name", GUIDES)
@DTYPES
def test_particles_can_be_vectorised(name, guide_name, dtype):
    torch.set_default_dtype(dtype)
    problem = load(name)
    guide = guide_of(problem, guide_name)
    guide(**problem.data)
    elbo = elbo_of(problem, num_particles=7, vectorize_particles=True)
    assert torch.tensor(elbo.loss(problem.model, guide, **problem.data)).isfinite()


@WITHOUT_ENUMERATION
def test_vectorised_particles_have_the_density_of_single_ones(name):
    torch.set_default_dtype(torch.float64)
    problem = load(name)
    with pyro.plate("particle", 3, dim=-2):
        prior = latents(problem, poutine.trace(problem.model).get_trace(**problem.predictors))
    free = {site: value["value"] for site, value in prior.items()}

    def density(values):
        trace = poutine.trace(poutine.condition(problem.model, data=values)).get_trace(**problem.data)
        trace.compute_log_prob()
        return sum(trace.nodes[site]["log_prob"].sum() for site in [*free, *problem.observed])

    def single(site, index):
        value = free[site][index]
        event_dim = prior[site]["fn"].event_dim
        inside = [frame for frame in prior[site]["cond_indep_stack"] if frame.dim == -1]
        return value if inside else value.reshape(value.shape[value.dim() - event_dim :])

    with pyro.plate("particle", 3, dim=-2):
        together = density(free)
    one_by_one = sum(density({site: single(site, index) for site in free}) for index in range(3))
    torch.testing.assert_close(together, one_by_one, rtol=1e-10, atol=0.0)


@WITHOUT_ENUMERATION
def test_density_can_be_mapped_over_draws(name):
    torch.set_default_dtype(torch.float64)
    problem = load(name)
    draws = [latents(problem, poutine.trace(problem.model).get_trace(**problem.predictors)) for _ in range(3)]
    stacked = {site: torch.stack([draw[site]["value"] for draw in draws]) for site in draws[0]}

    def density(values):
        with pyro.validation_enabled(False):
            return poutine.trace(poutine.condition(problem.model, data=values)).get_trace(**problem.data).log_prob_sum()

    mapped = torch.func.vmap(density)(stacked)
    single = torch.stack([density({site: value[index] for site, value in stacked.items()}) for index in range(3)])
    torch.testing.assert_close(mapped, single, rtol=1e-10, atol=0.0)


@WITHOUT_ENUMERATION
def test_gradient_can_be_captured_as_a_graph(name):
    torch.set_default_dtype(torch.float64)
    problem = load(name)
    first, second = (latents(problem, poutine.trace(problem.model).get_trace(**problem.predictors)) for _ in range(2))
    first, second = ({site: value["value"] for site, value in draw.items()} for draw in (first, second))

    def density(values):
        with pyro.validation_enabled(False):
            return poutine.trace(poutine.condition(problem.model, data=values)).get_trace(**problem.data).log_prob_sum()

    gradient = torch.func.grad_and_value(density)
    captured = make_fx(gradient)(first)
    torch.testing.assert_close(captured(second), gradient(second), rtol=1e-10, atol=1e-12)


def test_enumeration_gives_the_density_of_the_mixture():
    torch.set_default_dtype(torch.float64)
    problem = load("old_faithful_mixture")
    weights, means, scales = torch.tensor([0.4, 0.6]), torch.tensor([5.0, 8.5]), torch.tensor([0.7, 0.5])
    point = {"weights": weights, "means": means, "scales": scales}

    def guide(**data):
        for site, value in point.items():
            pyro.sample(site, dist.Delta(value, event_dim=1))

    found = -elbo_of(problem).loss(problem.model, guide, **problem.data)
    y = problem.data["y"].unsqueeze(-1)
    likelihood = (dist.Normal(means, scales).log_prob(y) + weights.log()).logsumexp(-1).sum()
    gap = means[1] - means[0]
    of_means = dist.Normal(6.0, 2.0).log_prob(means[0]) + dist.LogNormal(0.7, 0.7).log_prob(gap)
    prior = dist.Dirichlet(torch.tensor([2.0, 2.0])).log_prob(weights) + dist.HalfNormal(1.0).log_prob(scales).sum()
    torch.testing.assert_close(torch.tensor(found), likelihood + prior + of_means, rtol=1e-10, atol=0.0)


@pytest.mark.parametrize(
    ("name", "fixed"),
    [
        ("eight_schools_centered", {"tau": [3.0]}),
        ("eight_schools_noncentered", {"tau": [3.0]}),
        ("diabetes_horseshoe", {"log_scales": [-0.3, -3.5, 0.2, *(0.3 * index - 1.0 for index in range(10))]}),
        ("sleepstudy_varying_intercepts", {"population": [2.7, 0.11, -1.0, -1.3]}),
        ("lynx_ar2", {"noise": [0.25]}),
        ("digits_ppca", {"loadings_and_noise": None}),
    ],
)
def test_conditionals_that_are_called_exact_are(name, fixed):
    """Given what the guide learns, log p - log q is the log evidence of that, whatever the exact part draws."""
    torch.set_default_dtype(torch.float64)
    problem = load(name)
    values = {
        site: 0.3 * torch.randn(problem.data["position"].numel())
        if value is None
        else torch.tensor(value[0] if len(value) == 1 else value)
        for site, value in fixed.items()
    }
    guide = poutine.condition(problem.guides["handwritten"], data=values)
    model = poutine.condition(problem.model, data=values)
    ratios = []
    for _ in range(4):
        guide_trace = poutine.trace(guide).get_trace(**problem.data)
        model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(**problem.data)
        ratios.append(model_trace.log_prob_sum() - guide_trace.log_prob_sum())
    torch.testing.assert_close(torch.stack(ratios), ratios[0].expand(4), rtol=1e-10, atol=0.0)


@PROBLEMS
@pytest.mark.parametrize("guide_name", GUIDES)
def test_a_short_fit_raises_the_elbo(name, guide_name):
    torch.set_default_dtype(torch.float64)
    problem = load(name)
    guide = guide_of(problem, guide_name)
    guide(**problem.data)
    particles, steps, size = (2, 8, 0.01) if name in AUTOENCODERS else (64, 60, 0.05)
    before, after = elbo_of(problem, particles, True), elbo_of(problem, particles, True)
    start = before.loss(problem.model, guide, **problem.data)
    optimiser = ClippedAdam({"lr": size, "lrd": 0.97})
    svi = SVI(problem.model, guide, optimiser, elbo_of(problem, 2, True))
    for _ in range(steps):
        svi.step(**problem.data)
    assert after.loss(problem.model, guide, **problem.data) < start


@pytest.mark.parametrize(
    "name",
    [
        "eight_schools_centered",
        "eight_schools_noncentered",
        "diabetes_horseshoe",
        "sleepstudy_varying_intercepts",
        "lynx_ar2",
        "digits_ppca",
    ],
)
def test_guides_that_condition_on_data_ask_for_them(name):
    problem = load(name)
    with pytest.raises(guides.MissingDataError, match=f"guide '{name}': argument 'y' is None"):
        problem.guides["handwritten"](**problem.predictors)
