"""Data of every kind that people have, and what is said when they do not fit."""

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from scipy.sparse import csr_matrix

from ppl_models.errors import DataError
from ppl_models.program import build_program, prepare_arguments


def model(x, y=None, *, depth=1):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("row", len(x)):
        return pyro.sample("y", dist.Normal(mu + x, 1.0), obs=y)


def prepared(value, dtype=torch.float64):
    return prepare_arguments(model, {"x": value}, dtype).named()["x"]


@pytest.mark.parametrize(
    "value",
    [
        np.array([1.5, 2.0], dtype=np.float32),
        np.array([2.0, 1.5])[::-1],
        pd.Series([1.5, 2.0], index=["a", "b"]),
        xr.DataArray([1.5, 2.0], dims=["row"]),
        [1.5, 2.0],
        torch.tensor([1.5, 2.0]),
    ],
    ids=["float32", "reversed", "pandas", "xarray", "list", "tensor"],
)
def test_arrays_become_tensors_of_the_dtype(value):
    found = prepared(value)
    assert isinstance(found, torch.Tensor)
    assert found.dtype == torch.float64
    assert found.tolist() == [1.5, 2.0]
    assert prepared(value, torch.float32).dtype == torch.float32


def test_frames_and_nested_lists_become_matrices():
    assert prepared(pd.DataFrame({"a": [1.0, 2.0], "b": [3, 4]})).tolist() == [[1.0, 3.0], [2.0, 4.0]]
    assert prepared([[1.0, 2.0], [3.0, 4.5]]).shape == (2, 2)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (np.array([1, 2]), torch.int64),
        (np.array([1, 2], dtype=np.uint8), torch.uint8),
        (np.array([True, False]), torch.bool),
        (pd.Series([1, 2]), torch.int64),
        (torch.tensor([1, 2], dtype=torch.int32), torch.int32),
    ],
)
def test_whole_numbers_stay_whole(value, dtype):
    assert prepared(value).dtype == dtype


@pytest.mark.parametrize("value", [None, 3, 0.5, "name", [32, 32], {"a": 1}, len], ids=str)
def test_other_values_are_passed_as_they_are(value):
    assert prepared(value) is value


def test_users_arrays_are_not_shared():
    array = np.array([1.0, 2.0])
    prepared(array).zero_()
    assert array.tolist() == [1.0, 2.0]
    read_only = np.broadcast_to(np.array(1.0), (3,))
    assert prepared(read_only).tolist() == [1.0] * 3


def test_mapping_and_tuple_are_the_same():
    x, y = np.zeros(3), np.ones(3)
    by_name, by_place = prepare_arguments(model, {"x": x, "y": y}, None), prepare_arguments(model, (x, y), None)
    assert by_name.named().keys() == by_place.named().keys() == {"x", "y"}
    assert by_place.names == ("x", "y")
    assert by_place.name_of(by_place.args[1]) == "y"
    assert by_place.name_of(y) is None


def test_variable_arguments_are_numbered():
    def many(x, *rest):
        return None

    assert list(prepare_arguments(many, (1.0, 2.0, 3.0), None).named()) == ["x", "argument 1", "argument 2"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"y": np.zeros(3)}, ["missing", "'x'", "signature"]),
        ({"x": np.zeros(3), "z": 1}, ["'z'", "unexpected"]),
        ((), ["'x'"]),
        ((1, 2, 3), ["too many"]),
        ([np.zeros(3)], ["found list", "tuple", "data=(y,)"]),
        (np.zeros(3), ["found ndarray"]),
        (None, ["found NoneType"]),
        ({1: np.zeros(3)}, ["key 1", "int"]),
        ({"x": np.array([0.0, np.nan, np.nan])}, ["'x'", "2 of 3", "NaN", "(1,)"]),
        ({"x": torch.tensor([[0.0, 1.0], [np.nan, 0.0]])}, ["'x'", "(1, 0)"]),
        ((np.zeros(2), pd.Series([1.0, np.nan])), ["'y'", "(1,)"]),
        ({"x": np.array(["a", "b"])}, ["'x'", "not numeric", "codes"]),
        ({"x": pd.Series(["a", "b"])}, ["'x'", "not numeric"]),
        ({"x": pd.to_datetime(pd.Series(["2020-01-01"]))}, ["'x'", "datetime64", "dates"]),
        ({"x": np.array([1 + 2j])}, ["'x'", "complex"]),
        ({"x": [[1.0, 2.0], [3.0]]}, ["'x'", "rectangular"]),
        ({"x": csr_matrix(np.eye(2))}, ["'x'", "csr_matrix", "rows_of"]),
        (csr_matrix(np.eye(2)), ["found csr_matrix", "rows_of"]),
        ({"x": np.zeros((0, 3))}, ["'x'", "no rows", "(0, 3)"]),
    ],
)
def test_what_does_not_fit_is_named(data, words):
    with pytest.raises(DataError) as caught:
        prepare_arguments(model, data, torch.float64)
    assert all(word in str(caught.value) for word in words), caught.value


def test_infinite_values_are_the_models_business():
    assert prepared([np.inf, 1.0]).tolist() == [np.inf, 1.0]


def test_wrong_length_names_site_and_argument():
    with pytest.raises(DataError) as caught:
        build_program(model, {"x": np.zeros(5), "y": np.zeros(3)})
    assert all(word in str(caught.value) for word in ["'y'", "(3,)", "(5,)"]), caught.value


def test_signature_of_a_module_is_that_of_forward():
    class Model(torch.nn.Module):
        def forward(self, x):
            return pyro.sample("mu", dist.Normal(0.0, 1.0))

    with pytest.raises(DataError, match="'x'"):
        build_program(Model(), {"y": 1.0})
