"""Training by epochs: what is kept, when it stops, what it tells, and that a break changes nothing."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pyro
import pyro.distributions as dist
import pyro.poutine as poutine
import pytest
import torch
from engine.steps import Plain
from randomness import seeded
from torch import nn
from torch.distributions import Normal, kl_divergence
from torch.utils.data import DataLoader, Dataset, TensorDataset

import ppl_models as ppl
from ppl_models.engine import Adam, CompiledSteps, SviGraph, elbo_function
from ppl_models.errors import DataError, GuideError, ModelError, OptionError
from ppl_models.inference import checkpoint, epochs
from ppl_models.inference import steps as steps_file
from ppl_models.inference.collapse import COLLAPSED, judge_collapse
from ppl_models.inference.epochs import Epochs
from ppl_models.inference.look import Figures
from ppl_models.program import build_program, find_rows
from ppl_models.program.estimators import WeightedKl
from ppl_models.program.feeds import Resident, ResidentFeed
from ppl_models.program.mixed_precision import MixedPrecision
from ppl_models.program.row_scale import RowScale

NUM_ROWS, FEATURES, UNITS = 50, 6, 2
OPTIONS = {"seed": 1, "step_size": 0.01, "batch_size": 16, "backend": "eager", "num_particles": 1}


class Autoencoder(nn.Module):
    """A linear decoder, and an encoder large enough to learn rows by heart."""

    def __init__(self, hidden=8):
        super().__init__()
        with seeded(1):
            self.decoder = nn.Linear(UNITS, FEATURES)
            self.encoder = nn.Sequential(nn.Linear(FEATURES, hidden), nn.Tanh(), nn.Linear(hidden, 2 * UNITS))

    noise = 0.5

    def model(self, x):
        pyro.module("decoder", self.decoder)
        with pyro.plate("datum", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x), UNITS), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), self.noise).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("encoder", self.encoder)
        location, log_scale = self.encoder(x).chunk(2, -1)
        with pyro.plate("datum", len(x)):
            pyro.sample("z", dist.Normal(location, log_scale.exp()).to_event(1))


def data(num_rows=NUM_ROWS, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(num_rows, UNITS)) @ rng.normal(size=(UNITS, FEATURES)) + 0.5 * rng.normal(
        size=(num_rows, FEATURES)
    )


def fit(values=None, model=None, **options):
    auto = model or Autoencoder()
    values = {"x": data()} if values is None else values
    return ppl.fit(auto.model, values, guide=auto.guide, **{"max_epochs": 4, **OPTIONS, **options})


@pytest.fixture
def plain(monkeypatch):
    """The graph of a step, run by torch: compiled steps without a compiler."""
    backend = Plain()
    backend.name = "native"
    monkeypatch.setattr(steps_file, "COMPILERS", {"native": backend})
    return backend


def same(one, other):
    np.testing.assert_array_equal(one.losses, other.losses)
    for name, value in one.parameters.items():
        assert torch.equal(value, other.parameters[name]), name
    columns = [name for name in one.history if "seconds" not in name]
    assert one.history[columns].equals(other.history[columns])


# What is told.


def test_history_is_in_nats_per_row_and_adds_up():
    found = fit(max_epochs=6, held_out=0.2)
    history, rows = found.history, 40
    assert list(history.epoch) == [1, 2, 3, 4, 5, 6]
    assert list(history.steps) == [3 * epoch for epoch in history.epoch]
    weights = np.array([16, 16, 8]) / rows
    objective = -(found.losses.reshape(6, 3) @ weights) / rows
    np.testing.assert_allclose(history.objective, objective, rtol=1e-10)
    looked = history.dropna()
    np.testing.assert_allclose(
        looked.validation_bound, looked.validation_reconstruction - looked.validation_kl, rtol=1e-10
    )
    assert history.step_size.iloc[0] == 0.01
    assert history.step_size.iloc[-1] == pytest.approx(1e-4)
    assert "validation ELBO" in repr(found)
    assert found.config["num_rows"] == rows
    assert not found.program.batched
    assert found.sample(3)["posterior"]["z"].shape == (1, 3, NUM_ROWS, UNITS)


def test_the_divergence_told_is_that_of_the_rows_looked_at():
    """All rows are looked at, and the last look is at the fit's own parameters."""
    found, auto = fit(), Autoencoder().double()
    auto.encoder.load_state_dict({k.removeprefix("encoder$$$"): v for k, v in found.parameters.items() if "enc" in k})
    with torch.no_grad():
        location, log_scale = auto.encoder(torch.as_tensor(data())).chunk(2, -1)
        exact = kl_divergence(Normal(location, log_scale.exp()), Normal(0.0, 1.0)).sum(-1).mean()
    assert found.history.training_kl.iloc[-1] == pytest.approx(float(exact), rel=1e-10)
    elbo, error = found.elbo(2_000)
    told = found.history.training_bound.iloc[-1]
    assert abs(told - elbo / NUM_ROWS) < 4.0 * error * math.sqrt(2_000) / NUM_ROWS  # a look is one draw of each row


