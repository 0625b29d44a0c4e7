"""`ppl.fit`: what may be given, what is left untouched, and how a fit ends."""

import copy
import dataclasses

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from closed_forms import DATA, X, Y, regression
from pyro.distributions import constraints
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoDelta, AutoMultivariateNormal, AutoNormal
from pyro.nn import PyroModule, PyroSample
from randomness import seeded
from torch import nn

import ppl_models as ppl
from ppl_models.errors import DataError, GuideError, ModelError, OptionError, UnknownNameError

SHORT = {"max_steps": 3, "num_particles": 1, "seed": 0}


def by_hand(x, y=None):
    location = pyro.param("location", torch.zeros(2))
    scale = pyro.param("scale", torch.ones(2), constraint=constraints.positive)
    pyro.sample("weights", dist.Normal(location, scale).to_event(1))


class Amortised(nn.Module):
    """An encoder of the data; also usable through its bound method."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x, y=None):
        pyro.module("encoder", self)
        location, log_scale = self.layer(y).chunk(2)
        return pyro.sample("weights", dist.Normal(location, log_scale.exp()).to_event(1))

    def encode(self, x, y=None):
        return self.forward(x, y)


class Bayesian(PyroModule):
    """Regression as Pyro's tutorial writes it: a layer with priors, made in float32."""

    def __init__(self):
        super().__init__()
        self.linear = PyroModule[nn.Linear](2, 1, bias=False)
        self.linear.weight = PyroSample(dist.Normal(0.0, 1.0).expand([1, 2]).to_event(2))
        self.offset = nn.Parameter(torch.tensor(0.5))

    def forward(self, x, y=None):
        mean = self.linear(x).squeeze(-1) + self.offset
        with pyro.plate("row", len(x)):
            return pyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def make_amortised():
    with seeded():
        return Amortised()


GUIDES = {
    "name": (lambda: "normal", "normal"),
    "class": (lambda: AutoNormal, "AutoNormal"),
    "instance": (lambda: AutoMultivariateNormal(regression), "AutoMultivariateNormal"),
    "factory": (lambda: lambda model: AutoDelta(model), "AutoDelta"),
    "function": (lambda: by_hand, "by_hand"),
    "module": (make_amortised, "Amortised"),
    "method": (lambda: make_amortised().encode, "Amortised.encode"),
    "factory of a function": (lambda: lambda model: by_hand, "<lambda>"),
}


@pytest.mark.parametrize("kind", GUIDES)
def test_guides_of_every_kind(kind):
    make, name = GUIDES[kind]
    fit = ppl.fit(regression, DATA, guide=make(), **SHORT)
    assert fit.guide_name == name
    assert fit.family == ("normal" if kind == "name" else None)
    assert fit.losses.shape == (3,)
    assert fit.sample(5, seed=1)["posterior"]["weights"].shape == (1, 5, 2)


@pytest.mark.parametrize("data", [DATA, (X, Y), {"x": X.numpy(), "y": Y.tolist()}])
def test_data_as_mapping_or_tuple_of_arrays(data):
    losses = ppl.fit(regression, data, guide="normal", **SHORT).losses
    assert np.array_equal(losses, ppl.fit(regression, DATA, guide="normal", **SHORT).losses)


def same_state(module, before):
    after = module.state_dict()
    return after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)


def test_users_modules_are_not_trained():
    with seeded():
        model, guide = Bayesian(), AutoNormal(regression)
        encoder = Amortised()
        guide(X, Y)
    pyro.clear_param_store()
    held = [(module, copy.deepcopy(module.state_dict())) for module in (model, guide, encoder)]
    ppl.fit(model, DATA, guide="normal", **SHORT)
    fits = [ppl.fit(regression, DATA, guide=one, **SHORT) for one in (guide, encoder, encoder.encode)]
    assert all(same_state(module, before) for module, before in held)
    assert all(parameter.dtype == torch.float32 for parameter in encoder.parameters())
    assert all(parameter.grad is None for module, _ in held for parameter in module.parameters())
    for fit in fits:
        fit.sample(3, seed=0)
    assert all(same_state(module, before) for module, before in held)
    assert guide._model is not None
    assert guide.prototype_trace is not None


