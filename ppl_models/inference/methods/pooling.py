"""Weights of several normals in one mixture, from importance weights of draws of all of them.

The draws x come in equal number from every normal q_k, which makes them draws of the even mixture q0 = mean_k q_k,
and are weighted by p(x) / q0(x), smoothed (PSIS). Such a ratio is at most K times that against any one of the normals,
which a path's ratio against its own normal is not: a normal that is too narrow in some place, where another has
density, gives no large weight. Then the weights w_k maximise the weighted mean of log sum_k w_k q_k(x): they minimise
KL(p || sum_k w_k q_k), a convex problem, by the EM algorithm, whose first step sums, for each normal, the smoothed
weights shared among the normals by their density (Cappé, Douc, Guillin, Marin and Robert 2008, Adaptive importance
sampling in general mixture classes). Where p is a mixture of the normals, these are its weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ppl_models.engine import Target
from ppl_models.inference.methods.few_sizes import FewSizes
from ppl_models.inference.methods.normals import component_densities, log_density, mixture_density, moved
from ppl_models.inference.methods.smoothing import smoothed_weights
from ppl_models.inference.preconditioning.pilot import Normal

MAX_STEPS = 1_000
SETTLED = 1e-7
NEGLIGIBLE = 1e-3
"""A normal of less weight is left out."""


@dataclass(frozen=True)
class Pooled:
    """Normals in a mixture.

    Attributes:
        weights: shape (component,), sum to one.
        normals: those of some weight.
        places: of these among the normals given.
        khat: Pareto k-hat of the even mixture's draws (unitless); NaN where it could not be measured.
    """

    weights: np.ndarray
    normals: tuple[Normal, ...]
    places: tuple[int, ...]
    khat: float


def pooled(
    target: Target | FewSizes, normals: Sequence[Normal], num_draws: int, most: int, rng: np.random.Generator
) -> Pooled:
    """Weigh normals by draws of them, and keep those of some weight.

    Args:
        target: the log density.
        normals: different from one another; all dense, or all diagonal.
        num_draws: draws in all.
        most: components that are kept.
        rng: gives the noise.
    """
    each = -(-num_draws // len(normals))
    points = np.concatenate([moved(q, rng.standard_normal((each, target.num_dims))) for q in normals])
    values, _ = target(points)
    logs = component_densities(normals, points)
    even = np.full(len(normals), 1.0 / len(normals))
    importance, khat = smoothed_weights(values - mixture_density(even, logs))
    if not importance.any():
        best = int(np.argmax([normal.elbo for normal in normals]))
        return Pooled(np.ones(1), (normals[best],), (best,), khat)
    weights = nearest_weights(logs, importance)
    kept = np.argsort(-weights)[:most]
    kept = np.sort(kept[weights[kept] >= min(NEGLIGIBLE, weights.max())])
    weights = nearest_weights(logs[:, kept], importance)
    return Pooled(weights, tuple(normals[k] for k in kept), tuple(kept.tolist()), khat)


def nearest_weights(logs: np.ndarray, importance: np.ndarray) -> np.ndarray:
    """The weights of a mixture nearest to weighted draws, by EM.

    Args:
        logs: log density of each component at each draw, shape (draw, component).
        importance: of the draws, shape (draw,).
    """
    weights = np.full(logs.shape[1], 1.0 / logs.shape[1])
    heavy = importance > 0.0
    logs, importance = logs[heavy], importance[heavy] / importance[heavy].sum()
    densities = np.exp(logs - logs.max(axis=1, keepdims=True))
    for _ in range(MAX_STEPS if len(weights) > 1 else 0):
        before, weights = weights, weights * ((importance / (densities @ weights)) @ densities)
        if np.abs(weights - before).max() < SETTLED:
            break
    return weights / weights.sum()


def mixture_khat(
    target: Target | FewSizes, weights: np.ndarray, normals: Sequence[Normal], num_draws: int, rng: np.random.Generator
) -> float:
    """Pareto k-hat of a mixture's draws, each component in turn."""
    counts = rng.multinomial(num_draws, weights)
    noise = [rng.standard_normal((count, target.num_dims)) for count in counts]
    points = np.concatenate([moved(normal, e) for normal, e in zip(normals, noise, strict=True)])
    values, _ = target(points)
    if len(normals) == 1:
        return smoothed_weights(values - log_density(normals[0], points))[1]
    return smoothed_weights(values - mixture_density(weights, component_densities(normals, points)))[1]