# What is given.


class Rows(Dataset):
    def __init__(self, values, as_mapping=False):
        self.values, self.as_mapping = values, as_mapping

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        return {"x": self.values[index]} if self.as_mapping else self.values[index]


@pytest.mark.parametrize("backend", ["eager", "native"])
def test_loaders_and_datasets_stand_for_all_their_rows(plain, backend):
    x = torch.as_tensor(data())
    options = {"backend": backend, "max_epochs": 2}
    given = [
        ({"x": x}, {}),
        (TensorDataset(x), {}),
        (Rows(x), {}),
        (Rows(x, as_mapping=True), {}),
        (DataLoader(TensorDataset(x), batch_size=16, shuffle=True), {"batch_size": None}),
        (Rows(x), {"held_out": 0.2}),
    ]
    if backend != "eager":
        given = [given[0], given[2], given[4]]
    found = [fit(values, **{**options, **other}) for values, other in given]
    for one in found:
        assert one.backend == backend
        assert one.config["num_rows"] == (40 if one.config["held_out"] else NUM_ROWS)
        # Losses are of all rows, so that all ways agree but for the order of batches.
        assert one.history.objective.iloc[0] == pytest.approx(found[0].history.objective.iloc[0], rel=0.15)
    if backend == "eager":
        same(found[2], found[4])
        same(found[2], found[3])
    else:
        same(found[1], found[2])
    loaded = found[min(4, len(found) - 1)]
    assert not loaded.program.batched  # its first batch is data like any other
    assert loaded.sample(2)["posterior"]["z"].shape == (1, 2, 16, UNITS)


@pytest.mark.parametrize(("num_rows", "steps"), [(1, 1), (7, 1), (16, 1), (17, 2)])
def test_odd_batches_and_few_rows(plain, num_rows, steps):
    for backend in ("eager", "native"):
        found = fit({"x": data(num_rows)}, backend=backend, max_epochs=2)
        assert found.steps == 2 * steps
        assert np.isfinite(found.losses).all()


def test_bad_rows_are_named_with_their_place():
    x = data()
    x[40, 1] = np.nan
    with pytest.raises(DataError, match="NaN"):
        fit({"x": x})
    with pytest.raises(DataError, match=r"batch 3 of epoch 1 of the DataLoader: argument 'x'.*NaN"):
        fit(DataLoader(TensorDataset(torch.as_tensor(x)), batch_size=16), batch_size=None)


def test_batches_that_stand_for_themselves_alone_are_told_of():
    auto, loader = Autoencoder(), DataLoader(TensorDataset(torch.as_tensor(data())), batch_size=16)
    options = {"guide": auto.guide, "max_steps": 3, "seed": 1, "backend": "eager"}

    def scaled(x):
        with poutine.scale(scale=NUM_ROWS / len(x)):
            auto.model(x)

    assert "Give max_epochs" in ppl.fit(auto.model, loader, **options).note
    assert "max_epochs" not in ppl.fit(scaled, loader, **options).note
    assert "max_epochs" not in ppl.fit(auto.model, loader, **options, max_epochs=1).note


class Fading(Dataset):
    """Zeros and ones at first, greys from the second epoch on."""

    def __init__(self):
        self.taken = 0

    def __len__(self):
        return 32

    def __getitem__(self, index):
        self.taken += 1
        return torch.ones(FEATURES) * (1.0 if self.taken <= 3 * 32 else 0.5)  # sizes and the first batch are asked for


