"""The normal whose score matches a target's on a batch of draws, in closed form.

Cai, Modi, Pillaud-Vivien, Margossian, Gower, Blei and Saul (2024), Batch and match: black-box variational inference
with a score-based divergence, ICML. All is done in the own coordinates e of a normal, z = m + A e, where its covariance
is the identity and scores are A' times those of z: the method does not depend on the latents' scales, and neither does
its rounding then.
"""

from typing import Any

import numpy as np
from scipy.linalg import solve_triangular

from ppl_models.inference.preconditioning.pilot import Normal

SMALLEST = 1e-20
"""Of the spread of scores, in own coordinates squared: below, the target is flat."""


def matched(normal: Normal, points: np.ndarray, scores: np.ndarray, strength: float) -> Normal:
    """The normal that minimises strength / 2 times the divergence of scores plus KL from the normal before.

    With C and G the covariances of draws and scores, and c and g their means, in own coordinates and with strength l,
    the new covariance S solves S U S + S = V, where U = l G + l / (1 + l) g g' and V = I + l C + l / (1 + l) c c', and
    the new mean is l / (1 + l) (S g + c). As l grows it is the S with S G S = C and the mean c + S g: of draws of any
    kind, more than there are dims, that is a normal target itself.

    Args:
        normal: before; its root is dense.
        points: z, shape (draw, dim).
        scores: gradients of the target's log density there, shape (draw, dim).
        strength: l, positive; inf for the limit.
    """
    noise = own_noise(normal, points)
    own = scores @ normal.root
    middle, pull = noise.mean(axis=0), own.mean(axis=0)
    spread = (noise - middle).T @ (noise - middle) / len(noise)
    bend = (own - pull).T @ (own - pull) / len(noise)
    if np.isinf(strength):
        inner = _root_of(spread)
        values, axes = np.linalg.eigh(inner @ bend @ inner)
        root = inner @ (axes * np.maximum(values, SMALLEST) ** -0.25)
        mean = middle + root @ (root.T @ pull)
    else:
        share = strength / (1.0 + strength)
        inner = _root_of(np.eye(len(middle)) + strength * spread + share * np.outer(middle, middle))
        values, axes = np.linalg.eigh(inner @ (strength * bend + share * np.outer(pull, pull)) @ inner)
        root = inner @ (axes * np.sqrt(2.0 / (1.0 + np.sqrt(1.0 + 4.0 * np.maximum(values, 0.0)))))
        mean = share * (root @ (root.T @ pull) + middle)
    found = Normal(normal.mean + normal.root @ mean, normal.root @ root, -np.inf, 0)
    return Normal(found.mean, found.scale_tril, -np.inf, 0)


def own_noise(normal: Normal, points: np.ndarray) -> np.ndarray:
    """A normal's own coordinates of points, shape (draw, dim); its root is lower triangular."""
    solved: Any = solve_triangular(normal.root, (points - normal.mean).T, lower=True, check_finite=False)
    return solved.T


def _root_of(covariance: np.ndarray) -> np.ndarray:
    """The symmetric root."""
    values, axes = np.linalg.eigh(covariance)
    return (axes * np.sqrt(np.maximum(values, 0.0))) @ axes.T
