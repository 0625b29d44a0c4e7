"""Loaders: each returns a new dictionary from column name to a one- or two-dimensional NumPy array.

Sources, units and citations of the files stand in the README beside them.
"""

import csv
import random
from collections.abc import Callable, Mapping
from importlib import import_module, resources
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]


def eight_schools() -> Arrays:
    """Effect of coaching on SAT-V scores in eight schools (Rubin 1981).

    Returns `school` (names, shape (8,)), `effect` and `standard_error` (points, shape (8,)).
    """
    return _read("eight_schools.csv", {"school": str, "effect": float, "standard_error": float})


def sleepstudy() -> Arrays:
    """Reaction times under sleep restriction (Belenky et al. 2003), 18 subjects over ten days.

    Returns, each of shape (180,): `subject` (number in the study), `day` (0 to 9; days 0 and 1 were training, day 2 the
    baseline after which sleep was restricted) and `reaction_ms` (mean reaction time of the day, milliseconds).
    """
    return _read("sleepstudy.csv", {"subject": int, "day": int, "reaction_ms": float})


def old_faithful() -> Arrays:
    """Eruptions of the Old Faithful geyser (Härdle 1991; Azzalini and Bowman 1990).

    Returns, each of shape (272,): `eruption_minutes` (duration) and `waiting_minutes` (until the next eruption).
    """
    return _read("old_faithful.csv", {"eruption_minutes": float, "waiting_minutes": float})


def lynx() -> Arrays:
    """Lynx trapped each year in the Mackenzie River district of Canada (Elton and Nicholson 1942).

    Returns, each of shape (114,): `year` (1821 to 1934) and `trapped` (animals).
    """
    return _read("lynx.csv", {"year": int, "trapped": int})


def diabetes() -> Arrays:
    """Progression of diabetes in 442 patients (Efron et al. 2004), in the units of measurement.

    Returns `covariates` (shape (442, 10)), `covariate` (their names, shape (10,)) and `progression` (a score of disease
    progression one year after the baseline, unitless, shape (442,)).
    """
    bunch = _of_sklearn("load_diabetes", scaled=False)
    return {
        "covariates": np.asarray(bunch.data, float),
        "covariate": np.asarray(bunch.feature_names),
        "progression": np.asarray(bunch.target, float),
    }


def breast_cancer() -> Arrays:
    """Wisconsin diagnostic breast cancer data: 569 biopsies (Street, Wolberg and Mangasarian 1993).

    Returns `covariates` (measurements of cell nuclei, shape (569, 30)), `covariate` (their names, shape (30,)) and
    `benign` (1 benign, 0 malignant, shape (569,)).
    """
    bunch = _of_sklearn("load_breast_cancer")
    return {
        "covariates": np.asarray(bunch.data, float),
        "covariate": np.asarray(bunch.feature_names),
        "benign": np.asarray(bunch.target, int),
    }


def digits() -> Arrays:
    """Handwritten digits (Alpaydin and Kaynak 1998): 1,797 images of 8 x 8 pixels.

    Returns `pixels` (ink counts from 0 to 16, row by row, shape (1797, 64)) and `digit` (0 to 9, shape (1797,)).
    """
    bunch = _of_sklearn("load_digits")
    return {"pixels": np.asarray(bunch.data, float), "digit": np.asarray(bunch.target, int)}


def _of_sklearn(loader: str, **options: Any) -> Any:
    """What a loader of scikit-learn gives, which takes seconds to import and draws from Python's generator then."""
    state = random.getstate()
    try:
        return getattr(import_module("sklearn.datasets"), loader)(**options)
    finally:
        random.setstate(state)


def _read(name: str, columns: Mapping[str, Callable[[str], object]]) -> Arrays:
    """The columns of a shipped CSV, each converted by its type."""
    text = resources.files("ppl_models.datasets").joinpath(name).read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    return {column: np.array([convert(row[column]) for row in rows]) for column, convert in columns.items()}