def test_model_module_is_trained_in_its_copy():
    with seeded():
        model = Bayesian()
    fit = ppl.fit(model, DATA, guide="normal", max_steps=300, seed=0)
    assert fit.config["dtype"] == "float64"
    assert float(fit.parameters["offset"]) != 0.5
    assert float(model.offset.detach()) == 0.5


def test_tensors_held_by_closures_are_given_back():
    with seeded():
        layer = nn.Linear(2, 1).double()
    start = torch.zeros(2, dtype=torch.float64)
    weight = layer.weight.detach().clone()

    def model(x, y=None):
        pyro.module("layer", layer)
        weights = pyro.sample("weights", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        with pyro.plate("row", len(x)):
            pyro.sample("y", dist.Normal(layer(x).squeeze(-1) + x @ weights, 1.0), obs=y)

    def guide(x, y=None):
        pyro.sample("weights", dist.Normal(pyro.param("start", start), 1.0).to_event(1))

    fit = ppl.fit(model, DATA, guide=guide, max_steps=20, num_particles=1, seed=0)
    assert float((fit.parameters["start"]).abs().min()) > 0
    assert not torch.equal(fit.parameters["layer$$$weight"], weight)
    first = fit.sample(10, seed=0)["posterior"]["weights"].values
    assert torch.equal(layer.weight, weight)
    assert start.tolist() == [0.0, 0.0]
    assert start.grad is None
    assert not start.requires_grad
    again = ppl.fit(model, DATA, guide=guide, max_steps=20, num_particles=1, seed=0)
    assert np.array_equal(again.losses, fit.losses)
    assert np.array_equal(fit.sample(10, seed=0)["posterior"]["weights"].values, first)


@pytest.mark.parametrize(
    "options",
    [
        *({"max_steps": value} for value in (-1, 0, 1.5, True, "10", None)),
        *({"step_size": value} for value in (0, -1.0, float("nan"), float("inf"), "fast", True)),
        *({"num_particles": value} for value in (0, -1, 2.5)),
        *({"init_scale": value} for value in (0.0, -0.1)),
        *({"seed": value} for value in (-1, 1.5, None)),
        {"elbo": "Trace_ELBO"},
        {"elbo": Trace_ELBO},
        {"optimizer": torch.optim.Adam},
        {"dtype": torch.float16},
    ],
    ids=str,
)
def test_options_are_refused(options):
    (name,) = options
    with pytest.raises(OptionError, match=name):
        ppl.fit(regression, DATA, guide="normal", **options)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"guide": "ful_rank"}, UnknownNameError, ["'ful_rank'", "nearest first: full_rank"]),
        ({"guide": "normal", "backend": "induct"}, UnknownNameError, ["'induct'", "nearest first: inductor"]),
        ({"guide": "normal", "guide_options": {"rank": 2}}, OptionError, ["rank"]),
        ({"guide": "low_rank", "guide_options": {"rank": 0}}, OptionError, ["rank", "0"]),
        ({"guide": by_hand, "guide_options": {"rank": 2}}, OptionError, ["rank", "by text"]),
        ({"guide": 3}, GuideError, ["int", "family name"]),
        ({"guide": nn.Linear}, GuideError, ["Linear", "AutoGuide"]),
    ],
)
def test_guides_and_backends_are_refused(options, error, words):
    with pytest.raises(error) as caught:
        ppl.fit(regression, DATA, **options)
    assert all(word in str(caught.value) for word in words), caught.value


def test_guide_options_reach_the_family():
    fit = ppl.fit(regression, DATA, guide="low_rank", guide_options={"rank": 1}, **SHORT)
    assert fit.parameters["AutoLowRankMultivariateNormal.cov_factor"].shape == (2, 1)