def test_rows_outside_of_the_support_are_named_with_their_place():
    def binary(x):
        with pyro.plate("datum", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x), UNITS), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=z.sum(-1, keepdim=True).expand(x.shape)).to_event(1), obs=x)

    def trained(rows, **options):
        ppl.fit(binary, rows, guide=Autoencoder().guide, **{**OPTIONS, "max_epochs": 4, **options})

    bad = torch.ones(40, FEATURES)
    bad[39, 1] = 0.5
    held = DataLoader(TensorDataset(bad), batch_size=16)
    for rows, options, match in (
        ({"x": bad}, {}, r"^site 'x' .*1 of 240 .*index \(39, 1\)"),
        ({"x": bad[:30]}, {"held_out": {"x": bad}}, r"^held_out: site 'x' .*index \(39, 1\)"),
        ({"x": bad[:30]}, {"held_out": held}, r"^held_out: site 'x' .*index \(7, 1\)"),
        (held, {"batch_size": None}, r"batch 3 of epoch 1 of the DataLoader: site 'x' .*index \(7, 1\)"),
        (DataLoader(Fading(), batch_size=16), {"batch_size": None}, r"batch . of epoch [2-4] of the Data.*site 'x'"),
    ):
        with pytest.raises(DataError, match=match):
            trained(rows, **options)
    assert not pyro.get_param_store().keys()


def test_options_that_do_not_go_together_are_refused():
    for options, match in (
        ({"warmup_epochs": 4}, "warmup_epochs.*raise max_epochs"),
        ({"warmup_epochs": 2, "max_steps": 8}, "warmup_epochs"),
        ({"batch_size": None, "max_epochs": None, "warmup_epochs": 4}, "only a training by epochs"),
        ({"batch_size": None, "max_epochs": None, "held_out": 0.1}, "training by epochs"),
        ({"held_out": 1.5}, "held_out"),
        ({"patience": 3}, "patience"),
        ({"beta": 4.0, "estimator": "importance_weighted"}, "another objective"),
        ({"beta": -1.0}, "beta"),
        ({"mixed_precision": True, "dtype": torch.float64}, "float32"),
        ({"checkpoint": "x", "optimizer": pyro.optim.Adam({"lr": 0.1})}, "checkpoint"),
    ):
        with pytest.raises(OptionError, match=match):
            fit(**options)
    with pytest.raises(GuideError, match="amortised"):
        ppl.fit(Autoencoder().model, {"x": data()}, guide="normal", batch_size=16, max_epochs=1)

    def no_plate(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0).expand(x.shape).to_event(2), obs=x)

    with pytest.raises(ModelError, match="no plate over the rows"):
        ppl.fit(no_plate, {"x": data()}, guide="normal", batch_size=16)


# When it stops, and what is kept.


def test_patience_waits_for_the_warm_up_and_the_best_weights_are_kept(monkeypatch):
    monkeypatch.setattr(epochs, "STEPS_PER_LOOK", 1)
    found = fit(max_epochs=60, held_out=0.4, warmup_epochs=5, patience=4, model=Autoencoder(64), step_size=0.05)
    history = found.history
    judged = history[history.epoch >= 5].validation_bound
    best = int(history.epoch[judged.idxmax()])
    assert found.status == "converged"
    assert best >= 5
    assert len(history) == best + 4
    np.testing.assert_allclose(history.kl_weight[:6], [0.2, 0.4, 0.6, 0.8, 1.0, 1.0])

    def stop(course):
        if len(course.history) == best:
            raise KeyboardInterrupt

    # A fit that ends there has the same weights: later epochs left no trace.
    monkeypatch.setattr(Epochs, "_epoch", _then(Epochs._epoch, stop))
    cut = fit(max_epochs=60, held_out=0.4, warmup_epochs=5, patience=4, model=Autoencoder(64), step_size=0.05)
    assert cut.status == "interrupted"
    for name, value in found.parameters.items():
        assert torch.equal(value, cut.parameters[name])


def _then(method, action):
    def made(self, *args):
        method(self, *args)
        action(self)

    return made


def test_an_optimizer_of_the_users_and_several_starts_go_by_epochs_too():
    found = fit(optimizer=pyro.optim.Adam({"lr": 0.01}), held_out=0.2, step_size="auto")
    assert found.steps == 12
    assert found.history.step_size.isna().all()
    assert len(fit(num_starts=2, max_epochs=2).starts) == 2


