"""Fixed splits and binarised pixels: what makes figures of two runs comparable."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ppl_models.errors import DataError, OptionError
from ppl_models.seeds import check_seed


class Split(NamedTuple):
    """Rows of three parts, each in rising order."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def split(labels: npt.ArrayLike | int, *, validation: float = 0.1, test: float = 0.2, seed: int = 0) -> Split:
    """Divide rows at random into three parts, each with its share of every class.

    Args:
        labels: The class of each row, shape (row,); or how many rows there are, where they have no classes.
        validation: Share of the rows for early stopping and choices, between 0 and 1.
        test: Share of the rows for the figures that are told, between 0 and 1.
        seed: The same seed gives the same parts.

    Returns:
        The indices of each part. Shares are rounded within every class.

    Raises:
        OptionError: A share is out of range, or nothing is left to train on.
    """
    check_seed(seed)
    if not (0.0 <= validation < 1.0 and 0.0 <= test < 1.0 and validation + test < 1.0):
        raise OptionError(
            f"split: validation is {validation!r} and test {test!r}; wanted shares from 0 to 1 that leave some rows "
            "to train on, such as 0.1 and 0.2."
        )
    classes = np.zeros(labels, dtype=int) if isinstance(labels, int) else np.asarray(labels)
    if classes.ndim != 1 or len(classes) == 0:
        raise DataError(f"split: labels have shape {classes.shape}, wanted one class for each row, shape (row,).")
    generator = np.random.default_rng(seed)
    parts: tuple[list[np.ndarray], ...] = ([], [], [])
    for label in np.unique(classes):
        rows = generator.permutation(np.flatnonzero(classes == label))
        first, second = round(validation * len(rows)), round(test * len(rows))
        for part, piece in zip(parts, np.split(rows, [len(rows) - first - second, len(rows) - second]), strict=True):
            part.append(piece)
    return Split(*(np.sort(np.concatenate(part)) for part in parts))


def binarised(pixels: npt.ArrayLike, *, seed: int | None = 0) -> np.ndarray:
    """Pixels as 0 and 1, drawn once with the grey level as the probability of 1.

    Drawn once and kept, as Larochelle and Murray (2011) did for MNIST: a draw that is renewed at every epoch is another
    data set, on which bounds are higher. None for the seed cuts at half of the largest level in place of a draw.

    Args:
        pixels: Grey levels, any shape, none negative.
        seed: Of the draw; None for a threshold.

    Returns:
        Zeros and ones as floats, of the same shape.

    Raises:
        DataError: A level is negative or not finite, or all are zero.

    Larochelle and Murray (2011), The neural autoregressive distribution estimator, section 6.
    """
    levels = np.asarray(pixels, float)
    if levels.size == 0 or not np.isfinite(levels).all() or levels.min() < 0.0 or levels.max() == 0.0:
        raise DataError(
            "binarised: the pixels are empty, not finite, negative or all zero; wanted grey levels from 0 up to some "
            "largest one. Shift or impute them first."
        )
    shares = levels / levels.max()
    if seed is None:
        return (shares >= 0.5).astype(float)
    check_seed(seed)
    return (np.random.default_rng(seed).random(shares.shape) < shares).astype(float)
