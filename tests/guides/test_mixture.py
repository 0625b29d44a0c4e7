"""The mixture's two ways to draw, one density, and one gradient."""

import copy
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO
from pyro.optim import Adam

import guides
from guides.normal_mixture import NormalMixture

BATCHES, PARTICLES = 40, 500


def two_modes():
    """Log density of 0.3 N(-2, 0.5²) + 0.7 N(1, 0.8²)."""
    z = pyro.sample("z", dist.Normal(0.0, 1.0).mask(False))
    pyro.factor("target", log_target(z))


def made(model=two_modes, **options):
    torch.set_default_dtype(torch.float64)
    guide = guides.make("mixture", model, init_scale=1.0, **options)
    guide()
    with torch.no_grad():
        for parameter in guide.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return guide


def log_target(z):
    parts = dist.Normal(torch.tensor([-2.0, 1.0]), torch.tensor([0.5, 0.8]))
    return dist.MixtureSameFamily(dist.Categorical(torch.tensor([0.3, 0.7])), parts).log_prob(z)


def exact_gradient(guide):
    """Of the negative ELBO, by quadrature."""
    z = torch.linspace(-12.0, 12.0, 4001)
    log_q = guide.get_posterior().log_prob(z[:, None])
    loss = torch.trapezoid(log_q.exp() * (log_q - log_target(z)), z)
    return torch.cat([slope.reshape(-1) for slope in torch.autograd.grad(loss, list(guide.parameters()))])


def estimated_gradient(guide, elbo):
    slopes = []
    for _ in range(BATCHES):
        guide.zero_grad()
        elbo.loss_and_grads(two_modes, guide)
        slopes.append(torch.cat([parameter.grad.reshape(-1) for parameter in guide.parameters()]))
    slopes = torch.stack(slopes)
    return slopes.mean(0), slopes.std(0) / math.sqrt(BATCHES)


def elbo_of(kind):
    return kind(num_particles=PARTICLES, vectorize_particles=True, max_plate_nesting=0)


@pytest.mark.statistical
@pytest.mark.parametrize("covariance", ["full", "diagonal"])
@pytest.mark.parametrize("kind", [guides.StratifiedTrace_ELBO, Trace_ELBO])
def test_the_gradient_is_that_of_the_integral(kind, covariance):
    guide = made(num_components=2, covariance=covariance)
    wanted = exact_gradient(guide)
    found, error = estimated_gradient(guide, elbo_of(kind))
    # a triangular factor's part over the diagonal, and with one latent its unit diagonal, has no slope
    assert ((found - wanted).abs() <= 4.5 * error + 1e-12).all()
    assert (wanted.abs() > 10.0 * error).any()


@pytest.mark.statistical
def test_the_path_alone_misses_the_weights_gradient():
    guide = made(num_components=2, covariance="diagonal")

    class PathAlone(Trace_ELBO):
        def loss_and_grads(self, model, guide, *args, **kwargs):
            loss = 0.0
            for model_trace, guide_trace in self._get_traces(model, guide, args, kwargs):
                loss = loss - (model_trace.log_prob_sum() - guide_trace.log_prob_sum()) / self.num_particles
            loss.backward()

    found, error = estimated_gradient(guide, elbo_of(PathAlone))
    assert ((found - exact_gradient(guide)).abs() > 8.0 * error).any()


@pytest.mark.statistical
def test_strata_are_less_noisy():
    guide = made(num_components=2, covariance="diagonal")
    _, stratified = estimated_gradient(guide, elbo_of(guides.StratifiedTrace_ELBO))
    _, plain = estimated_gradient(guide, elbo_of(Trace_ELBO))
    # one step takes twice as many draws; a score function costs more than that
    assert stratified.square().sum() * 2.0 < plain.square().sum()


def test_strata_share_the_mixtures_density_and_draw_from_their_own_component():
    guide = made(num_components=3)
    strata = guide.strata()
    assert sum(float(weight.detach()) for weight, _ in strata) == pytest.approx(1.0, rel=1e-12)
    posterior = guide.get_posterior()
    for number, (_, stratum) in enumerate(strata):
        torch.manual_seed(number)
        trace = poutine.trace(stratum).get_trace()
        (site,) = (node for name, node in trace.nodes.items() if name.endswith("_latent"))
        torch.manual_seed(number)
        noise = torch.randn(1)
        factor = guide.scales[number] * guide.scale_trils[number, 0]
        torch.testing.assert_close(site["value"], guide.locs[number] + factor * noise, rtol=1e-12, atol=0.0)
        torch.testing.assert_close(trace.log_prob_sum(), posterior.log_prob(site["value"]), rtol=1e-12, atol=0.0)
        assert site["fn"].has_rsample
    assert guide._component is None
    assert not guide.get_posterior().has_rsample


