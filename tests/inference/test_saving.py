"""Fits to files and back: the same draws, numbers only, whole or not at all."""

import json
import struct

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from closed_forms import DATA, X, Y, regression
from pyro.distributions import constraints
from pyro.infer.autoguide import AutoNormal
from randomness import seeded
from torch import nn

import guides
import ppl_models as ppl
from ppl_models.errors import DataError, FileError
from ppl_models.inference import fit_storage

NUM_DRAWS = 8


def by_hand(x, y=None):
    location = pyro.param("location", torch.zeros(2))
    scale = pyro.param("scale", torch.ones(2), constraint=constraints.positive)
    pyro.sample("weights", dist.Normal(location, scale).to_event(1))


def amortised():
    with seeded():
        layer = nn.Linear(4, 2)

    class Guide(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x, y=None):
            pyro.module("encoder", self)
            pyro.sample("weights", dist.Normal(self.layer(y), 1.0).to_event(1))

    return Guide()


def short_fit(guide="normal", model=regression, **options):
    return ppl.fit(model, DATA, guide=guide, max_steps=20, seed=1, **options)


def draws(fit):
    tree = fit.sample(NUM_DRAWS, seed=5)
    return {**tree["posterior"].to_dataset(), **tree["sample_stats"].to_dataset()}


def assert_same(first, second):
    one, two = draws(first), draws(second)
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


@pytest.mark.parametrize("family", guides.names())
def test_every_family_gives_the_same_draws(family, tmp_path):
    fit = short_fit(family)
    back = ppl.load_fit(fit.save(tmp_path / "fit.safetensors"), regression, DATA)
    assert_same(fit, back)
    assert np.array_equal(back.losses, fit.losses)
    for name in ("status", "steps", "family", "guide_name", "point", "constant_phase", "note", "backend", "seconds"):
        assert getattr(back, name) == getattr(fit, name), name
    assert back.config == json.loads(json.dumps(fit.config))
    assert repr(back) == repr(fit)


@pytest.mark.parametrize("make", [lambda: by_hand, amortised, lambda: AutoNormal(regression)])
def test_users_guides_give_the_same_draws(make, tmp_path):
    fit = short_fit(make())
    path = fit.save(tmp_path / "fit.safetensors")
    assert_same(fit, ppl.load_fit(path, regression, DATA, guide=make()))
    with pytest.raises(DataError, match="guide="):
        ppl.load_fit(path, regression, DATA)


def test_options_of_the_family_come_back(tmp_path):
    fit = short_fit("low_rank", guide_options={"rank": 1})
    assert_same(fit, ppl.load_fit(fit.save(tmp_path / "fit"), regression, DATA))


def test_learnt_parameters_of_the_model_come_back(tmp_path):
    def model(x, y=None):
        scale = pyro.param("noise", torch.tensor(1.0), constraint=constraints.positive)
        weights = pyro.sample("weights", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        with pyro.plate("row", len(x)):
            pyro.sample("y", dist.Normal((x * weights).sum(-1), scale), obs=y)

    fit = short_fit(model=model)
    back = ppl.load_fit(fit.save(tmp_path / "fit"), model, DATA)
    assert float(back.parameters["noise"]) == float(fit.parameters["noise"]) != 1.0
    assert_same(fit, back)


def test_enumerated_and_float32(tmp_path):
    def model(x, y=None):
        weights = pyro.sample("weights", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        with pyro.plate("row", len(x)):
            flip = pyro.sample("flip", dist.Bernoulli(0.5), infer={"enumerate": "parallel"})
            pyro.sample("y", dist.Normal((x * weights).sum(-1) + flip, 1.0), obs=y)

    fit = short_fit(model=model, dtype=torch.float32)
    back = ppl.load_fit(fit.save(tmp_path / "fit"), model, DATA)
    assert back.program.dtype == torch.float32
    assert_same(fit, back)


def test_labels_are_given_again(tmp_path):
    names = {"coords": {"covariate": ["a", "b"]}, "dims": {"weights": ["covariate"]}}
    back = ppl.load_fit(short_fit(**names).save(tmp_path / "fit"), regression, DATA, **names)
    assert back.sample(2, seed=0)["posterior"]["covariate"].values.tolist() == ["a", "b"]


def header_of(path):
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length])