def positive(x, y=None):
    scale = pyro.sample("scale", dist.HalfNormal(1.0))
    with pyro.plate("row", len(x)):
        pyro.sample("z", dist.Normal(0.0, scale))
        pyro.sample("y", dist.Normal(0.0, scale), obs=y)


def misses(x, y=None):
    pyro.sample("scale", dist.LogNormal(0.0, 1.0))


def too_many(x, y=None):
    misses(x)
    pyro.sample("other", dist.Normal(0.0, 1.0))
    with pyro.plate("row", 4):
        pyro.sample("z", dist.Normal(0.0, 1.0))


def outside_its_plate(x, y=None):
    misses(x)
    pyro.sample("z", dist.Normal(0.0, 1.0))


def negative(x, y=None):
    pyro.sample("scale", dist.Normal(-5.0, 0.1))
    with pyro.plate("row", 4):
        pyro.sample("z", dist.Normal(0.0, 1.0))


def fails(x, y=None):
    raise TypeError("no such thing")


@pytest.mark.parametrize(
    ("guide", "words"),
    [
        (misses, ["'z'", "misses"]),
        (too_many, ["'other'"]),
        (outside_its_plate, ["'z'", "()", "(4,)", "plates"]),
        (negative, ["support"]),
        (fails, ["'fails'", "TypeError", "no such thing"]),
    ],
)
def test_guide_that_does_not_fit_the_model_is_named_before_any_step(guide, words):
    with pytest.raises(GuideError) as caught:
        ppl.fit(positive, DATA, guide=guide, **SHORT)
    assert all(word in str(caught.value) for word in words), caught.value


def test_discrete_latent_needs_enumeration_or_a_guide_of_its_own():
    def model(y, summed=False):
        infer = {"enumerate": "parallel"} if summed else {}
        flip = pyro.sample("flip", dist.Bernoulli(0.5), infer=infer)
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(mu + flip, 1.0), obs=y)

    def guide(y, summed=False):
        pyro.sample("flip", dist.Bernoulli(pyro.param("p", torch.tensor(0.5), constraint=constraints.unit_interval)))
        pyro.sample("mu", dist.Normal(pyro.param("m", torch.tensor(0.0)), 1.0))

    data = {"y": torch.tensor(0.3)}
    with pytest.raises(GuideError, match=r"'flip'.*enumerate"):
        ppl.fit(model, data, guide="normal", **SHORT)
    fit = ppl.fit(model, data, guide=guide, **SHORT)
    assert set(np.unique(fit.sample(50, seed=0)["posterior"]["flip"])) == {0.0, 1.0}
    summed = ppl.fit(model, {**data, "summed": True}, guide="normal", **SHORT)
    assert summed.config["elbo"] == "TraceEnum_ELBO"
    assert set(summed.sample(3, seed=0)["posterior"].data_vars) == {"mu"}


def test_support_that_moves_is_refused_for_automatic_guides():
    def model():
        top = pyro.sample("top", dist.LogNormal(0.0, 1.0))
        pyro.sample("low", dist.Uniform(0.0, top))

    with pytest.raises(GuideError, match=r"'low'.*depends on another latent"):
        ppl.fit(model, {}, guide="full_rank", **SHORT)


def test_wrong_data_is_named():
    with pytest.raises(DataError, match="'y'"):
        ppl.fit(regression, {"x": X, "y": Y[:3]}, guide="normal", **SHORT)
    with pytest.raises(ModelError, match="no latent site"):
        ppl.fit(lambda y: pyro.sample("y", dist.Normal(0.0, 1.0), obs=y), (torch.tensor(0.0),), guide="normal")


class Planted(Trace_ELBO):
    """An ELBO that misbehaves at one step."""

    def __init__(self, at, outcome):
        super().__init__()
        self.at, self.outcome, self.count = at, outcome, 0

    def loss_and_grads(self, model, guide, *args, **kwargs):
        loss = super().loss_and_grads(model, guide, *args, **kwargs)
        if self.count == self.at:
            return self.outcome()
        self.count += 1
        return loss


def same_parameters(first, second):
    return all(torch.equal(value, second.parameters[name]) for name, value in first.parameters.items())


