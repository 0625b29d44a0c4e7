"""Densities with exact draws and closed-form scores, each of shape (draw, dim)."""

import numpy as np


def normal(rng, num_draws, dim):
    draws = rng.normal(size=(num_draws, dim))
    return draws, -draws


def gumbel(rng, num_draws, dim):
    draws = rng.gumbel(size=(num_draws, dim))
    return draws, np.exp(-draws) - 1.0


def logistic(rng, num_draws, dim):
    draws = rng.logistic(size=(num_draws, dim))
    return draws, -np.tanh(0.5 * draws)


def banana(rng, num_draws, dim):
    """Pairs (x, y) with y around x^2 / 2; dim is even."""
    x, noise = rng.normal(size=(2, num_draws, dim // 2))
    return np.hstack([x, 0.5 * x**2 + noise]), np.hstack([noise * x - x, -noise])


EXACT = (normal, gumbel, logistic, banana)


def normal_log_ratio(draws, mean, covariance):
    """log p - log q of draws from q standard normal, p normal; nats."""
    away = draws - mean
    squares = np.einsum("ti,ij,tj->t", away, np.linalg.inv(covariance), away)
    return 0.5 * ((draws**2).sum(axis=1) - squares - np.linalg.slogdet(covariance)[1])
