import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO
from pyro.optim import ClippedAdam

import guides
from guides.unconstrained_density import UnconstrainedDensity

Y = torch.tensor([0.4, 1.1, 1.9], dtype=torch.float64)


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)


def normals(y):
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("row", len(y)):
        effect = pyro.sample("effect", dist.Normal(mean, 1.0))
        pyro.sample("y", dist.Normal(effect, 0.5), obs=y)


def log_evidence():
    return dist.MultivariateNormal(torch.zeros(3), 1.25 * torch.eye(3) + 1.0).log_prob(Y)


def banana():
    x = pyro.sample("x", dist.Normal(0.0, 1.0))
    pyro.sample("z", dist.Normal(x**2 - 1.0, 0.3))


def near_the_posterior(num_steps, base="auto"):
    """A guide whose weights have moderate tails: means of the posterior, about its standard deviations."""
    means = {"mean": torch.tensor(0.8), "effect": torch.tensor([0.5, 1.0, 1.7])}
    guide = guides.make(
        "dais",
        normals,
        init_loc_fn=lambda site: means[site["name"]],
        init_scale=0.5,
        num_steps=num_steps,
        base=base,
    )
    return perturbed(guide, Y, by=0.1)


def perturbed(guide, *args, by=0.3):
    guide(*args)
    with torch.no_grad():
        for parameter in guide.parameters():
            parameter.add_(by * torch.randn_like(parameter))
    return guide


def log_ratios(model, guide, count, nesting, *args):
    """log p - log q of vectorised draws, shape (count,)."""
    total = torch.zeros(count)
    with torch.no_grad(), pyro.plate("particles", count, dim=-1 - nesting):
        guide_trace = poutine.trace(guide).get_trace(*args)
        model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(*args)
        model_trace.compute_log_prob()
        guide_trace.compute_log_prob()
    for trace, sign in ((model_trace, 1.0), (guide_trace, -1.0)):
        for node in trace.nodes.values():
            if node["type"] == "sample" and not poutine.util.site_is_subsample(node):
                total += sign * node["log_prob"].reshape(count, -1).sum(-1)
    return total


def mean_weight_z_score(ratios, wanted):
    weights = (ratios - wanted).exp()
    return float((weights.mean() - 1.0) / (weights.std() / math.sqrt(len(weights))))


@pytest.mark.parametrize("base", ["diagonal", "dense"])
@pytest.mark.parametrize("num_steps", [1, 3])
def test_weights_average_to_the_evidence(num_steps, base):
    ratios = log_ratios(normals, near_the_posterior(num_steps, base), 40_000, 1, Y)
    assert ratios.std() < 1.5  # else the weights' mean has no normal error
    assert abs(mean_weight_z_score(ratios, log_evidence())) < 4.0


def test_weights_that_forget_a_term_are_caught():
    guide = near_the_posterior(3)
    right = guide._anneal

    def forgetful(*args):
        end, log_momenta = right(*args)
        return end, 0.5 * log_momenta

    object.__setattr__(guide, "_anneal", forgetful)
    ratios = log_ratios(normals, guide, 40_000, 1, Y)
    assert abs(mean_weight_z_score(ratios, log_evidence())) > 10.0


def test_evidence_of_a_bounded_target():
    def model():
        scale = pyro.sample("scale", dist.Gamma(2.0, 1.0))
        bounded = pyro.sample("bounded", dist.Uniform(0.0, scale))
        pyro.factor("part", bounded.log())  # E[bounded] = E[scale] / 2 = 1

    guide = perturbed(guides.make("dais", model, init_scale=1.0))
    ratios = log_ratios(model, guide, 40_000, 0)
    assert abs(mean_weight_z_score(ratios, 0.0)) < 4.0
    trace = poutine.trace(guide).get_trace()
    assert 0.0 < trace.nodes["bounded"]["value"] < trace.nodes["scale"]["value"]