WEIGHTED = {"held_out": 0.2, "warmup_epochs": 2, "beta": 2.0}


@pytest.mark.parametrize(("backend", "options"), [("eager", {}), ("eager", WEIGHTED), ("native", WEIGHTED)])
def test_a_training_goes_on_as_if_there_had_been_no_break(plain, monkeypatch, tmp_path, backend, options):
    monkeypatch.setattr(checkpoint, "SECONDS_BETWEEN", 0.0)
    options = {"max_epochs": 6, "backend": backend, **options}
    whole, path = fit(**options), tmp_path / "training"

    def stop(course):
        if len(course.history) == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(Epochs, "_epoch", _then(Epochs._epoch, stop))
        assert fit(checkpoint=path, **options).status == "interrupted"
    rest = fit(checkpoint=path, **options)
    same(rest, whole)
    same(fit(checkpoint=path, **options), whole)  # nothing is left to do
    with pytest.raises(OptionError, match="batch_size = 16, and this fit has 8"):
        fit(checkpoint=path, **{**options, "batch_size": 8})
    with pytest.raises(OptionError, match="data"):
        fit({"x": data(seed=9)}, checkpoint=path, **options)
    with monkeypatch.context() as other:
        other.setattr(Autoencoder, "noise", 2.0)
        with pytest.raises(OptionError, match=r"another model or guide.* nats per row, here it is"):
            fit(checkpoint=path, **options)


# The weight of the divergence.


def test_the_weight_moves_under_compiled_steps():
    """One captured graph reads the weight where it stands, along a warm-up."""
    auto = Autoencoder().double()
    program = build_program(auto.model, {"x": data()})
    rows = find_rows(program)
    resident = Resident(rows, program.arguments)
    estimator, device = WeightedKl(2.0), torch.device("cpu")
    batch = replace(program, arguments=resident.take(torch.arange(16)))
    with program.isolated(seed=0, full_data=False), RowScale("datum", NUM_ROWS):
        auto.guide(batch.arguments.named()["x"])
        auto.model(batch.arguments.named()["x"])
        estimator.check(batch, auto.guide)
        elbo = elbo_function(batch, auto.guide, estimator)
        svi = SviGraph(elbo, Adam(0.01), minibatches=True, resident=resident)
        steps = CompiledSteps(svi, Plain(), ResidentFeed(resident, 16, 1, device))
        assert estimator.held["weight"].data_ptr() in [tensor.data_ptr() for tensor in svi.graph.fixed]
        losses = {}
        for weight in (0.0, 0.3, 1.0):
            estimator.set_weight(weight)
            losses[weight] = steps.losses_at(steps.position(), 1, seed=4)[0]
            (arguments, _, _) = steps._kept_batches[0]
            index = steps._kept_batches[0][1][0][0]
            pyro.set_rng_seed(4)
            noise = [tensor[0] for tensor in elbo.draw_noise(1)]
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")  # Pyro's, about parameters of the function that want no gradient
                wanted = elbo.with_arguments(resident.take(index))(steps.position(), *noise)
            assert losses[weight] == pytest.approx(float(wanted.detach()), rel=1e-10)
            assert len(arguments.named()["x"]) == 16
        slope = (losses[1.0] - losses[0.3]) / 0.7
        assert losses[0.3] - losses[0.0] == pytest.approx(0.3 * slope, rel=1e-8)
        assert slope > 0.0


def test_only_the_elbo_is_called_one():
    plain_fit, weighted = fit(), fit(beta=4.0, free_bits=0.1)
    assert plain_fit.objective == "ELBO"
    assert weighted.objective == "objective (beta = 4, free bits = 0.1)"
    first, *_ = (line for line in repr(weighted).splitlines() if "mean of the last" in line)
    assert "ELBO" not in first
    assert fit(warmup_epochs=2).objective == "ELBO"
    assert {"training_objective", "training_bound"} <= set(weighted.history)
    assert "training_objective" not in plain_fit.history
    elbo, _ = weighted.elbo(200)
    assert elbo > -weighted.losses[-1]  # beta times the divergence is paid there, and here only once


def test_a_saved_fit_keeps_its_history(tmp_path):
    found, auto = fit(beta=2.0, max_epochs=2), Autoencoder()
    again = ppl.load_fit(found.save(tmp_path / "fit"), auto.model, {"x": data()}, guide=auto.guide)
    assert again.history.equals(found.history)
    assert again.objective == found.objective


