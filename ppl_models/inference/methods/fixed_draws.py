"""Draws that are made once and kept: antithetic, and with the second moments of a standard normal exactly."""

import numpy as np

MAX_WHITENED = 200
"""With more dims, only the variance along each is made one."""
PAIRS_PER_DIM = 2
"""As many pairs at least are whitened together, for each dim."""


def enough_pairs(num_pairs: int, num_dims: int) -> int:
    """At least `num_pairs`, and as many as whitening wants."""
    return max(num_pairs, 2, PAIRS_PER_DIM * num_dims if num_dims <= MAX_WHITENED else 0)


def fixed_draws(num_pairs: int, num_dims: int, rng: np.random.Generator) -> np.ndarray:
    """Antithetic pairs of standard normal draws whose sample covariance is the identity.

    Odd moments vanish and second moments are right, so that averages of all polynomials of degree three are exact. To
    first order in one over the number of pairs, whitening takes from an average what a regression on all products of
    two coordinates explains: what is left behaves as the mean of independent pairs with the residual variance.

    Args:
        num_pairs: pairs; a whitened sample wants twice as many as dims.
        num_dims: length of a draw.
        rng: gives the numbers.

    Returns:
        Draws, shape (2 * num_pairs, num_dims), the second half the negative of the first.
    """
    half = rng.standard_normal((num_pairs, num_dims))
    if num_dims <= MAX_WHITENED:
        values, axes = np.linalg.eigh(half.T @ half / num_pairs)
        half = half @ (axes / np.sqrt(values)) @ axes.T
    else:
        half = half / np.sqrt(np.square(half).mean(axis=0))
    return np.concatenate([half, -half])