def test_the_end_is_reversible_and_the_weight_follows_from_the_formula():
    """One step by hand, from the sites of the guide."""
    guide = perturbed(guides.make("dais", normals, num_steps=1, init_scale=0.7, base="diagonal"), Y)
    trace = poutine.trace(guide).get_trace(Y)
    z, noise = (trace.nodes[f"_AutoAnnealed_{name}"]["value"] for name in ("start", "noise"))
    precision = torch.cat([torch.cat([torch.tensor([[4.0]]), -torch.ones(1, 3)], 1),
                           torch.cat([-torch.ones(3, 1), 5.0 * torch.eye(3)], 1)])  # fmt: skip
    linear = torch.cat([torch.zeros(1), 4.0 * Y])
    loc, scale, step = guide.loc, guide.scale, guide.step_size
    b = torch.sigmoid(guide.schedule_logits[0])

    def force(v):
        return b * scale * (linear - precision @ (loc + scale * v)) - (1.0 - b) * v

    v = (z - loc) / scale
    r = noise[0] + 0.5 * step * force(v)
    end = v + step * r
    r = r + 0.5 * step * force(end)
    torch.testing.assert_close(trace.nodes["_AutoAnnealed_end"]["value"], loc + scale * end, rtol=1e-10, atol=1e-10)
    wanted = dist.Normal(loc, scale).log_prob(z).sum() + dist.Normal(0.0, 1.0).log_prob(noise).sum()
    back = dist.Normal(0.0, 1.0).log_prob(r).sum()
    torch.testing.assert_close(trace.log_prob_sum(), wanted - back, rtol=1e-10, atol=1e-10)


def test_bound_tightens_with_the_number_of_steps():
    means, errors = [], []
    for num_steps in (1, 4):
        pyro.clear_param_store()
        guide = guides.make("dais", banana, num_steps=num_steps, init_scale=0.5)
        elbo = Trace_ELBO(num_particles=16, vectorize_particles=True, max_plate_nesting=0)
        svi = SVI(banana, guide, ClippedAdam({"lr": 0.03, "lrd": 0.994}), elbo)
        for _ in range(300):
            svi.step()
        ratios = log_ratios(banana, guide, 20_000, 0)
        means.append(float(ratios.mean()))
        errors.append(float(ratios.std()) / math.sqrt(len(ratios)))
    assert means[1] - means[0] > 4.0 * math.hypot(*errors)
    assert means[1] < 4.0 * errors[-1]  # the evidence is one


@pytest.mark.parametrize("base", ["diagonal", "dense"])
def test_gradient_is_that_of_finite_differences(base):
    guide = perturbed(guides.make("dais", normals, num_steps=2, init_scale=0.7, base=base), Y)

    def loss():
        torch.manual_seed(3)
        return Trace_ELBO().differentiable_loss(normals, guide, Y)

    names, parameters = zip(*guide.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss(), parameters)
    for name, parameter, gradient in zip(names, parameters, gradients, strict=True):
        direction = torch.randn_like(parameter)
        ends = []
        with torch.no_grad():
            for sign in (1.0, -2.0, 1.0):
                parameter.add_(sign * 1e-5 * direction)
                ends.append(float(loss()))
        found = (ends[0] - ends[1]) / 2e-5
        # central differences of step h: rounding of 1e-16 |loss| / h, and h² times a third derivative
        assert found == pytest.approx(float((gradient * direction).sum()), rel=1e-5, abs=1e-7), name


def test_vectorised_particles_are_each_alone():
    guide = perturbed(guides.make("dais", normals, num_steps=2), Y)
    with pyro.plate("particles", 4, dim=-2):
        trace = poutine.trace(guide).get_trace(Y)

    class Given(poutine.messenger.Messenger):
        def __init__(self, index):
            super().__init__()
            self.index = index

        def _pyro_sample(self, msg):
            if msg["name"] in ("_AutoAnnealed_start", "_AutoAnnealed_noise"):
                msg["value"] = trace.nodes[msg["name"]]["value"][self.index, 0]

    singles = [poutine.trace(Given(index)(guide)).get_trace(Y) for index in range(4)]
    for index, single in enumerate(singles):
        for name in ("mean", "effect"):
            found = trace.nodes[name]["value"][index].reshape(single.nodes[name]["value"].shape)
            torch.testing.assert_close(found, single.nodes[name]["value"], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(trace.log_prob_sum(), sum(s.log_prob_sum() for s in singles), rtol=1e-10, atol=1e-10)


def test_models_that_read_their_values_are_run_one_by_one():
    def model():
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(x if float(x.detach()) > 0 else 2.0 * x, 1.0), obs=torch.tensor(1.0))

    density = UnconstrainedDensity(model, lambda flat: {"x": flat[0]}, {}, None, (), {})
    x = torch.tensor([[[0.7], [-0.4]]])
    slope = torch.where(x > 0, 1.0, 2.0)
    torch.testing.assert_close(density.gradient(x), -x + slope * (1.0 - slope * x), rtol=1e-12, atol=1e-12)


