"""Traps of a training by epochs: epochs of few steps, streams, rows held out, plates in plates, priors of any scale."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import ppl_models as ppl
from ppl_models.errors import DataError, ModelError, OptionError
from ppl_models.inference import checkpoint, epochs
from ppl_models.inference.collapse import COLLAPSED
from ppl_models.inference.epochs import Epochs
from tests.inference.test_epochs import FEATURES, NUM_ROWS, OPTIONS, UNITS, Autoencoder, _then, data, fit, same
from tests.randomness import seeded


def test_patience_does_not_end_before_there_were_looks():
    """Epochs of one step are looked at every twentieth time, and ten of them are the patience."""
    options = {"batch_size": NUM_ROWS, "held_out": 0.2, "step_size": 0.001}
    found = fit(max_epochs=90, **options)
    looks = found.history.validation_bound.dropna()
    assert len(looks) == 5
    assert looks.is_monotonic_increasing
    assert len(found.history) == 90
    stopped = fit(max_epochs=400, model=Autoencoder(64), **{**options, "held_out": 0.4, "step_size": 0.1})
    looks = stopped.history.validation_bound.dropna()
    assert stopped.status == "converged"
    assert len(looks) - 1 - int(looks.to_numpy().argmax()) == epochs.FEWEST_LOOKS


def test_a_training_that_max_steps_ended_stays_so(monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoint, "SECONDS_BETWEEN", 1e9)
    options = {"max_epochs": 30, "max_steps": 10}
    whole = fit(**options)
    for _ in range(2):
        again = fit(checkpoint=tmp_path / "training", **options)
        assert again.note == whole.note
        same(again, whole)


def test_other_rows_held_out_are_another_training(tmp_path):
    path = tmp_path / "training"
    fit(held_out={"x": data()[:20]}, checkpoint=path)
    with pytest.raises(OptionError, match="was written with held_out"):
        fit(held_out={"x": data()[20:]}, checkpoint=path)


class Rows(Dataset):
    def __init__(self, values):
        self.values = torch.tensor(values)

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        return self.values[index]


@pytest.mark.parametrize("how", ["share", "loader"])
def test_looks_do_not_depend_on_random_numbers_of_the_caller(monkeypatch, how):
    monkeypatch.setattr(epochs, "STEPS_PER_LOOK", 1)
    found = []
    for seed in (0, 1):
        with seeded(seed):
            if how == "share":
                one = fit(Rows(data()), held_out=0.3, max_epochs=2)
            else:
                loader = DataLoader(TensorDataset(torch.tensor(data())), batch_size=7, shuffle=True)
                one = fit(held_out=loader, max_epochs=2)
        found.append(one)
    same(*found)


class Stream(IterableDataset):
    """Gives fewer rows the third time, and perhaps none the second."""

    def __init__(self, *lengths):
        self.lengths = iter(lengths)
        self.rows = torch.tensor(data())

    def __iter__(self):
        return iter(self.rows[: next(self.lengths)])


def test_streams_may_change_their_length_but_not_run_dry():
    loader = DataLoader(Stream(50, 50, 50, 20, 40, 40), batch_size=16)
    found = fit(loader, batch_size=None, max_epochs=2)
    assert found.steps == 8
    assert np.isfinite(found.history.objective).all()
    with pytest.raises(DataError, match="can be read again"):
        fit(DataLoader(Stream(50, 50, 0, 0), batch_size=16), batch_size=None)


def in_two_plates(auto):
    """The same autoencoder with its features in a plate inside that of the rows, where no latent stands."""

    def model(x):
        pyro.module("decoder", auto.decoder)
        with pyro.plate("datum", len(x), dim=-2):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 1, UNITS), 1.0).to_event(1))
            with pyro.plate("feature", FEATURES, dim=-1):
                pyro.sample("x", dist.Normal(auto.decoder(z.squeeze(-2)), 0.5), obs=x)

    def guide(x):
        pyro.module("encoder", auto.encoder)
        location, log_scale = auto.encoder(x).unsqueeze(-2).chunk(2, -1)
        with pyro.plate("datum", len(x), dim=-2):
            pyro.sample("z", dist.Normal(location, log_scale.exp()).to_event(1))

    return model, guide


@pytest.mark.parametrize("options", [{"beta": 2.0}, {"free_bits": 0.5}, {"warmup_epochs": 1}])
def test_the_divergence_is_weighted_under_plates_inside_that_of_the_rows(options):
    options = {**OPTIONS, "max_epochs": 2, "dtype": torch.float64, **options}
    plain, auto = Autoencoder().double(), Autoencoder().double()
    model, guide = in_two_plates(auto)
    wanted = ppl.fit(lambda x: plain.model(x), {"x": data()}, guide=lambda x: plain.guide(x), **options)
    found = ppl.fit(model, {"x": data()}, guide=guide, **options)
    np.testing.assert_allclose(found.losses, wanted.losses, rtol=1e-9)
    np.testing.assert_allclose(found.history.training_kl, wanted.history.training_kl, rtol=1e-9)


def test_what_all_rows_share_is_not_weighted_though_an_observation_stands_outside():
    auto = Autoencoder().double()

    def model(x):
        pyro.sample("anchor", dist.Normal(0.0, 1.0), obs=torch.tensor(0.0))
        pyro.sample("shared", dist.Normal(0.0, 0.1))
        auto.model(x)

    def guide(x):
        pyro.sample("shared", dist.Normal(pyro.param("at", torch.tensor(3.0)), 0.1))  # 450 nats away
        auto.guide(x)

    still = {**OPTIONS, "max_epochs": 1, "step_size": 1e-12, "dtype": torch.float64}
    one, two = (ppl.fit(model, {"x": data()}, guide=guide, beta=beta, **still) for beta in (1.5, 3.0))
    location, log_scale = auto.encoder(torch.tensor(data())).chunk(2, -1)
    prior = Normal(torch.zeros((), dtype=torch.float64), 1.0)
    kl = kl_divergence(Normal(location, log_scale.exp()), prior).sum().item()
    found = np.average(two.losses - one.losses, weights=[16, 16, 16, 2])
    np.testing.assert_allclose(found, 1.5 * kl, rtol=1e-8)


def linear_rows(scale):
    rng = np.random.default_rng(0)
    loadings = rng.normal(size=(UNITS, FEATURES))
    z = scale * rng.normal(size=(NUM_ROWS, UNITS))
    return loadings / scale, z @ loadings / scale + 0.3 * rng.normal(size=(NUM_ROWS, FEATURES))


def test_latents_of_a_small_scale_are_no_collapse():
    loadings, x = linear_rows(0.05)
    precision = loadings @ loadings.T / 0.09 + np.eye(UNITS) / 0.05**2
    slope = torch.tensor(np.linalg.solve(precision, loadings / 0.09))
    sd = torch.tensor(precision.diagonal() ** -0.5)

    def model(x):
        with pyro.plate("datum", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x), UNITS), 0.05).to_event(1))
            pyro.sample("x", dist.Normal(z @ torch.tensor(loadings), 0.3).to_event(1), obs=x)

    def guide(x):
        gain = pyro.param("gain", torch.tensor(1.0))
        with pyro.plate("datum", len(x)):
            pyro.sample("z", dist.Normal(gain * x @ slope.T, sd).to_event(1))

    found = ppl.fit(model, {"x": x}, guide=guide, **OPTIONS, max_epochs=2, dtype=torch.float64)
    assert found.history.training_kl.iloc[-1] > 2.0
    assert found.status != COLLAPSED
    assert "inactive" not in found.note


def test_a_posterior_that_follows_a_moving_prior_alone_is_a_collapse():
    def model(c, x):
        centre = 3.0 * c[:, None].expand(-1, UNITS)
        with pyro.plate("datum", len(x)):
            pyro.sample("z", dist.Normal(centre, 1.0).to_event(1))
            pyro.sample("x", dist.Normal(torch.zeros(FEATURES), 1.0).to_event(1), obs=x)

    def guide(c, x):
        slope = pyro.param("slope", torch.tensor(3.0))
        with pyro.plate("datum", len(x)):
            pyro.sample("z", dist.Normal(slope * c[:, None].expand(-1, UNITS), 1.0).to_event(1))

    classes = np.arange(NUM_ROWS) % 2.0
    found = ppl.fit(model, {"c": classes, "x": data()}, guide=guide, **{**OPTIONS, "step_size": 1e-6}, max_epochs=1)
    assert found.status == COLLAPSED


def test_a_model_that_stands_for_another_number_of_rows_is_refused():
    auto = Autoencoder()

    def scaled(run):
        def call(x):
            with pyro.poutine.scale(scale=1 / len(x)):  # a mean over the batch
                run(x)

        return call

    with pytest.raises(ModelError, match="to stand for 1 rows, and 50 are trained on"):
        ppl.fit(scaled(auto.model), {"x": data()}, guide=scaled(auto.guide), **OPTIONS, max_epochs=1)


class Normalised(Autoencoder):
    """Its encoder has a layer that sees the whole batch while it trains."""

    def __init__(self):
        super().__init__(16)
        self.encoder.insert(1, torch.nn.BatchNorm1d(16))


def means_of(found, x):
    """Means of q(z | x) of the first row."""
    with found.program.isolated(seed=0), torch.no_grad():
        node = pyro.poutine.trace(found.guide).get_trace(torch.tensor(x)).nodes["z"]
    return node["fn"].mean[0].numpy()


@pytest.mark.parametrize("held_out", [None, 0.2])
def test_layers_that_see_the_batch_are_in_evaluation_mode_behind_the_training(monkeypatch, tmp_path, held_out):
    """q(z | x) of a row is its own; looks leave no mark; a break changes nothing, running averages included."""
    monkeypatch.setattr(epochs, "STEPS_PER_LOOK", 1)
    monkeypatch.setattr(checkpoint, "SECONDS_BETWEEN", 0.0)
    options = {"max_epochs": 5, "held_out": held_out, "batch_size": 10}
    found = fit(model=Normalised(), **options)
    x = data()
    alone = means_of(found, x[:1])
    np.testing.assert_allclose(means_of(found, np.concatenate([x[:1], 5.0 + x[20:]])), alone, atol=1e-9)

    def stop(course):
        if len(course.history) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(Epochs, "_epoch", _then(Epochs._epoch, stop))
        assert fit(model=Normalised(), checkpoint=tmp_path / "training", **options).status == "interrupted"
    rest = fit(model=Normalised(), checkpoint=tmp_path / "training", **options)
    same(rest, found)
    np.testing.assert_array_equal(means_of(rest, x[:1]), alone)
