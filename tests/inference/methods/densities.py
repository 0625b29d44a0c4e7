"""Log densities for doubles: normals of any condition, and the shapes that break methods; points are (point, dim)."""

import math

import numpy as np
import torch
from torch.nn.functional import softplus

from tests.inference.methods.doubles import Double, normal_density


def normal(dim, condition, seed=0):
    """A normal target with that condition number of its covariance, its mean and its covariance's Cholesky factor."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
    half = 0.5 * math.log10(condition)
    variances = 10.0 ** (np.linspace(-half, half, dim) if dim > 1 else np.array([half]))
    mean, root = 10.0 * rng.standard_normal(dim), np.linalg.cholesky((axes * variances) @ axes.T)
    return Double(normal_density(mean, root), dim), mean, root


def unscaled(dim=6):
    """A normal target whose latents' scales span twelve orders."""
    rng = np.random.default_rng(1)
    scale = 10.0 ** np.linspace(-6.0, 6.0, dim)
    correlation = 0.5 * np.eye(dim) + 0.5
    mean, root = scale * rng.standard_normal(dim), scale[:, None] * np.linalg.cholesky(correlation)
    return Double(normal_density(mean, root), dim), mean, root


def errors(found, mean, root):
    """Largest error of a mean, in standard deviations of the target's own axes, and of a covariance, in those units."""
    relative = np.linalg.solve(root, found.root if found.root.ndim == 2 else np.diag(found.root))
    away = np.linalg.solve(root, found.mean - mean)
    return float(np.abs(away).max()), float(np.abs(relative @ relative.T - np.eye(len(mean))).max())


def banana(x):
    """Rosenbrock's: mean of the first latent 1, its standard deviation sqrt(10)."""
    return -((1.0 - x[:, 0]) ** 2) / 20.0 - 5.0 * (x[:, 1] - x[:, 0] ** 2) ** 2


def funnel(x):
    """Neal's: v ~ Normal(0, 3), the others Normal(0, exp(v / 2))."""
    v, others = x[:, 0], x[:, 1:]
    return -(v**2) / 18.0 - 0.5 * others.square().sum(1) * torch.exp(-v) - 0.5 * others.shape[1] * v


def no_mode(x):
    """Eight normal effects of scale exp(u): the density grows without bound as u falls, and is proper."""
    u, effects = x[:, 0], x[:, 1:]
    scale_prior = u - torch.log1p(torch.exp(2.0 * u) / 25.0)
    data = torch.linspace(-3.0, 20.0, effects.shape[1], dtype=x.dtype)
    likelihood = -0.5 * ((effects - data) / 10.0).square().sum(1)
    return scale_prior - 0.5 * effects.square().sum(1) * torch.exp(-2.0 * u) - effects.shape[1] * u + likelihood


MODES = (np.array([-5.0, 0.0]), np.array([5.0, 3.0]))
ROOTS = (np.eye(2), np.array([[1.0, 0.0], [0.5, 1.3]]))
SHARE = 0.3


def two_modes(x):
    """Two normals far apart, the first of weight 0.3."""
    first, second = (normal_density(mean, root)(x) for mean, root in zip(MODES, ROOTS, strict=True))
    return torch.logaddexp(first + math.log(SHARE), second + math.log(1.0 - SHARE))


IMPROPER = {
    "a flat latent": (2, lambda x: -0.5 * x[:, 0] ** 2 + 0.0 * x[:, 1], "z1"),
    "a flat sum": (3, lambda x: -0.5 * (x[:, 0] - x[:, 1]) ** 2 - 0.5 * x[:, 2] ** 2, "z0"),
    "rising for ever": (2, lambda x: -0.5 * x[:, 0] ** 2 + x[:, 1], "z1"),
    "bent upwards": (2, lambda x: -0.5 * x[:, 0] ** 2 + 0.5 * x[:, 1] ** 2, "z1"),
    "separated": (2, lambda x: -0.5 * x[:, 0] ** 2 - softplus(-x[:, 1]), "z1"),
}
"""Dims, density, and a latent that an honest note names."""