def test_diverged_fit_keeps_the_last_good_parameters():
    def run(elbo, max_steps):
        adam = pyro.optim.Adam({"lr": 0.03})  # without a cool-down, which max_steps would decide about
        return ppl.fit(regression, DATA, guide=by_hand, elbo=elbo, optimizer=adam, max_steps=max_steps, seed=0)

    fit = run(Planted(120, lambda: float("nan")), 1_000)
    good = run(Planted(10_000, lambda: 0.0), 100)
    assert (fit.status, fit.steps) == ("diverged", 120)
    assert "step 120" in fit.note
    assert "step 120" in repr(fit)
    assert same_parameters(fit, good)
    assert np.array_equal(fit.losses[:100], good.losses)
    assert np.isfinite(fit.sample(10, seed=0)["posterior"]["weights"]).all()


def test_keyboard_interrupt_inside_the_model_keeps_what_was_done():
    stop = []

    def model(x, y=None):
        if stop:
            raise KeyboardInterrupt
        return regression(x, y)

    def arm():
        stop.append(True)
        return 0.0

    fit = ppl.fit(model, DATA, guide=by_hand, elbo=Planted(40, arm), max_steps=1_000, step_size=0.03, seed=0)
    stop.clear()
    assert (fit.status, fit.steps) == ("interrupted", 41)
    assert "41 steps" in fit.note
    assert fit.sample(3, seed=0)["posterior"]["weights"].shape == (1, 3, 2)


def test_max_steps_is_a_status():
    fit = ppl.fit(regression, DATA, guide="normal", max_steps=10, seed=0)
    assert (fit.status, fit.steps, fit.note) == ("max_steps", 10, "")


def test_laplace_without_a_mode_has_diverged():
    def bowl():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.factor("outwards", z**2)

    fit = ppl.fit(bowl, {}, guide="laplace", max_steps=60, seed=0)
    assert fit.status == "diverged"
    assert "eigenvalue" in fit.note
    assert fit.point


def test_users_elbo_and_optimizer():
    fit = ppl.fit(
        regression,
        DATA,
        guide=by_hand,
        elbo=TraceMeanField_ELBO(num_particles=2),
        optimizer=pyro.optim.ClippedAdam({"lr": 0.01}),
        max_steps=12,
        seed=0,
    )
    assert fit.config["elbo"] == "TraceMeanField_ELBO"
    assert fit.config["optimizer"] == "ClippedAdam"
    assert fit.config["num_particles"] == 2
    assert fit.steps == 12
    assert fit.constant_phase == (0, 12)


def test_scheduler_is_stepped_with_the_optimizer():
    """Steps of 1, 1/2, 1/4, … move a parameter with constant gradient by their sum."""

    def model():
        pyro.sample("z", dist.Normal(0.0, 1.0).mask(False))

    def guide():
        slope = pyro.param("slope", torch.tensor(0.0))
        pyro.sample("z", dist.Normal(0.0, 1.0).mask(False))
        pyro.factor("ramp", -slope, has_rsample=True)

    scheduler = pyro.optim.ExponentialLR({"optimizer": torch.optim.SGD, "optim_args": {"lr": 1.0}, "gamma": 0.5})
    fit = ppl.fit(model, {}, guide=guide, optimizer=scheduler, elbo=Trace_ELBO(), max_steps=4, seed=0)
    assert float(fit.parameters["slope"]) == pytest.approx(1 + 1 / 2 + 1 / 4 + 1 / 8)


def test_improper_prior_fits():
    def model(y):
        mu = pyro.sample("mu", dist.ImproperUniform(constraints.real, (), ()))
        sigma = pyro.sample("sigma", dist.ImproperUniform(constraints.positive, (), ()))
        with pyro.plate("row", len(y)):
            pyro.sample("y", dist.Normal(mu, sigma), obs=y)

    for guide in ("normal", "full_rank", "laplace"):
        fit = ppl.fit(model, (np.array([0.0, 1.0, 2.0, 4.0]),), guide=guide, max_steps=60, seed=0)
        draws = fit.sample(20, seed=0)
        assert np.isfinite(draws["sample_stats"]["log_p"]).all()
        assert (draws["posterior"]["sigma"] > 0).all()


