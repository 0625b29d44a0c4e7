"""Whether a classifier can tell the draws of a fit from those of a baseline."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import solve
from scipy.special import ndtr

from ppl_models.checks import Check
from ppl_models.diagnostics.moments import RESOLUTION
from ppl_models.diagnostics.null_band import SMALL, Scores, scores

NAME = "classifier"
NOTABLE = 0.2
"""In sds: an error of one mean that counts. Alone it gives an AUC of 0.556; an sd 1.2 times too large gives 0.558."""
NUM_LINEAR, NUM_PRODUCTS = 60, 60
RIDGE = 0.02
WEAK = 0.3  # of the largest difference; what is weaker adds more noise to the score than it tells
ADVICE = "use a guide that keeps correlations (full_rank) or bends (iaf)"

Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class Class:
    """One of two sets of draws: basis [z, z^2 - 1] and its moments, in folds.

    Attributes:
        basis: shape (fold, draw, 2 * parameter).
        weights: shape (fold, draw); each fold's sum to one.
        mean: of the basis, shape (fold, 2 * parameter).
        cross: mean products of any two of the basis, shape (fold, 2 * parameter, 2 * parameter).
        square: mean squares of these products.
    """

    basis: Float64Array
    weights: Float64Array
    mean: Float64Array
    cross: Float64Array
    square: Float64Array


@dataclass(frozen=True)
class Rule:
    """A linear score of features: products of the basis at `first` and `second`; -1 for a constant."""

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    weights: Float64Array
    gains: Float64Array

    def features(self, basis: Float64Array) -> Float64Array:
        """Shape (draw, feature)."""
        return _features(basis, self.first, self.second)


def auc_limit(num_parameters: int) -> float:
    """AUC from which on a difference matters: one mean off by 0.2 sd where every parameter is as good as right.

    The best classifier of two normal distributions that differ by J nats of symmetric Kullback-Leibler divergence has
    an AUC of Phi(sqrt(J / 2)). A mean that is off by d sd adds d^2 to J, a log sd that is off by e adds 2 e^2. With
    a root mean square of 0.03 for both over k independent parameters, J = 0.2^2 + 0.0027 k: the limit is 0.558 for one
    parameter, 0.565 for five, 0.597 for thirty and 0.711 for two hundred. With enough draws a classifier tells any two
    distributions apart, and what no parameter shows adds up.

    Args:
        num_parameters: k.
    """
    divergence = NOTABLE**2 + num_parameters * 3.0 * SMALL**2
    return float(ndtr(math.sqrt(divergence / 2.0)))


def check_classifier(
    draws: xr.Dataset, baseline: xr.Dataset, *, log_weights: ArrayLike | None = None, seed: int = 0
) -> Check:
    """Classifier two-sample test of a fit against a baseline: what neither marginals nor correlations show.

    Normal scores z by the baseline's distribution function, clipped at its 1 % and 99 % quantiles, are told apart by
    Fisher's linear discriminant of features: z, z^2, and of all products of two of these (dependence of means, of
    widths on means, of widths, and skewness and kurtosis) those 60 whose means differ most in the training folds. It
    is about as powerful here as boosted trees, sees more than a quadratic logistic regression, and costs a tenth, for
    the moments of all features are sums over folds. Folds are four successive quarters of every chain, so that
    neighbours stay together; the AUC is that in the folds held out.

    The null band is the same AUC between two halves of the baseline's chains, split ten times: whatever the chains'
    autocorrelation, "different" means beyond the baseline's own error.

    Args:
        draws: independent draws of the fit, dims (chain, draw, event...); at least 100.
        baseline: MCMC draws of the same variables.
        log_weights: log importance weights of the fit's draws, shape (draw,), which judge the corrected fit.
        seed: of the splits.

    Returns:
        The check `classifier`, whose value is the AUC, 0.5 where nothing tells the two apart. It fails beyond
        `auc_limit` and three standard errors by the null band, and is not resolved where only one is exceeded or the
        three errors alone exceed the limit. The detail names the parameter, or the pair, that gives the fit away.

    Raises:
        DataError: mismatched variables, shapes or labels; weights of another shape.

    Lopez-Paz and Oquab (2017), Revisiting classifier two-sample tests, ICLR.
    """
    found = scores(draws, baseline, log_weights)
    if isinstance(found, str):
        return Check(NAME, math.nan, auc_limit(1), None, "", detail=f"not measured: {found}")
    units = _units(found)
    value, rules = _held_out(_class(found.fit, found.weights), _pooled(units, np.ones(found.baseline.shape[:2], bool)))
    nulls = [
        _held_out(_pooled(units, split), _pooled(units, ~split))[0]
        for split in found.splits(np.random.default_rng(seed))
    ]
    error = found.shrinkage * math.sqrt(float(np.mean((np.array(nulls) - 0.5) ** 2)))
    return _judged(value, error, auc_limit(len(found.labels)), _giveaway(rules, found))


def _judged(value: float, error: float, limit: float, giveaway: str) -> Check:
    beyond, chance = value > limit, RESOLUTION * error
    passed = False if beyond and value > 0.5 + chance else None if beyond or 0.5 + chance > limit else True
    detail = f"AUC; the baseline's own halves give {0.5 + chance:.2f} at most"
    if value > 0.5 + chance:
        detail += f"; {giveaway} gives the fit away"
    return Check(NAME, value, limit, passed, {True: "", False: ADVICE, None: "more draws"}[passed], error, detail)


def _class(values: Float64Array, weights: Float64Array) -> Class:
    basis = np.concatenate([values, values**2 - 1.0], axis=-1)
    squares = basis**2
    weighted = np.swapaxes(basis * weights[..., None], 1, 2)
    square = np.swapaxes(squares * weights[..., None], 1, 2) @ squares
    return Class(basis, weights, (weights[:, None] @ basis)[:, 0], weighted @ basis, square)


def _units(found: Scores) -> Class:
    """The baseline with every chain's every fold for a fold of its own, shape (chain * fold, ...)."""
    values = found.baseline.reshape(-1, *found.baseline.shape[2:])
    return _class(values, np.full(values.shape[:2], 1.0 / values.shape[1]))