# Collapse.


def test_a_decoder_that_ignores_the_latents_is_reported_as_collapsed():
    class Ignoring(Autoencoder):
        def model(self, x):
            centre = pyro.param("centre", torch.zeros(FEATURES))
            with pyro.plate("datum", len(x)):
                pyro.sample("z", dist.Normal(torch.zeros(len(x), UNITS), 1.0).to_event(1))
                pyro.sample("x", dist.Normal(centre, 0.5).expand([len(x), FEATURES]).to_event(1), obs=x)

    found = fit(model=Ignoring(), max_epochs=60, step_size=0.05)
    assert found.status == COLLAPSED
    assert "all 2 latent units are inactive" in found.note
    assert "warmup_epochs" in found.note
    healthy = fit(max_epochs=40)
    assert healthy.status != COLLAPSED
    assert "inactive" not in healthy.note


def test_single_inactive_units_are_noted_and_few_rows_are_not_judged():
    figures = Figures(-1.0, 0.5, -1.5, -1.5, np.array([0.5, 0.001]), np.array([0.4, 0.001]), ("z[0]", "z[1]"))
    status, note = judge_collapse("converged", figures, 100)
    assert (status, note[:30]) == ("converged", "1 of 2 latent units are inacti")
    dead = Figures(-1.0, 0.0, -1.0, -1.0, np.array([0.0, 0.001]), np.array([np.nan, np.nan]), ("z[0]", "z[1]"))
    assert judge_collapse("max_steps", dead, 100)[0] == COLLAPSED
    assert judge_collapse("diverged", dead, 100)[0] == "diverged"
    assert judge_collapse("converged", dead, 5) == ("converged", "")


# Mixed precision.


def test_products_are_in_bfloat16_and_the_rest_is_not():
    a, b = (torch.randn(30, 30, generator=torch.Generator().manual_seed(n), requires_grad=True) for n in (1, 2))
    with seeded(3):
        image, kernel = torch.randn(1, 2, 8, 8), torch.randn(3, 2, 3, 3)
    with MixedPrecision():
        products = [a @ b, torch.matmul(a, b), nn.functional.linear(a, b), nn.functional.conv2d(image, kernel)]
        kept = a * b
    exact = [a @ b, a @ b, nn.functional.linear(a, b), nn.functional.conv2d(image, kernel)]
    for found, wanted in zip(products, exact, strict=True):
        assert found.dtype == torch.float32
        error = float((found - wanted).detach().norm() / wanted.detach().norm())
        assert 1e-4 < error < 2.0**-7
    assert torch.equal(kept, a * b)
    (gradient,) = torch.autograd.grad(products[0].sum(), a)
    assert gradient.dtype == torch.float32
    torch.testing.assert_close(gradient, b.sum(1).expand(30, 30).detach(), rtol=0.02, atol=0.2)


@pytest.mark.parametrize("backend", ["eager", "native"])
def test_a_fit_in_mixed_precision_is_near_that_in_float32(plain, backend):
    exact, mixed = (fit(mixed_precision=m, dtype=torch.float32, backend=backend, max_epochs=8) for m in (False, True))
    assert mixed.backend == backend
    assert mixed.config["dtype"] == "float32"
    assert not np.array_equal(exact.losses, mixed.losses)
    np.testing.assert_allclose(mixed.losses, exact.losses, rtol=2.0**-6)


# Other bounds.


@pytest.mark.parametrize("backend", ["eager", "native"])
def test_importance_weighted_bounds_go_by_epochs(plain, backend):
    options = {"estimator": "importance_weighted", "estimator_options": {"num_importance": 4}, "backend": backend}
    found = fit(**options)
    assert found.objective == "bound"
    looked = found.history.dropna()
    assert (looked.training_objective > looked.training_bound).all()

    def shared(x):
        centre = pyro.sample("centre", dist.Normal(0.0, 1.0))
        with pyro.plate("datum", len(x)):
            pyro.sample("x", dist.Normal(centre, 1.0).expand([len(x), FEATURES]).to_event(1), obs=x)

    with pytest.raises(OptionError, match="the data come in batches"):
        ppl.fit(shared, {"x": data()}, guide="normal", **{**OPTIONS, **options, "max_epochs": 1})
