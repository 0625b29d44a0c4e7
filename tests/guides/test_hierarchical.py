import itertools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.optim import ClippedAdam
from torch.overrides import TorchFunctionMode

import guides

TAU, NOISE = 0.7, 0.5
Y = torch.tensor([-1.2, 0.1, 0.4, 1.3, 2.2, 2.9], dtype=torch.float64)


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)


def normals(y):
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("row", len(y)):
        effect = pyro.sample("effect", dist.Normal(mean, TAU))
        pyro.sample("y", dist.Normal(effect, NOISE), obs=y)


def batched_normals(y, index, size=6):
    """The same model of a batch: `y` holds the rows `index` of `size`."""
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("row", size, subsample=index):
        effect = pyro.sample("effect", dist.Normal(mean, TAU))
        pyro.sample("y", dist.Normal(effect, NOISE), obs=y)


def exact_parameters(y=Y):
    """The guide's parameters at the posterior: conditional variances and means of conjugate normals."""
    variance = 1.0 / (1.0 / TAU**2 + 1.0 / NOISE**2)
    pull = variance / TAU**2
    mean_variance = 1.0 / (1.0 + len(y) / (TAU**2 + NOISE**2))
    mean = mean_variance * y.sum() / (TAU**2 + NOISE**2)
    root = math.sqrt(mean_variance)
    return {
        ("globals", "loc"): mean[None],
        ("globals", "scale"): torch.tensor([root]),
        ("plate_row", "loc"): (variance * y / NOISE**2 + pull * mean)[:, None],
        ("plate_row", "scale"): torch.full((len(y), 1), math.sqrt(variance)),
        ("plate_row", "on_globals"): torch.full((len(y), 1, 1), pull * root),
    }


def read(guide):
    return {
        (part, name): getattr(getattr(guide.parts, part), name).detach().clone() for part, name in exact_parameters()
    }


def write(guide, values):
    for (part, name), value in values.items():
        owner = getattr(guide.parts, part)
        if name == "scale":
            owner.scale = value
        else:
            getattr(owner, name).data.copy_(value)


def log_ratio(model, guide, *args):
    guide_trace = poutine.trace(guide).get_trace(*args)
    model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(*args)
    return model_trace.log_prob_sum() - guide_trace.log_prob_sum()


def log_evidence(y=Y):
    covariance = (TAU**2 + NOISE**2) * torch.eye(len(y)) + torch.ones(len(y), len(y))
    return dist.MultivariateNormal(torch.zeros(len(y)), covariance).log_prob(y)


class RowNoise(TorchFunctionMode):
    """Serve one fixed noise to the globals and each row its own, whichever rows are asked for."""

    def __init__(self, rows, index):
        super().__init__()
        self.rows, self.index = rows, index

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.Tensor.normal_:
            noise = self.rows[self.index] if args[0].dim() == 2 else torch.full((1,), 0.3)
            return args[0].copy_(noise)
        return func(*args, **(kwargs or {}))