def _pooled(units: Class, chosen: NDArray[np.bool_]) -> Class:
    """The chains that are chosen in each fold, `chosen` of shape (chain, fold), the same number in each."""
    num_folds = chosen.shape[1]
    places = np.stack([np.flatnonzero(chosen[:, fold]) * num_folds + fold for fold in range(num_folds)])
    basis = units.basis[places].reshape(num_folds, -1, units.basis.shape[-1])
    weights = np.full(basis.shape[:2], 1.0 / basis.shape[1])
    mean, cross, square = (
        np.stack([part[row].mean(axis=0) for row in places]) for part in (units.mean, units.cross, units.square)
    )
    return Class(basis, weights, mean, cross, square)


def _held_out(fit: Class, truth: Class) -> tuple[float, list[Rule]]:
    """AUC averaged over the folds held out, and the rule found without each."""
    rules, aucs = [], []
    for fold, training in _trainings(len(fit.basis)):
        rule = _discriminant(fit, truth, training)
        parts = [(rule.features(side.basis[fold]) @ rule.weights, side.weights[fold]) for side in (fit, truth)]
        aucs.append(_auc(*parts[0], *parts[1]))
        rules.append(rule)
    return float(np.mean(aucs)), rules


def _trainings(num_folds: int) -> Iterator[tuple[int, list[int]]]:
    for fold in range(num_folds):
        yield fold, [other for other in range(num_folds) if other != fold]