def test_file_holds_numbers_and_json_only(tmp_path):
    """No pickle: a safetensors file is a length, a JSON header, and bytes that the header accounts for."""
    path = short_fit("full_rank").save(tmp_path / "fit.safetensors")
    header = header_of(path)
    metadata = header.pop("__metadata__")
    content = json.loads(metadata["header"])
    assert content["family"] == "full_rank"
    assert content["config"]["seed"] == 1
    assert content["latents"] == {"weights": [2]}
    assert all(set(entry) == {"dtype", "shape", "data_offsets"} for entry in header.values())
    end = max(entry["data_offsets"][1] for entry in header.values())
    (length,) = struct.unpack("<Q", path.read_bytes()[:8])
    assert path.stat().st_size == 8 + length + end


@pytest.mark.parametrize(
    ("model", "data", "error", "words"),
    [
        (regression, {"x": X, "y": Y + 1}, DataError, ["'y'", "not the one of the fit"]),
        (regression, {"x": X[:3], "y": Y[:3]}, DataError, ["'x'"]),
        (regression, {"x": X, "y": Y.int()}, DataError, ["'y'"]),
        (lambda x, y: pyro.sample("other", dist.Normal(0.0, 1.0)), DATA, DataError, ["latents", "other", "weights"]),
    ],
)
def test_other_data_and_models_are_refused(model, data, error, words, tmp_path):
    path = short_fit().save(tmp_path / "fit")
    with pytest.raises(error) as caught:
        ppl.load_fit(path, model, data)
    assert all(word in str(caught.value) for word in words), caught.value


def test_other_guide_is_refused(tmp_path):
    path = short_fit().save(tmp_path / "fit")
    with pytest.raises(DataError, match="'location'"):
        ppl.load_fit(path, regression, DATA, guide=by_hand)


def test_parameter_of_another_shape_is_refused(tmp_path):
    path = short_fit("low_rank", guide_options={"rank": 1}).save(tmp_path / "fit")

    def guide(model):
        return guides.make("low_rank", model, rank=2)

    with pytest.raises(FileError, match=r"cov_factor.*\(2, 1\), wanted \(2, 2\)"):
        ppl.load_fit(path, regression, DATA, guide=guide)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"not a fit at all",
        lambda content: content[: len(content) // 2],
        lambda content: content[:20] + b"\xff" * 20 + content[40:],
        lambda content: content[:-8],
    ],
)
def test_damaged_file_is_refused(damage, tmp_path):
    path = short_fit().save(tmp_path / "fit.safetensors")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(FileError, match=r"fit\.safetensors"):
        ppl.load_fit(path, regression, DATA)


def test_missing_and_foreign_files_are_refused(tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(FileError, match="absent"):
        ppl.load_fit(tmp_path / "absent", regression, DATA)
    save_file({"losses": torch.zeros(2)}, tmp_path / "foreign")
    with pytest.raises(FileError, match="format"):
        ppl.load_fit(tmp_path / "foreign", regression, DATA)
    save_file({"a": torch.zeros(2)}, tmp_path / "empty", metadata={"format": fit_storage.FORMAT})
    with pytest.raises(FileError, match="empty"):
        ppl.load_fit(tmp_path / "empty", regression, DATA)


def test_half_written_file_never_appears(monkeypatch, tmp_path):
    fit = short_fit()
    path = fit.save(tmp_path / "fit")
    before = path.read_bytes()

    def stop(tensors, name, metadata):
        name.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fit_storage, "save_file", stop)
    with pytest.raises(FileError, match="No space left"):
        fit.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["fit"]
