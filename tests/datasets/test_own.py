"""The user's own data in every form that people have come out as the same arrays."""

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch

from ppl_models.datasets import rows_of
from ppl_models.errors import DataError

X = np.arange(12.0).reshape(4, 3) / 2
Y = np.array([2, 0, 1, 2])
NAMES = np.array(["c", "a", "b", "c"])


class Images:
    """As torchvision's data sets: a length, and (image, label) pairs."""

    def __init__(self, images, labels=None):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index] if self.labels is None else (self.images[index], self.labels[index])


@pytest.mark.parametrize(
    "source",
    [
        X,
        X.tolist(),
        torch.tensor(X, requires_grad=True),
        pd.DataFrame(X, columns=["a", "b", "c"]),
        scipy.sparse.csr_matrix(X),
        Images(torch.tensor(X)),
        torch.utils.data.TensorDataset(torch.tensor(X)),
        list(X),
    ],
    ids=["numpy", "lists", "torch", "pandas", "sparse", "items", "tensors", "arrays"],
)
def test_rows_of_every_kind(source):
    found = rows_of(source, labels=Y)
    np.testing.assert_array_equal(found["x"], X)
    assert found["y"].tolist() == Y.tolist()
    assert found["x"].dtype == float
    assert "y" not in rows_of(source)


@pytest.mark.parametrize(
    ("source", "labels"),
    [
        ((X, Y), None),
        ((X, torch.tensor(Y)), None),
        (Images(X, Y), None),
        (Images([torch.tensor(row) for row in X], [int(label) for label in Y]), None),
        (torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y)), None),
        (pd.DataFrame(X).assign(kind=Y).rename(columns=str), "kind"),
    ],
    ids=["pair", "tensors", "images", "python", "tensor data set", "column"],
)
def test_labels_come_along(source, labels):
    found = rows_of(source, labels=labels)
    np.testing.assert_array_equal(found["x"], X)
    assert found["y"].tolist() == Y.tolist()


def test_names_become_codes_and_missing_ones_minus_one():
    found = rows_of(X, labels=pd.Series(["c", "a", None, "c"], dtype="category"))
    assert found["y"].tolist() == [1, 0, -1, 1]
    assert found["label"].tolist() == ["a", "c"]


def test_images_keep_their_shape_and_whole_numbers():
    images = np.arange(4 * 2 * 2, dtype=np.uint8).reshape(4, 2, 2)
    found = rows_of(Images(images, Y), transform=lambda image: image[:, :1])
    assert (found["x"].shape, found["x"].dtype) == ((4, 2, 1), np.int64)


def test_anndata_gives_its_layers_and_obs():
    counts = scipy.sparse.csr_matrix((2 * X).astype(np.float32))
    cells = anndata.AnnData(X=counts, obs=pd.DataFrame({"kind": pd.Categorical(NAMES)}, index=list("wxyz")))
    cells.var_names = ["g0", "g1", "g2"]
    cells.layers["half"] = X
    cells.raw = anndata.AnnData(X=counts[:, [0, 2]], obs=cells.obs, var=pd.DataFrame(index=["g0", "g2"]))
    found = rows_of(cells, labels="kind")
    np.testing.assert_array_equal(found["x"], 2 * X)
    assert found["y"].tolist() == Y.tolist()
    assert found["label"].tolist() == ["a", "b", "c"]
    assert found["feature"].tolist() == ["g0", "g1", "g2"]
    np.testing.assert_array_equal(rows_of(cells, layer="half")["x"], X)
    raw = rows_of(cells, layer="raw", labels=Y)
    np.testing.assert_array_equal(raw["x"], 2 * X[:, [0, 2]])
    assert raw["feature"].tolist() == ["g0", "g2"]
    with pytest.raises(DataError, match=r"'whole' is not among layers of the AnnData: half"):
        rows_of(cells, layer="whole")
    with pytest.raises(DataError, match=r"'type' is not among obs of the AnnData: kind"):
        rows_of(cells, labels="type")
    del cells.raw
    with pytest.raises(DataError, match=r"layer='raw'.*no raw"):
        rows_of(cells, layer="raw")


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        ({"x": X}, {}, "found dict"),
        (3, {}, "found int"),
        (iter(X), {}, "Read a stream"),
        (X, {"layer": "raw"}, "is for AnnData"),
        (X, {"labels": Y[:3]}, "the rows are 4"),
        (X, {"labels": [0.5, 1, 2, 3]}, "have a fraction"),
        (NAMES, {}, "wanted numbers"),
        (X[:0], {}, "no rows"),
        (np.array(3.0), {}, "single number"),
        ([X[0], X[1, :2]], {}, "differ in shape"),
        ([(X[0], 1, 2)], {}, "tuple of 3"),
        (pd.DataFrame(X), {"labels": "kind"}, "'kind' is not among the DataFrame"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_fit_is_named(source, options, words):
    with pytest.raises(DataError, match=words):
        rows_of(source, **options)