@pytest.mark.parametrize("guide", ["normal", "full_rank"])
def test_subsampled_model_fits_and_is_judged_on_all_its_data(guide):
    def model(y):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("row", len(y), subsample_size=5) as index:
            pyro.sample("y", dist.Normal(mu, 1.0), obs=y[index])

    y = np.linspace(-1.0, 3.0, 40)
    fit = ppl.fit(model, (y,), guide=guide, max_steps=50, seed=0)
    tree = fit.sample(5, seed=0, include=("log_likelihood",))
    assert tree["log_likelihood"]["y"].shape == (1, 5, 40)
    mu = tree["posterior"]["mu"].values[0]
    log_p = -0.5 * mu**2 - 0.5 * ((y[:, None] - mu) ** 2).sum(0) - 41 / 2 * np.log(2 * np.pi)
    np.testing.assert_allclose(tree["sample_stats"]["log_p"].values[0], log_p, rtol=1e-10)


def test_local_latents_of_a_subsampled_plate():
    def model(y):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("row", len(y), subsample_size=5) as index:
            z = pyro.sample("z", dist.Normal(mu, 1.0))
            pyro.sample("y", dist.Normal(z, 1.0), obs=y[index])

    def by_plates(model):
        return AutoNormal(model, create_plates=lambda y: pyro.plate("row", len(y), subsample_size=5))

    fit = ppl.fit(model, (np.linspace(-1.0, 3.0, 12),), guide=by_plates, max_steps=5, seed=0)
    assert fit.sample(3, seed=0)["posterior"]["z"].shape == (1, 3, 12)


def test_float32_by_option():
    fit = ppl.fit(regression, DATA, guide="normal", dtype=torch.float32, **SHORT)
    assert fit.config["dtype"] == "float32"
    assert fit.sample(3, seed=0)["posterior"]["weights"].dtype == np.float32


def test_network_of_a_closure_sets_float32():
    with seeded():
        layer = nn.Linear(2, 1)

    def model(x, y=None):
        pyro.module("layer", layer)
        weights = pyro.sample("weights", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        with pyro.plate("row", len(x)):
            pyro.sample("y", dist.Normal(layer(x).squeeze(-1) + x @ weights, 1.0), obs=y)

    assert ppl.fit(model, DATA, guide="normal", **SHORT).config["dtype"] == "float32"


def test_large_module_is_fitted_in_float32():
    class Large(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(torch.zeros(2, 60_000))

        def forward(self, x, y=None):
            pyro.module("large", self)
            return regression(x, y)

    assert ppl.fit(Large(), DATA, guide="normal", **SHORT).config["dtype"] == "float32"
    assert ppl.fit(Large(), DATA, guide="normal", dtype=torch.float64, **SHORT).config["dtype"] == "float64"


def test_result_is_frozen():
    fit = ppl.fit(regression, DATA, guide="normal", **SHORT)
    with pytest.raises(dataclasses.FrozenInstanceError):
        fit.status = "converged"
    with pytest.raises(ValueError, match="read-only"):
        fit.losses[0] = 0.0
    fit.parameters["AutoNormal.locs.weights"].zero_()
    assert fit.program.parameters.values["AutoNormal.locs.weights"].abs().min() > 0


def test_nothing_is_printed(capsys):
    ppl.fit(regression, DATA, guide="normal", **SHORT)
    assert capsys.readouterr() == ("", "")
    ppl.fit(regression, DATA, guide="normal", progress=True, **SHORT)
    out, err = capsys.readouterr()
    assert out == ""
    assert "fit normal" in err


def test_guide_called_guide_is_named_by_its_module():
    def guide(x, y=None):
        by_hand(x, y)

    assert ppl.fit(regression, DATA, guide=guide, **SHORT).guide_name == "test_fit"
