"""Draws as trees: groups, dims, coordinates."""

import json

import arviz_base
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from ppl_models.errors import DataError, ModelError
from ppl_models.posterior import Labels, data_groups, make_tree
from ppl_models.program import build_program

Y = np.array([[0.1, 0.2, 0.3], [1.0, 2.0, 3.0]])


def model(x, y, groups):
    top = pyro.sample("top", dist.Normal(0.0, 1.0))
    weights = pyro.sample("weights", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with pyro.plate("group", 3, dim=-1):
        low = pyro.sample("low", dist.Normal(top, 1.0))
        pyro.deterministic("double", 2 * low)
        with pyro.plate("time", 2, dim=-2):
            pyro.sample("y", dist.Normal(low + x * weights.sum(-1), 1.0), obs=y)


PROGRAM = build_program(model, {"x": Y + 1, "y": Y, "groups": np.array([0, 1, 2])})


def labels(**given):
    return Labels(**given).of_program(PROGRAM)


def test_plates_name_dims():
    found = labels()
    assert found.dims["low"] == ("group",)
    assert found.dims["double"] == ("group",)
    assert found.dims["y"] == ("time", "group")
    assert found.dims["weights"] == ("weights_dim_0",)
    assert found.dims["top"] == ()
    assert list(found.coords["group"]) == [0, 1, 2]


def test_given_dims_and_coords_win():
    coords = {"school": ["a", "b", "c"], "covariate": ["age", "dose"], "unused": [1]}
    found = labels(coords=coords, dims={"low": ["school"], "weights": ["covariate"], "groups": ["school"]})
    assert found.dims["low"] == ("school",)
    assert found.dims["groups"] == ("school",)
    assert list(found.coords["covariate"]) == ["age", "dose"]
    assert list(found.coords["unused"]) == [1]


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"coords": {"group": ["a", "b"]}}, DataError, ["coords['group']", "2 labels", "wanted 3"]),
        ({"dims": {"low": ["one", "two"]}}, ModelError, ["'low'", "('one', 'two')", "(3,)"]),
        (
            {"dims": {"groups": ["school"]}, "coords": {"school": ["a"]}},
            DataError,
            ["coords['school']", "wanted 3", "'groups'"],
        ),
    ],
)
def test_wrong_labels_are_named(given, error, words):
    with pytest.raises(error) as caught:
        labels(**given)
    assert all(word in str(caught.value) for word in words), caught.value


def test_data_groups():
    groups = data_groups(PROGRAM)
    assert set(groups["observed_data"]) == {"y"}
    assert set(groups["constant_data"]) == {"x", "groups"}
    assert groups["constant_data"]["groups"].dtype == np.int64
    np.testing.assert_array_equal(groups["observed_data"]["y"], Y)


def test_argument_that_is_observed_in_part_stands_in_one_group():
    def model(y):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(mu, 1.0).expand([2]).to_event(1), obs=y[1:])

    groups = data_groups(build_program(model, (np.array([1.0, 2.0, 3.0]),)))
    assert groups["observed_data"]["y"].tolist() == [2.0, 3.0]
    assert "y" not in groups["constant_data"]


def test_observation_that_stands_for_a_plate_is_spread_over_it():
    def model(y):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("row", 3):
            pyro.sample("y", dist.Normal(mu, 1.0), obs=y)

    program = build_program(model, (torch.tensor(2.0),))
    tree = make_tree(data_groups(program), Labels().of_program(program))
    assert tree["observed_data"]["y"].dims == ("row",)
    assert tree["observed_data"]["y"].values.tolist() == [2.0] * 3


def tree_of(**attrs):
    rng = np.random.default_rng(0)
    draws = {"top": rng.normal(size=(2, 5)), "low": torch.as_tensor(rng.normal(size=(2, 5, 3)))}
    groups = {"posterior": draws, "sample_stats": {"lp": np.zeros((2, 5))}, "empty": {}, **data_groups(PROGRAM)}
    return make_tree(groups, labels(coords={"group": ["a", "b", "c"]}), attrs=attrs)


def test_tree_is_what_arviz_expects():
    tree = tree_of()
    assert set(tree.children) == {"posterior", "sample_stats", "observed_data", "constant_data"}
    assert tree["posterior"]["low"].dims == ("chain", "draw", "group")
    assert tree["posterior"]["group"].values.tolist() == ["a", "b", "c"]
    assert tree["observed_data"]["y"].dims == ("time", "group")
    assert arviz_base.extract(tree)["low"].sizes == {"group": 3, "sample": 10}


def test_attributes_are_numbers_or_text():
    tree = tree_of(seed=3, status="converged", config={"a": [1, None]}, flag=True, nothing=None)
    assert tree.attrs["seed"] == 3
    assert tree.attrs["flag"] == 1
    assert json.loads(tree.attrs["config"]) == {"a": [1, None]}
    assert tree["posterior"].attrs["status"] == "converged"
    assert all(isinstance(value, (int, float, str)) for value in tree.attrs.values())
