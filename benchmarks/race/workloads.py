"""Data of every workload, drawn with a fixed seed in pure NumPy, so that all peers see the same numbers."""

from collections.abc import Callable
from typing import Any

import numpy as np

Data = dict[str, Any]
SEED = 20_251


def make(name: str, **sizes: int) -> Data:
    """Data of one workload as keyword arguments of its model: float64 arrays, integer arrays and plain sizes.

    Args:
        name: a key of `WORKLOADS`.
        sizes: replace the default sizes of that workload.
    """
    return WORKLOADS[name](np.random.default_rng(SEED), **sizes)


def eight_schools(rng: np.random.Generator) -> Data:
    """Rubin's (1981) table, non-centred; nothing is drawn."""
    return {
        "sigma": np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]),
        "y": np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]),
    }


def logistic(rng: np.random.Generator, rows: int = 1_000, columns: int = 20) -> Data:
    """Standard normal covariates, one intercept; y is 0 or 1."""
    X = rng.standard_normal((rows, columns))
    logits = 0.5 + X @ (rng.standard_normal(columns) / np.sqrt(columns))
    return {"X": X, "y": (rng.random(rows) < 1.0 / (1.0 + np.exp(-logits))).astype(float)}


def hierarchical(rng: np.random.Generator, rows: int = 10_000, groups: int = 100) -> Data:
    """Intercept and slope vary by group; every group has about `rows / groups` rows."""
    group = rng.integers(groups, size=rows)
    x = rng.standard_normal(rows)
    intercept = 1.0 + 0.7 * rng.standard_normal(groups)
    slope = -0.5 + 0.4 * rng.standard_normal(groups)
    y = intercept[group] + slope[group] * x + 0.8 * rng.standard_normal(rows)
    return {"group": group, "x": x, "y": y, "num_groups": groups}


def horseshoe(rng: np.random.Generator, rows: int = 400, columns: int = 200) -> Data:
    """Ten of the slopes are not zero."""
    X = rng.standard_normal((rows, columns))
    slope = np.zeros(columns)
    slope[:10] = rng.choice([-2.0, 2.0], size=10)
    return {"X": X, "y": X @ slope + rng.standard_normal(rows)}


def gaussian_process(rng: np.random.Generator, points: int = 200) -> Data:
    """A noisy sine on sorted points of (0, 10)."""
    x = np.sort(rng.uniform(0.0, 10.0, points))
    return {"x": x, "y": np.sin(x) + 0.3 * rng.standard_normal(points)}


def normal_means(rng: np.random.Generator, latents: int = 1_000) -> Data:
    """One observation for each latent mean."""
    return {"y": rng.standard_normal(latents) + rng.standard_normal(latents)}


WORKLOADS: dict[str, Callable[..., Data]] = {
    "eight_schools": eight_schools,
    "logistic": logistic,
    "hierarchical": hierarchical,
    "horseshoe": horseshoe,
    "gaussian_process": gaussian_process,
    "normal_means": normal_means,
}


def images(batches: int, batch: int = 128, pixels: int = 784) -> np.ndarray:
    """Binarised images of ten overlaid patterns, float32, shape (batches, batch, pixels)."""
    rng = np.random.default_rng(SEED)
    basis = rng.standard_normal((10, pixels)).astype(np.float32)
    logits = rng.standard_normal((batches, batch, 10)).astype(np.float32) @ basis - 1.0
    return (rng.random(logits.shape, dtype=np.float32) < 1.0 / (1.0 + np.exp(-logits))).astype(np.float32)


def split(data: Data) -> tuple[Data, Data]:
    """The arrays, and the plain sizes that a compiler must know."""
    arrays = {name: value for name, value in data.items() if isinstance(value, np.ndarray)}
    return arrays, {name: value for name, value in data.items() if name not in arrays}
