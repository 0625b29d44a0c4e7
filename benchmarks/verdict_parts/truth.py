"""The true errors of a guide's draws, and the class that they put a case in."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.accuracy_parts.against_reference import or_none
from benchmarks.verdict_parts.subject import Subject

BAD, MIDDLING, GOOD = "bad", "middling", "good"
CLASSES = (GOOD, MIDDLING, BAD)
BAD_MEAN, BAD_SD = 0.2, 0.2
GOOD_MEAN, GOOD_SD = 0.05, 0.05
"""Largest error of a mean in reference sds, and distance of a ratio of sds from one."""


def true_errors(subject: Subject, draws: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """How far draws lie from the truth.

    Args:
        subject: has the true moments.
        draws: parameter -> shape (draw, *shape), every parameter of the moments.

    Returns:
        `mean_error` (largest, in reference sds), `log_sd_ratio` (largest in absolute value, with its sign) with the
        parameters that have them, and `class`. None is what is not finite; such a case is bad.
    """
    worst: dict[str, Any] = {"mean_error": 0.0, "mean_worst": "", "log_sd_ratio": 0.0, "sd_worst": ""}
    sd_error = 0.0
    for name, (mean, sd) in subject.moments.items():
        values = np.asarray(draws[name], dtype=float).reshape(-1, *mean.shape)
        with np.errstate(all="ignore"):
            values = np.log(values) if name in subject.log_scale else values
            means = np.where(sd > 0.0, np.abs(values.mean(axis=0) - mean) / sd, 0.0)
            logs = np.where(sd > 0.0, np.log(values.std(axis=0, ddof=1) / sd), 0.0)
        _keep(worst, "mean_error", "mean_worst", name, means)
        _keep(worst, "log_sd_ratio", "sd_worst", name, logs)
        sd_error = max(sd_error, float(np.max(np.nan_to_num(np.abs(np.expm1(logs)), nan=np.inf))))
    found = class_of(worst["mean_error"], sd_error)
    return {**worst, **{name: or_none(worst[name]) for name in ("mean_error", "log_sd_ratio")}, "class": found}


def _keep(worst: dict[str, Any], figure: str, where: str, name: str, errors: np.ndarray) -> None:
    sizes = np.nan_to_num(np.abs(errors), nan=np.inf)
    index = np.unravel_index(int(np.argmax(sizes)), sizes.shape)
    if sizes[index] > abs(worst[figure]):
        worst[figure] = float(errors[index]) if math.isfinite(errors[index]) else math.inf
        worst[where] = name + (f"[{', '.join(map(str, index))}]" if index else "")


def class_of(mean_error: float, sd_error: float) -> str:
    """`bad`, `good` or `middling`, of the largest error of a mean in sds and the largest relative one of an sd."""
    if not (mean_error <= BAD_MEAN and sd_error <= BAD_SD):
        return BAD
    return GOOD if mean_error <= GOOD_MEAN and sd_error <= GOOD_SD else MIDDLING