def test_enumerated_sites_are_summed_out_in_the_steps():
    y = torch.tensor([-1.0, 1.3])

    def mixture(y):
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("row", len(y)):
            k = pyro.sample("k", dist.Categorical(torch.tensor([0.3, 0.7])), infer={"enumerate": "parallel"})
            pyro.sample("y", dist.Normal(mean * (2.0 * k - 1.0), 0.5), obs=y)

    def summed(flat):
        parts = [math.log(p) + dist.Normal(s * flat, 0.5).log_prob(y) for p, s in ((0.3, -1.0), (0.7, 1.0))]
        return dist.Normal(0.0, 1.0).log_prob(flat).sum() + torch.logsumexp(torch.stack(parts), 0).sum()

    density = UnconstrainedDensity(mixture, lambda flat: {"mean": flat[0]}, {}, 1, (y,), {})
    flat = torch.tensor([[0.3], [-1.2]])
    wanted = torch.stack([torch.func.grad(summed)(one) for one in flat])
    torch.testing.assert_close(density.gradient(flat), wanted, rtol=1e-10, atol=1e-12)
    guide = guides.make("dais", mixture)
    loss = TraceEnum_ELBO(num_particles=3, vectorize_particles=True, max_plate_nesting=1)
    assert loss.differentiable_loss(mixture, guide, y).isfinite()


def test_subsamples_are_shared_and_subsampled_latents_refused():
    def model(y, index=None):
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("row", len(y), subsample_size=2, subsample=index) as row:
            pyro.sample("y", dist.Normal(mean, 1.0), obs=y[row])

    guide = guides.make("dais", model)
    guide(Y)
    trace = poutine.trace(guide).get_trace(Y)
    index = trace.nodes["row"]["value"]
    replayed = poutine.trace(poutine.replay(model, trace=trace)).get_trace(Y)
    assert torch.equal(index, replayed.nodes["row"]["value"])
    gradient = UnconstrainedDensity(model, lambda f: {"mean": f[0]}, {"row": index}, None, (Y,), {}).gradient
    wanted = -0.2 + 1.5 * (Y[index] - 0.2).sum()
    torch.testing.assert_close(gradient(torch.tensor([0.2])), wanted[None], rtol=1e-12, atol=1e-12)
    assert "row" not in poutine.trace(guide).get_trace(Y, torch.tensor([0, 2])).nodes

    def local(y):
        with pyro.plate("row", len(y), subsample_size=2) as row:
            effect = pyro.sample("effect", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(effect, 1.0), obs=y[row])

    with pytest.raises(guides.UnsuitableModelError, match=r"'effect' lies in plate 'row'.*'hierarchical'"):
        guides.make("dais", local)(Y)


def test_nothing_is_recorded_where_the_caller_records_nothing():
    guide = perturbed(guides.make("dais", normals), Y)
    with torch.no_grad():
        assert not guide(Y)["mean"].requires_grad
    assert guide(Y)["mean"].requires_grad


def test_wrong_options_are_named():
    with pytest.raises(guides.FamilyOptionError, match="'num_steps': 0, wanted a positive integer"):
        guides.make("dais", normals, num_steps=0)
    with pytest.raises(guides.FamilyOptionError, match="'base': 'full', wanted one of auto, diagonal, dense"):
        guides.make("dais", normals, base="full")
