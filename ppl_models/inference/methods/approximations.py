"""What a method finds: a distribution, or points, in a program's flat unconstrained space."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ppl_models.inference.preconditioning.pilot import Normal

__all__ = ["Approximation", "Mixture", "Normal", "Points", "as_normal"]


@dataclass(frozen=True)
class Mixture:
    """Several normals with weights.

    Attributes:
        weights: shape (component,), sum to one.
        normals: one for each weight, all with a dense root, or all with a diagonal one.
    """

    weights: np.ndarray
    normals: tuple[Normal, ...]


@dataclass(frozen=True)
class Points:
    """Particles that stand for a distribution, all of equal weight.

    Attributes:
        points: shape (particle, dim).
    """

    points: np.ndarray


Approximation = Normal | Mixture | Points


def as_normal(approximation: Approximation) -> Normal:
    """The normal with an approximation's mean and covariance."""
    if isinstance(approximation, Normal):
        return approximation
    if isinstance(approximation, Points):
        scale = approximation.points.std(axis=0)
        return Normal(approximation.points.mean(axis=0), np.where(scale > 0.0, scale, 1.0), -np.inf, 0)
    weights, normals = approximation.weights, approximation.normals
    means = np.stack([normal.mean for normal in normals])
    mean = weights @ means
    if normals[0].root.ndim == 1:
        second = np.stack([normal.root**2 for normal in normals]) + np.square(means - mean)
        return Normal(mean, np.sqrt(weights @ second), -np.inf, 0)
    roots = [np.sqrt(w) * normal.root for w, normal in zip(weights, normals, strict=True)]
    between = (np.sqrt(weights)[:, None] * (means - mean)).T
    # A QR factorisation of the stacked square roots, which does not square their condition.
    upper: Any = np.linalg.qr(np.concatenate([*roots, between], axis=1).T, mode="r")
    return Normal(mean, upper.T * np.where(np.diag(upper) < 0.0, -1.0, 1.0), -np.inf, 0)
