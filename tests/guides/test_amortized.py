"""The amortised guide against closed forms: linear models with normal noise, whose posteriors an encoder can hold."""

import copy
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from pyro.optim import Adam
from torch import nn

import guides

NOISE, NUM_ROWS = 0.6, 7
LOADINGS = torch.tensor([[1.0, 0.8], [0.7, 0.9], [0.5, 0.4], [0.9, 0.8]], dtype=torch.float64)
PRECISION = torch.eye(2, dtype=torch.float64) + LOADINGS.T @ LOADINGS / NOISE**2
COVARIANCE = PRECISION.inverse()
PULL = COVARIANCE @ LOADINGS.T / NOISE**2
"""The posterior of a row x is Normal(PULL x, COVARIANCE) (Woodbury)."""
MEAN_FIELD_GAP = 0.5 * float(PRECISION.diagonal().log().sum() - PRECISION.logdet())
"""KL in nats per row of the best normal with independent coordinates."""


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)


def linear(x=None, num_rows=3):
    """z ~ N(0, I), x ~ N(W z, NOISE²)."""
    with pyro.plate("datum", num_rows if x is None else len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        return pyro.sample("x", dist.Normal(z @ LOADINGS.T, NOISE).to_event(1), obs=x)


def scalars(x=None, num_rows=3):
    """The same model with its two latents as sites of their own."""
    with pyro.plate("datum", num_rows if x is None else len(x)):
        z = torch.stack([pyro.sample(name, dist.Normal(0.0, 1.0)) for name in ("a", "b")], -1)
        return pyro.sample("x", dist.Normal(z @ LOADINGS.T, NOISE).to_event(1), obs=x)


def data(num_rows=NUM_ROWS):
    generator = torch.Generator().manual_seed(3)
    z, noise = (torch.randn(num_rows, size, generator=generator) for size in (2, 4))
    return z @ LOADINGS.T + NOISE * noise


def evidence(x):
    """log p(x) of every row in nats."""
    return dist.MultivariateNormal(torch.zeros(4), LOADINGS @ LOADINGS.T + NOISE**2 * torch.eye(4)).log_prob(x)


def log_ratios(model, guide, x):
    """log p - log q at one draw, by row."""
    drawn = poutine.trace(guide).get_trace(x)
    joint = poutine.trace(poutine.replay(model, drawn)).get_trace(x)
    totals = []
    for trace in (joint, drawn):
        trace.compute_log_prob()
        totals.append(sum(node["log_prob"] for node in trace.nodes.values() if node["type"] == "sample"))
    return (totals[0] - totals[1]).detach()


def closed_form_elbo(guide, x):
    """The exact ELBO of every row in nats, for a guide whose z is normal."""
    fn = poutine.trace(guide).get_trace(x).nodes["z"]["fn"]
    mean = fn.mean
    covariance = fn.covariance_matrix if hasattr(fn, "covariance_matrix") else torch.diag_embed(fn.variance)
    away = x - mean @ LOADINGS.T
    quadratic = away.square().sum(-1) / NOISE**2 + mean.square().sum(-1) + (covariance * PRECISION).sum((-2, -1))
    log_joint = -0.5 * quadratic - 0.5 * 6 * math.log(2.0 * math.pi) - 4 * math.log(NOISE)
    return log_joint + 0.5 * covariance.logdet() + 1.0 + math.log(2.0 * math.pi)


def optimised(guide, x):
    """The guide at the maximum of the closed form."""
    guide(x)
    rule = torch.optim.LBFGS(guide.parameters(), max_iter=300, line_search_fn="strong_wolfe", tolerance_grad=1e-12)

    def loss():
        rule.zero_grad()
        total = -closed_form_elbo(guide, x).sum()
        total.backward()
        return total

    rule.step(loss)
    return guide


def q_of(guide, x):
    return poutine.trace(guide).get_trace(x).nodes["z"]["fn"]


def test_a_full_rank_guide_reaches_the_exact_posterior():
    x = data()
    guide = optimised(guides.amortized(linear, family="full_rank", hidden=()), x)
    q = q_of(guide, x)
    torch.testing.assert_close(q.mean, x @ PULL.T, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(q.covariance_matrix, COVARIANCE.expand(NUM_ROWS, 2, 2), rtol=1e-5, atol=1e-5)
    # a quadratic maximum: parameters off by 1e-5 leave an ELBO off by about 1e-10
    torch.testing.assert_close(closed_form_elbo(guide, x), evidence(x), rtol=1e-8, atol=0.0)


def test_at_the_exact_posterior_every_draw_has_the_evidence_as_its_weight():
    x = data()
    guide = guides.amortized(linear, family="full_rank", hidden=())
    guide(x)
    with torch.no_grad():
        for parameter in guide.parameters():
            parameter.zero_()
        head, root = guide.heads["z"], torch.linalg.cholesky(COVARIANCE)
        head.diagonal.loc.weight.copy_(PULL)
        head.diagonal.scale.bias.copy_(root.diagonal().expm1().log())
        head.below.bias.copy_(root[1, 0] / root[1, 1])
    torch.testing.assert_close(log_ratios(linear, guide, x), evidence(x), rtol=1e-10, atol=1e-10)


def test_a_diagonal_guide_reaches_its_own_optimum():
    x = data()
    guide = optimised(guides.amortized(linear, hidden=()), x)
    q = q_of(guide, x)
    torch.testing.assert_close(q.mean, x @ PULL.T, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(q.variance, (1.0 / PRECISION.diagonal()).expand(NUM_ROWS, 2), rtol=1e-3, atol=0.0)
    torch.testing.assert_close(closed_form_elbo(guide, x), evidence(x) - MEAN_FIELD_GAP, rtol=1e-8, atol=0.0)


def at_the_optimum(model, **options):
    """A guide of the two scalar latents with linear factors, each at its best: conditional, or independent ones."""
    guide = guides.amortized(model, hidden=(), **options)
    guide(data())
    first, second = (options.get("order") or ("a", "b"))[:2]
    i, j = (0, 1) if first == "a" else (1, 0)
    with torch.no_grad():
        for parameter in guide.parameters():
            parameter.zero_()
        one, two = guide.heads[first], guide.heads[second]
        one.loc.weight.copy_(PULL[i : i + 1])
        if options.get("conditional", True):
            slope = COVARIANCE[j, i] / COVARIANCE[i, i]
            variances = COVARIANCE[i, i], 1.0 / PRECISION[j, j]
            two.loc.weight[:, 4] = slope
            two.loc.weight[:, :4] = PULL[j] - slope * PULL[i]
        else:
            variances = 1.0 / PRECISION[i, i], 1.0 / PRECISION[j, j]
            two.loc.weight.copy_(PULL[j : j + 1])
        for head, variance in zip((one, two), variances, strict=True):
            head.scale.bias.copy_(variance.sqrt().expm1().log())
    return guide


@pytest.mark.parametrize("order", [None, ("a", "b"), ("b", "a")])
def test_conditional_factors_hold_the_exact_joint_posterior(order):
    x = data()
    guide = at_the_optimum(scalars, order=order)
    torch.testing.assert_close(log_ratios(scalars, guide, x), evidence(x), rtol=1e-10, atol=1e-10)


def test_independent_factors_miss_the_correlation_by_just_the_mean_field_gap():
    x, num_draws = data(), 200
    assert MEAN_FIELD_GAP > 0.05  # the correlation planted is one to be missed
    guide = at_the_optimum(scalars, conditional=False)
    ratios = torch.stack([log_ratios(scalars, guide, x) for _ in range(num_draws)]) - evidence(x)
    error = ratios.std() / math.sqrt(ratios.numel())
    assert abs(ratios.mean() + MEAN_FIELD_GAP) < 4.0 * error
    assert 8.0 * error < MEAN_FIELD_GAP  # so that the test can tell it from none


def learnt_gaps(conditional, x, num_draws=100):
    """Evidence minus log weight by draw, mean over rows, after a short fit by SVI."""
    torch.manual_seed(1)
    guide = guides.amortized(scalars, hidden=(), conditional=conditional, name=f"conditional_{conditional}")
    loss = Trace_ELBO(num_particles=8, vectorize_particles=True, max_plate_nesting=1)
    svi = SVI(scalars, guide, Adam({"lr": 0.05}), loss)
    for _ in range(100):
        svi.step(x)
    with torch.no_grad():
        return evidence(x).mean() - torch.stack([log_ratios(scalars, guide, x).mean() for _ in range(num_draws)])


def test_svi_learns_the_correlation_with_conditional_factors_and_cannot_without():
    x = data()
    joint, product = (learnt_gaps(conditional, x) for conditional in (True, False))
    errors = [gaps.std() / math.sqrt(len(gaps)) for gaps in (joint, product)]
    assert joint.mean() + 4.0 * errors[0] < 0.5 * MEAN_FIELD_GAP
    # no product of factors is nearer than this gap, whatever was learnt
    assert product.mean() > MEAN_FIELD_GAP - 4.0 * errors[1]


@pytest.mark.parametrize("family", ["normal", "full_rank", "iaf", "realnvp"])
def test_a_row_has_the_same_posterior_in_every_batch(family):
    x = data(9)
    guide = guides.amortized(linear, family=family, hidden=(6,))
    guide(x)
    value = torch.randn(9, 2)
    log_q = q_of(guide, x).log_prob(value)
    for index in ([0, 1, 2], [2, 8], [2], list(range(8, -1, -1))):
        torch.testing.assert_close(q_of(guide, x[index]).log_prob(value[index]), log_q[index], rtol=1e-10, atol=1e-10)
        assert guide(x[index])["z"].shape == (len(index), 2)
    more = torch.cat([x, x + 1.0, x - 1.0])
    torch.testing.assert_close(q_of(guide, more).log_prob(value.repeat(3, 1))[:9], log_q, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("loss", [Trace_ELBO, TraceMeanField_ELBO])
def test_pyros_svi_takes_it_with_vectorised_particles_and_minibatches(loss):
    x = data(40)
    guide = guides.amortized(linear, hidden=(8,))
    svi = SVI(linear, guide, Adam({"lr": 0.02}), loss(num_particles=4, vectorize_particles=True, max_plate_nesting=1))
    losses = [svi.step(x[start : start + 10]) for _ in range(30) for start in range(0, 40, 10)]
    optimum = -10 * (float(evidence(x).mean()) - MEAN_FIELD_GAP)
    first, last = (sum(part) / 20 - optimum for part in (losses[:20], losses[-20:]))
    assert last < 0.25 * first
    names = set(pyro.get_param_store().keys())
    assert names == {f"amortized.{name}" for name, _ in guide.named_parameters()}
    assert "amortized.heads.z.loc.weight" in names


def test_parameters_have_the_prefix_asked_for_and_frozen_ones_stay_out():
    encoder = nn.Linear(4, 3)
    encoder.bias.requires_grad_(False)
    guides.amortized(linear, encoder=encoder, name="q")(data())
    assert set(pyro.get_param_store().keys()) == {
        "q.encoder.weight",
        *(f"q.heads.z.{part}.{kind}" for part in ("loc", "scale") for kind in ("weight", "bias")),
    }


class Sharing(nn.Module):
    """A model whose prior is made of the guide's encoder."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(4, 3)
        self.to_mean = nn.Linear(3, 2)

    def forward(self, x):
        pyro.module("model", self)
        mean = self.to_mean(self.encoder(torch.ones(4)))
        with pyro.plate("datum", len(x)):
            z = pyro.sample("z", dist.Normal(mean, 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ LOADINGS.T, NOISE).to_event(1), obs=x)


def test_what_the_model_holds_as_well_stands_in_the_store_once():
    model = Sharing()
    guide = guides.amortized(model, encoder=model.encoder)
    svi = SVI(model, guide, Adam({"lr": 0.1}), Trace_ELBO())
    before = model.encoder.weight.detach().clone()
    svi.step(data())
    names = [name for name in pyro.get_param_store() if "encoder" in name]
    assert names == ["model$$$encoder.weight", "model$$$encoder.bias"]
    assert not model.encoder.weight.equal(before)
    assert set(dict(guide.named_parameters())) & {"model.to_mean.weight", "to_mean.weight"} == set()


def test_a_copy_follows_the_copy_of_its_model():
    model, memo = Sharing(), {}
    guide = guides.amortized(model, encoder=model.encoder, inputs="x")
    guide(data())
    model_copy, guide_copy = copy.deepcopy(model, memo), copy.deepcopy(guide, memo)
    assert guide_copy.model is model_copy
    assert guide_copy.encoder is model_copy.encoder
    assert guide_copy.encoder is not model.encoder
    pyro.clear_param_store()
    value = guide_copy(data())["z"]
    value.sum().backward()
    assert model_copy.encoder.weight.grad is not None
    assert model.encoder.weight.grad is None


def test_copies_made_before_the_first_call_work_too():
    model, memo = Sharing(), {}
    guide = guides.amortized(model.forward)
    copied = [copy.deepcopy(one, memo) for one in (model, guide)]
    assert copied[1].model.__self__ is copied[0]
    assert copied[1](data())["z"].shape == (NUM_ROWS, 2)
    assert guide.layout is None


def test_the_state_of_a_guide_can_be_stored_by_torch():
    x = data()
    first, second = (guides.amortized(linear, family="iaf", hidden=(5,)) for _ in range(2))
    for guide in (first, second):
        guide(x)
        pyro.clear_param_store()
    value = torch.randn(NUM_ROWS, 2)
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(q_of(first, x).log_prob(value), q_of(second, x).log_prob(value))


def test_a_head_of_ones_own_and_a_mixture_of_families():
    class Wide(nn.Module):
        def forward(self, features):
            return dist.StudentT(5.0, features[..., :1], 2.0).to_event(1)

    x = data()
    guide = guides.amortized(scalars, family={"a": Wide(), "b": "normal"})
    nodes = poutine.trace(guide).get_trace(x).nodes
    assert isinstance(nodes["a"]["fn"].base_dist.base_dist, dist.StudentT)
    assert nodes["a"]["value"].shape == nodes["b"]["value"].shape == (NUM_ROWS,)
    assert torch.isfinite(log_ratios(scalars, guide, x)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtypes_follow_the_data(dtype):
    torch.set_default_dtype(dtype)

    def model(x):
        with pyro.plate("datum", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2, dtype=dtype), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ LOADINGS.T.to(dtype), NOISE).to_event(1), obs=x)

    x = torch.randn(NUM_ROWS, 4)
    for family in ("normal", "full_rank", "iaf", "realnvp"):
        pyro.clear_param_store()
        assert guides.amortized(model, family=family)(x)["z"].dtype == dtype
