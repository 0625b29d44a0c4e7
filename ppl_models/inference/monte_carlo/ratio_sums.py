"""The sums behind a weighted mean; the heaviest draws are kept: they can be smoothed, and their leverage is known."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ppl_models.inference.monte_carlo.heaviest import Heaviest

Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class Ratio:
    """A weighted mean.

    Attributes:
        value: shape (component,).
        variance: of the value by the delta method, each term without its own leverage, same shape.
        spread: variance of a draw under the target, same shape.
        bias: of the value, to first order, same shape.
        ess: draws that weigh equally and would leave the same variance of the weights.
        khat: of the weights (unitless).
    """

    value: Float64Array
    variance: Float64Array
    spread: Float64Array
    bias: Float64Array
    ess: float
    khat: float


class RatioSums:
    """Running sums of weighted draws, of values less a fixed centre.

    Attributes:
        heaviest: the draws that are kept.
        centre: what the values are less, shape (component,); empty before the first draw of some weight.
        unit: largest log weight of the first draws, nats.
    """

    def __init__(self) -> None:
        self.heaviest = Heaviest()
        self.centre: Float64Array = np.zeros(0)
        self.unit = 0.0
        # of the draws not kept, weights relative to exp(scale): sums of w and w²; and of w f, w f², w² f, w² f²
        self._scale = -math.inf
        self._weights = np.zeros(2)
        self._sums: Float64Array = np.zeros((4, 0))

    def add(self, log_weights: Float64Array, values: Float64Array) -> Float64Array:
        """Take in draws, at least one of some weight.

        Args:
            log_weights: nats, shape (draw,); -inf is a weight of zero.
            values: shape (draw, component).

        Returns:
            The values less the centre.
        """
        if not self.centre.size:
            self.unit = float(log_weights.max())
            weights = np.exp(log_weights - self.unit)
            self.centre = weights @ values / weights.sum()
            self._sums = np.zeros((4, values.shape[1]))
        centred = values - self.centre
        leaving, gone = self.heaviest.add(log_weights, centred)
        if len(gone) and np.isfinite(leaving).any():
            self._forget(leaving, gone)
        return centred

    def _forget(self, log_weights: Float64Array, centred: Float64Array) -> None:
        scale = max(self._scale, float(log_weights.max()))
        shrink, self._scale = math.exp(self._scale - scale), scale
        once, shrinks = np.exp(log_weights - scale)[:, None], np.array([shrink, shrink, shrink**2, shrink**2])
        self._weights = self._weights * (shrink, shrink**2) + (once.sum(), (once**2).sum())
        added = [once * centred, once * centred**2, once**2 * centred, (once * centred) ** 2]
        self._sums = self._sums * shrinks[:, None] + [term.sum(axis=0) for term in added]

    def ratio(self, smooth: bool) -> Ratio:
        """The weighted mean of all draws.

        Args:
            smooth: whether the largest weights are Pareto-smoothed.
        """
        smoothed, khat = self.heaviest.smoothed()
        log_weights = smoothed if smooth else self.heaviest.log_weights
        top = max(float(log_weights.max()), self._scale)
        kept, shrink = np.exp(log_weights - top), math.exp(self._scale - top)
        total = kept.sum() + shrink * self._weights[0]
        kept, shrink = kept / total, shrink / total
        values, sums, (once, twice) = self.heaviest.values, self._sums, self._weights
        mean = kept @ values + shrink * sums[0]
        away = values - mean
        # of draws that are not kept the leverage is too small to count
        leverage = 1.0 / np.maximum(1.0 - kept, 1e-12)
        rest = shrink**2 * (sums[3] - 2.0 * mean * sums[2] + mean**2 * twice)
        return Ratio(
            value=self.centre + mean,
            variance=(kept**2 * leverage) @ away**2 + np.maximum(rest, 0.0),
            spread=kept @ away**2 + shrink * (sums[1] - 2.0 * mean * sums[0] + mean**2 * once),
            bias=-((kept**2) @ away + shrink**2 * (sums[2] - mean * twice)),
            ess=1.0 / float((kept**2).sum() + shrink**2 * twice),
            khat=khat,
        )