def _discriminant(fit: Class, truth: Class, training: list[int]) -> Rule:
    first, second = _chosen(fit, truth, training)
    means, covariances = [], []
    for side in (fit, truth):
        features = np.concatenate([_features(side.basis[fold], first, second) for fold in training])
        weights = np.concatenate([side.weights[fold] for fold in training]) / len(training)
        mean = weights @ features
        centred = features - mean
        means.append(mean)
        covariances.append((centred * weights[:, None]).T @ centred)
    pooled = 0.5 * (covariances[0] + covariances[1])
    scale = np.sqrt(np.diag(pooled)) + 1e-9
    difference = (means[0] - means[1]) / scale
    keep = np.abs(difference) >= WEAK * np.abs(difference).max()
    difference, scale, pooled = difference[keep], scale[keep], pooled[np.ix_(keep, keep)]
    within = pooled / np.outer(scale, scale) + RIDGE * np.eye(len(scale))
    direction = solve(within, difference, assume_a="pos")
    return Rule(first[keep], second[keep], direction / scale, direction * difference)


def _chosen(fit: Class, truth: Class, training: list[int]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The features whose means differ most, in sds of the feature."""
    size = fit.mean.shape[-1]
    num_parameters = size // 2
    (mean, cross, square), (mean0, cross0, square0) = (
        [part[training].mean(axis=0) for part in (side.mean, side.cross, side.square)] for side in (fit, truth)
    )
    variance = 0.5 * (np.diag(cross) - mean**2 + np.diag(cross0) - mean0**2)
    alone = np.abs(mean - mean0) / np.sqrt(np.maximum(variance, 1e-9))
    variance = 0.5 * (square - cross**2 + square0 - cross0**2)
    products = np.triu(np.abs(cross - cross0) / np.sqrt(np.maximum(variance, 1e-9)))
    products[np.arange(num_parameters), np.arange(num_parameters)] = 0.0  # z^2 is in the basis
    linear = _largest(alone[:num_parameters], NUM_LINEAR)
    bent = num_parameters + _largest(alone[num_parameters:], NUM_LINEAR // 2)
    rows, columns = np.unravel_index(_largest(products.ravel(), NUM_PRODUCTS), products.shape)
    constant = np.full(len(linear) + len(bent), -1, dtype=np.intp)
    return np.concatenate([constant, rows]), np.concatenate([linear, bent, columns])


def _largest(values: Float64Array, number: int) -> NDArray[np.intp]:
    if len(values) <= number:
        return np.arange(len(values))
    return np.argpartition(values, -number)[-number:]


def _features(basis: Float64Array, first: NDArray[np.intp], second: NDArray[np.intp]) -> Float64Array:
    alone = first < 0
    found = basis[:, second]
    found[:, ~alone] *= basis[:, first[~alone]]
    return found


def _auc(fit: Float64Array, fit_weights: Float64Array, truth: Float64Array, truth_weights: Float64Array) -> float:
    """Probability that a draw of the fit scores higher than one of the baseline; ties count half."""
    order = np.argsort(truth)
    share = np.concatenate([[0.0], np.cumsum(truth_weights[order])])
    below, upto = (share[np.searchsorted(truth[order], fit, side=side)] for side in ("left", "right"))
    return float(fit_weights @ (0.5 * (below + upto)))


def _giveaway(rules: list[Rule], found: Scores) -> str:
    """The parameter, or the two, whose features hold most of the separation of the two means."""
    number = len(found.labels)
    pairs: dict[tuple[int, int], float] = {}
    for rule in rules:
        for first, second, gain in zip(rule.first, rule.second, rule.gains, strict=True):
            places = sorted({int(place) % number for place in (first, second) if place >= 0})
            key = (places[0], places[-1])
            pairs[key] = pairs.get(key, 0.0) + float(gain)
    one, other = max(pairs, key=lambda key: pairs[key])
    if one == other:
        return f"`{found.labels[one]}`"
    return f"`{found.labels[one]}` together with `{found.labels[other]}`"