def gradients(model, guide, noise, index, *args):
    with RowNoise(noise, index):
        loss = Trace_ELBO().differentiable_loss(model, guide, *args)
    names, parameters = zip(*guide.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


def perturbed(guide, *args):
    guide(*args)
    with torch.no_grad():
        for parameter in guide.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return guide


def test_log_ratio_is_constant_at_the_posteriors_own_parameters():
    guide = guides.make("hierarchical", normals)
    guide(Y)
    write(guide, exact_parameters())
    ratios = torch.stack([log_ratio(normals, guide, Y) for _ in range(20)]).detach()
    torch.testing.assert_close(ratios, log_evidence().expand(20), rtol=1e-10, atol=1e-10)
    guide.parts.plate_row.on_globals.data[2] += 0.1  # the fault must show
    assert torch.stack([log_ratio(normals, guide, Y) for _ in range(20)]).std() > 1e-3


@pytest.mark.exhaustive
def test_svi_finds_the_posterior():
    guide = guides.make("hierarchical", normals, init_scale=0.5)
    elbo = Trace_ELBO(num_particles=32, vectorize_particles=True, max_plate_nesting=1)
    svi = SVI(normals, guide, ClippedAdam({"lr": 0.01}), elbo)
    kept = []
    for step in range(2_900):
        svi.step(Y)
        if step >= 500:
            kept.append(read(guide))
    z = 6.0  # 26 comparisons, standard errors from eight batches of 300 iterates
    for key, wanted in exact_parameters().items():
        batches = torch.stack([values[key] for values in kept]).unflatten(0, (8, 300)).mean(1)
        error = batches.std(0) / math.sqrt(8)
        assert ((batches.mean(0) - wanted).abs() < z * error).all(), key
        assert (error < 0.01).all(), key


def test_gradient_of_a_batch_touches_its_rows_and_no_others():
    guide = perturbed(guides.make("hierarchical", batched_normals), Y, torch.arange(6))
    index = torch.tensor([4, 1, 3])
    found = gradients(batched_normals, guide, torch.randn(6, 1), index, Y[index], index)
    for name, gradient in found.items():
        if "plate_row" in name:
            touched = gradient.flatten(1).abs().sum(1).nonzero().flatten()
            assert touched.tolist() == [1, 3, 4], name


def test_batches_gradients_average_to_the_full_one():
    guide = perturbed(guides.make("hierarchical", batched_normals), Y, torch.arange(6))
    noise, everything = torch.randn(6, 1), torch.arange(6)
    full = gradients(batched_normals, guide, noise, everything, Y, everything)
    batches = [torch.tensor(index) for index in itertools.combinations(range(6), 2)]
    parts = [gradients(batched_normals, guide, noise, index, Y[index], index) for index in batches]
    for name, wanted in full.items():
        mean = torch.stack([part[name] for part in parts]).mean(0)
        torch.testing.assert_close(mean, wanted, rtol=1e-10, atol=1e-12)


def test_a_guide_with_indices_of_its_own_is_caught():
    guide = perturbed(AutoNormal(batched_normals), Y[:2], torch.arange(2))
    wrong = 0
    for index in itertools.combinations(range(6), 2):
        index = torch.tensor(index)
        loss = Trace_ELBO().differentiable_loss(batched_normals, guide, Y[index], index)
        (gradient,) = torch.autograd.grad(loss, [guide.locs.effect])
        wrong += gradient.nonzero().flatten().tolist() != index.tolist()
    assert wrong > 0


def test_permuted_whole_plate_keeps_rows_and_data_together():
    guide = guides.make("hierarchical", batched_normals)
    guide(Y[:2], torch.arange(2))
    write(guide, exact_parameters())
    for index in (torch.randperm(6), torch.arange(6)):
        torch.testing.assert_close(
            log_ratio(batched_normals, guide, Y[index], index).detach(), log_evidence(), rtol=1e-10, atol=1e-10
        )


@pytest.mark.parametrize("first", [1, 6])
def test_indices_may_come_and_go_and_batches_change_size(first):
    def model(y, index=None):
        batched_normals(y, index)

    guide = guides.make("hierarchical", model)
    guide(Y[:first], torch.arange(first))
    assert guide.parts.plate_row.loc.shape == (6, 1)
    assert guide(Y)["effect"].shape == (6,)
    assert guide(Y[:2], torch.tensor([5, 0]))["effect"].shape == (2,)
    assert guide(Y[:2], [5, 0])["effect"].shape == (2,)


def test_a_subsample_that_pyro_draws_is_shared_with_the_model():
    def model(y):
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("row", len(y), subsample_size=2) as index:
            effect = pyro.sample("effect", dist.Normal(mean, TAU))
            pyro.sample("y", dist.Normal(effect, NOISE), obs=y[index])

    guide = guides.make("hierarchical", model)
    guide(Y)
    write(guide, exact_parameters())
    seen = set()
    for _ in range(20):
        trace = poutine.trace(guide).get_trace(Y)
        replayed = poutine.trace(poutine.replay(model, trace=trace)).get_trace(Y)
        index = trace.nodes["row"]["value"]
        assert torch.equal(index, replayed.nodes["row"]["value"])
        assert trace.nodes["effect"]["scale"] == 3.0
        # a row's share of log p - log q does not depend on its draw, since its conditional is exact
        share = trace.nodes["effect"]["fn"].log_density - trace.nodes["_AutoHierarchical_plate_row"]["fn"].log_prob(
            trace.nodes["_AutoHierarchical_plate_row"]["value"]
        )
        share = share + dist.Normal(trace.nodes["mean"]["value"], TAU).log_prob(trace.nodes["effect"]["value"])
        share = share + dist.Normal(trace.nodes["effect"]["value"], NOISE).log_prob(Y[index])
        wanted = dist.Normal(trace.nodes["mean"]["value"], math.hypot(TAU, NOISE)).log_prob(Y[index])
        torch.testing.assert_close(share, wanted, rtol=1e-10, atol=1e-10)
        seen.add(tuple(index.tolist()))
    assert len(seen) > 5


def nested(y):
    """Two globals, two latents per group (one a vector), one per member."""
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    slope = pyro.sample("slope", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    groups, members = pyro.plate("group", 3, dim=-2), pyro.plate("member", 4, dim=-1)
    with groups:
        level = pyro.sample("level", dist.Normal(mean, 1.0))
        weights = pyro.sample("weights", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with members:
            effect = pyro.sample("effect", dist.Normal(level + (weights * slope).sum(-1), 1.0))
            pyro.sample("y", dist.Normal(effect, 1.0), obs=y)


def dense(guide, part):
    owner = getattr(guide.parts, part)
    return owner.scale[..., None] * owner.scale_tril


def test_density_is_that_of_the_joint_normal():
    """The whole guide is one normal; its Cholesky factor, put together block by block, must give the same density."""
    y = torch.randn(3, 4)
    guide = perturbed(guides.make("hierarchical", nested), y)
    trace = poutine.trace(guide).get_trace(y)
    rows = guide.parts.plate_group, guide.parts.plate_group__member
    assert rows[0].loc.shape == (3, 1, 3)
    assert rows[1].loc.shape == (3, 4, 1)
    factor = torch.zeros(3 + 9 + 12, 24)
    factor[:3, :3] = dense(guide, "globals")
    for i in range(3):
        at = slice(3 + 3 * i, 6 + 3 * i)
        factor[at, :3], factor[at, at] = rows[0].on_globals[i, 0], dense(guide, "plate_group")[i, 0]
        for j in range(4):
            k = 12 + 4 * i + j
            factor[k, :3], factor[k, at] = rows[1].on_globals[i, j, 0], rows[1].on_plate_group[i, j, 0]
            factor[k, k] = rows[1].scale[i, j, 0]
    value = {name: trace.nodes[name]["value"] for name in ("mean", "slope", "level", "weights", "effect")}
    groups = torch.cat([value["level"][..., None], value["weights"]], -1).flatten()
    flat = torch.cat([value["mean"][None], value["slope"], groups, value["effect"].flatten()])
    loc = torch.cat([guide.parts.globals.loc, rows[0].loc.flatten(), rows[1].loc.flatten()])
    wanted = dist.MultivariateNormal(loc, scale_tril=factor).log_prob(flat)
    torch.testing.assert_close(trace.log_prob_sum(), wanted, rtol=1e-10, atol=1e-10)
    quantiles = guide.quantiles([0.5, 0.8413447460685429], y)  # one standard deviation above the median
    torch.testing.assert_close(quantiles["effect"][0], guide.median(y)["effect"])
    sd = (factor @ factor.mT).diagonal().sqrt()
    torch.testing.assert_close((quantiles["effect"][1] - quantiles["effect"][0]).flatten(), sd[12:])
    torch.testing.assert_close((quantiles["slope"][1] - quantiles["slope"][0]), sd[1:3])


class Given(poutine.messenger.Messenger):
    """Give sites the values of their names."""

    def __init__(self, values):
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg):
        if msg["name"] in self.values:
            msg["value"] = self.values[msg["name"]]


def test_vectorised_particles_are_scored_as_they_are_one_by_one():
    y = torch.randn(3, 4)
    guide = perturbed(guides.make("hierarchical", nested), y)
    shapes = {
        name: node["value"].shape
        for name, node in poutine.trace(guide).get_trace(y).nodes.items()
        if name.startswith("_AutoHierarchical")
    }
    with pyro.plate("particles", 5, dim=-3):
        trace = poutine.trace(guide).get_trace(y)
        together = poutine.trace(poutine.replay(nested, trace=trace)).get_trace(y).log_prob_sum()
    together = together - trace.log_prob_sum()
    alone = [
        log_ratio(
            nested, Given({n: trace.nodes[n]["value"][i].reshape(shape) for n, shape in shapes.items()})(guide), y
        )
        for i in range(5)
    ]
    torch.testing.assert_close(together, sum(alone), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("plates", ["group", "member"])
def test_explicit_subsamples_of_nested_plates(dtype, plates):
    torch.set_default_dtype(dtype)
    index = torch.tensor([2, 0])

    def model(y):
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        groups = pyro.plate("group", 3, dim=-2, subsample=index if plates == "group" else None)
        members = pyro.plate("member", 4, dim=-1, subsample=index if plates == "member" else None)
        with groups:
            level = pyro.sample("level", dist.Normal(mean, 1.0))
            with members:
                scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
                weights = pyro.sample("weights", dist.Dirichlet(torch.ones(3)))
                pyro.sample("y", dist.Normal(level + weights[..., 0], scale), obs=y)

    y = torch.randn(2, 4) if plates == "group" else torch.randn(3, 2)
    guide = perturbed(guides.make("hierarchical", model), y)
    assert guide.parts.plate_group__member.loc.shape == (3, 4, 3)
    drawn = guide(y)
    assert drawn["weights"].shape == (*y.shape, 3)
    assert drawn["scale"].dtype == dtype
    Trace_ELBO(num_particles=3, vectorize_particles=True, max_plate_nesting=2).differentiable_loss(
        model, guide, y
    ).backward()
    gradient = guide.parts.plate_group__member.loc.grad
    rows = gradient.abs().sum((1, 2) if plates == "group" else (0, 2))
    assert rows[index].all()
    assert rows.count_nonzero() == 2


def test_supports_are_taken_at_the_values_drawn():
    upper = torch.tensor([1.0, 2.0, 3.0])

    def model(index):
        bound = pyro.sample("bound", dist.LogNormal(0.0, 1.0))
        pyro.sample("below", dist.Uniform(0.0, bound))
        with pyro.plate("row", 3, subsample=index):
            pyro.sample("part", dist.Uniform(0.0, bound * upper[index]))

    guide = perturbed(guides.make("hierarchical", model, init_scale=1.0), torch.arange(3))
    for index in (torch.tensor([2, 1]), torch.arange(3)):
        trace = poutine.trace(guide).get_trace(index)
        trace.compute_log_prob()
        value = {name: trace.nodes[name]["value"] for name in ("bound", "below", "part")}
        ends = {"below": value["bound"], "part": value["bound"] * upper[index]}
        inner = {name: value[name] / end for name, end in ends.items()}
        assert all(((x > 0) & (x < 1)).all() for x in inner.values())
        wanted = trace.nodes["_AutoHierarchical_globals"]["log_prob_sum"] - value["bound"].log()
        wanted = wanted - (ends["below"] * inner["below"] * (1 - inner["below"])).log()
        rows = trace.nodes["_AutoHierarchical_plate_row"]["log_prob_sum"]
        rows = rows - 3 / len(index) * (ends["part"] * inner["part"] * (1 - inner["part"])).log().sum()
        torch.testing.assert_close(trace.log_prob_sum(), wanted + rows, rtol=1e-10, atol=1e-10)
    assert guide.median(torch.tensor([1]))["part"].shape == (1,)


def test_looking_at_the_model_draws_nothing_and_leaves_no_site():
    runs = []

    def model(y):
        runs.append(1)
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("row", len(y), subsample_size=3) as index:
            pyro.sample("effect", dist.Normal(mean, 1.0))
            component = pyro.sample("k", dist.Categorical(torch.ones(2)), infer={"enumerate": "parallel"})
            pyro.sample("y", dist.Normal(component * 1.0, 1.0), obs=y[index])
            runs.append("end")

    guide = guides.make("hierarchical", model)
    guide(Y)
    before = torch.get_rng_state()
    runs.clear()
    guide._elements((Y,), {})
    assert runs == [1]  # left behind the last plate
    assert torch.equal(before, torch.get_rng_state())
    names = {name for name, node in poutine.trace(guide).get_trace(Y).nodes.items() if node["type"] == "sample"}
    assert names == {"row", "mean", "effect", "_AutoHierarchical_globals", "_AutoHierarchical_plate_row"}


def test_locals_without_globals_and_globals_without_locals():
    def only_locals(y):
        with pyro.plate("row", len(y)):
            pyro.sample("y", dist.Normal(pyro.sample("effect", dist.Normal(0.0, 1.0)), 1.0), obs=y)

    def only_globals(y):
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        with pyro.plate("row", len(y)):
            pyro.sample("y", dist.Normal(mean[..., :1], 1.0), obs=y)

    for model in (only_locals, only_globals):
        guide = guides.make("hierarchical", model)
        guide(Y)
        loss = Trace_ELBO(num_particles=3, vectorize_particles=True, max_plate_nesting=1)
        assert math.isfinite(loss.loss(model, guide, Y))


def test_dependencies_can_be_left_out():
    guide = guides.make("hierarchical", normals, dependencies="none")
    guide(Y)
    assert not hasattr(guide.parts.plate_row, "on_globals")
    with pytest.raises(guides.FamilyOptionError, match="'dependencies': 'quadratic', wanted one of linear, none"):
        guides.make("hierarchical", normals, dependencies="quadratic")


def test_what_it_cannot_serve_is_named():
    def unclaimed(y):
        with pyro.plate("row", len(y)):
            pyro.sample("effect", dist.Normal(torch.zeros(2, len(y)), 1.0))

    def endless(y):
        with pyro.plate("row"):
            pyro.sample("effect", dist.Normal(y, 1.0))

    with pytest.raises(guides.UnsuitableModelError, match=r"'effect'.*\(2, 6\).*'row'.*to_event"):
        guides.make("hierarchical", unclaimed)(Y)
    with pytest.raises(guides.UnsuitableModelError, match=r"'effect': its plate 'row' has no size"):
        guides.make("hierarchical", endless)(Y)