def test_the_density_is_the_weighted_sum():
    guide = made(num_components=3)
    posterior, z = guide.get_posterior(), torch.linspace(-3.0, 3.0, 7)
    scales = posterior.factors.reshape(-1)
    parts = dist.Normal(posterior.locs.reshape(-1), scales).log_prob(z[:, None]) + posterior.weights.log()
    torch.testing.assert_close(posterior.log_prob(z[:, None]), parts.logsumexp(-1), rtol=1e-12, atol=1e-12)


def test_full_and_diagonal_factors_agree():
    torch.manual_seed(0)
    weights, locs, scales = torch.tensor([0.2, 0.8]), torch.randn(2, 3), torch.rand(2, 3) + 0.1
    value = torch.randn(5, 3)
    diagonal, full = NormalMixture(weights, locs, scales), NormalMixture(weights, locs, torch.diag_embed(scales))
    torch.testing.assert_close(diagonal.log_prob(value), full.log_prob(value))
    torch.manual_seed(1)
    one = diagonal.expand((4,)).rsample((2,))
    torch.manual_seed(1)
    assert one.shape == (2, 4, 3)
    torch.testing.assert_close(one, full.expand((4,)).rsample((2,)))


@pytest.mark.statistical
def test_components_are_drawn_as_often_as_their_weights_say():
    weights = torch.tensor([0.1, 0.3, 0.6], dtype=torch.float64)
    mixture = NormalMixture(weights, torch.tensor([[0.0], [10.0], [20.0]]).double(), torch.full((3, 1), 0.1).double())
    torch.manual_seed(0)
    drawn = mixture.rsample((20_000,)).reshape(-1)
    shares = torch.stack([((drawn - centre).abs() < 1.0).double().mean() for centre in (0.0, 10.0, 20.0)])
    assert ((shares - weights).abs() < 4.0 * (weights * (1.0 - weights) / 20_000).sqrt()).all()


def test_components_begin_apart_and_around_the_initial_location():
    torch.set_default_dtype(torch.float64)
    guide = guides.make("mixture", two_modes, init_loc_fn=lambda site: torch.tensor(5.0), init_scale=0.01)
    guide()
    gaps = torch.pdist(guide.locs.detach())
    assert (gaps > 1e-5).all()
    assert ((guide.locs - 5.0).abs() < 0.1).all()
    pyro.clear_param_store()
    one = guides.make("mixture", two_modes, init_loc_fn=lambda site: torch.tensor(5.0), num_components=1)
    one()
    assert one.locs.tolist() == [[5.0]]


def test_many_latents_have_diagonal_components():
    def wide():
        pyro.sample("z", dist.Normal(torch.zeros(51), 1.0).to_event(1))

    guide = guides.make("mixture", wide)
    guide()
    assert not hasattr(guide, "scale_trils")


def coin(y):
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("row", len(y)):
        flip = pyro.sample("flip", dist.Bernoulli(0.3), infer={"enumerate": "parallel"})
        pyro.sample("y", dist.Normal(mean + 2.0 * flip, 1.0), obs=y)


@pytest.mark.statistical
def test_enumerated_sites_leave_the_weights_their_gradient():
    """`TraceEnum_ELBO`'s gradient is that of `Trace_ELBO` on the same model, summed out by hand."""
    y = torch.tensor([0.2, 2.5], dtype=torch.float64)

    def by_hand(y):
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        parts = dist.Normal(torch.stack([mean, mean + 2.0], dim=-1), 1.0)
        with pyro.plate("row", len(y)):
            pyro.sample("y", dist.MixtureSameFamily(dist.Categorical(torch.tensor([0.7, 0.3])), parts), obs=y)

    torch.set_default_dtype(torch.float64)
    guide = guides.make("mixture", coin, num_components=2, init_scale=1.0)
    guide(y)
    means, errors = [], []
    for model, kind in ((coin, TraceEnum_ELBO), (by_hand, Trace_ELBO)):
        elbo, slopes = kind(num_particles=100, vectorize_particles=True, max_plate_nesting=1), []
        for _ in range(BATCHES):
            guide.zero_grad()
            elbo.loss_and_grads(model, guide, y)
            slopes.append(guide.weights_unconstrained.grad.clone())
        means.append(torch.stack(slopes).mean(0))
        errors.append(torch.stack(slopes).std(0) / math.sqrt(BATCHES))
    assert ((means[0] - means[1]).abs() < 4.5 * (errors[0] ** 2 + errors[1] ** 2).sqrt()).all()


def test_the_stratified_elbo_serves_svi():
    guide = made(num_components=2)
    before = copy.deepcopy(guide.state_dict())
    svi = SVI(two_modes, guide, Adam({"lr": 0.01}), guides.StratifiedTrace_ELBO())
    assert math.isfinite(svi.step())
    assert all(not torch.equal(value, before[name]) for name, value in guide.state_dict().items() if value.numel() > 2)
    assert math.isfinite(svi.evaluate_loss())
