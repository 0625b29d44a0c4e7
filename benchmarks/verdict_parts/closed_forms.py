"""Problems whose moments are known exactly: modes far apart, heavy tails, a mild funnel, a banana, a normal."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch

from benchmarks.verdict_parts.subject import Mode, Moments, Subject

NUM_CHAINS, NUM_DRAWS = 4, 1_000
NUM_TRUTH = 400_000
"""The sample sd of a t with three degrees of freedom converges slowly: its variance has no variance."""
DISTANCE = 8.0
"""Between two modes, in sds of a mode."""
PRIOR_SCALE = 5.0
"""Of the starting points of a mixture."""
WEIGHTS, DIMS = (0.5, 0.8, 0.95), (1, 2, 5)
DF = 3.0
FUNNEL_DIMS = 9
BEND = 1.0
CORRELATION = 0.9


def names() -> tuple[str, ...]:
    """The names of all closed forms."""
    return tuple(BUILDERS)


def load(name: str) -> Subject:
    """The problem of that name."""
    return BUILDERS[name](name)


def _modes(name: str, dim: int, weight: float) -> Subject:
    """Two normals of unit covariance, the heavier one at -away in every coordinate."""
    away = 0.5 * DISTANCE / math.sqrt(dim)
    mean = away * (1.0 - 2.0 * weight)
    moments = {"x": _same(dim, mean, math.sqrt(1.0 + away**2 - mean**2))}

    def model() -> None:
        # A mixture's support has no transform: its density is a factor over a flat prior, from which starts are drawn.
        wide = dist.Normal(torch.zeros(()) if dim == 1 else torch.zeros(dim), PRIOR_SCALE)
        x = pyro.sample("x", (wide if dim == 1 else wide.to_event(1)).mask(False))
        distances = torch.stack([(x - place).square() for place in (-away, away)])
        squares = distances if dim == 1 else distances.sum(-1)
        shares = torch.tensor([math.log(weight), math.log(1.0 - weight)])
        shares = shares.reshape(2, *[1] * (squares.dim() - 1))
        pyro.factor("density", torch.logsumexp(shares - 0.5 * squares, 0))

    def draw(rng: np.random.Generator, size: tuple[int, ...]) -> Mapping[str, np.ndarray]:
        places = np.where(rng.random((*size, 1)) < weight, -away, away)
        return {"x": _shaped(places + rng.normal(size=(*size, dim)))}

    return _subject(name, model, moments, draw, mode=Mode(np.full(dim, -away), np.eye(dim)))


def _student(name: str, dim: int) -> Subject:
    def model() -> None:
        standard = dist.MultivariateStudentT(DF, torch.zeros(dim), torch.eye(dim))
        pyro.sample("x", dist.StudentT(DF) if dim == 1 else standard)

    def draw(rng: np.random.Generator, size: tuple[int, ...]) -> Mapping[str, np.ndarray]:
        spread = np.sqrt(DF / rng.chisquare(DF, size=(*size, 1)))
        return {"x": _shaped(spread * rng.normal(size=(*size, dim)))}

    return _subject(name, model, {"x": _same(dim, 0.0, math.sqrt(DF / (DF - 2.0)))}, draw)


def _funnel(name: str) -> Subject:
    """Neal's funnel with log variances of sd one: E exp(v) = exp(1/2) is the variance of each x."""

    def model() -> None:
        v = pyro.sample("v", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(torch.zeros(FUNNEL_DIMS), (0.5 * v).exp().unsqueeze(-1)).to_event(1))

    def draw(rng: np.random.Generator, size: tuple[int, ...]) -> Mapping[str, np.ndarray]:
        v = rng.normal(size=size)
        return {"v": v, "x": np.exp(0.5 * v)[..., None] * rng.normal(size=(*size, FUNNEL_DIMS))}

    moments = {"v": _same(1, 0.0, 1.0), "x": _same(FUNNEL_DIMS, 0.0, math.exp(0.25))}
    return _subject(name, model, moments, draw)


def _banana(name: str) -> Subject:
    """X standard normal, y ~ Normal(b (x² - 1), 1): mean zero and variance 1 + 2 b²."""

    def model() -> None:
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(BEND * (x**2 - 1.0), 1.0))

    def draw(rng: np.random.Generator, size: tuple[int, ...]) -> Mapping[str, np.ndarray]:
        x = rng.normal(size=size)
        return {"x": x, "y": BEND * (x**2 - 1.0) + rng.normal(size=size)}

    moments = {"x": _same(1, 0.0, 1.0), "y": _same(1, 0.0, math.sqrt(1.0 + 2.0 * BEND**2))}
    return _subject(name, model, moments, draw)


def _normal(name: str, dim: int) -> Subject:
    covariance = np.full((dim, dim), CORRELATION) + (1.0 - CORRELATION) * np.eye(dim)

    def model() -> None:
        pyro.sample("x", dist.MultivariateNormal(torch.zeros(dim), torch.as_tensor(covariance)))

    def draw(rng: np.random.Generator, size: tuple[int, ...]) -> Mapping[str, np.ndarray]:
        return {"x": rng.normal(size=(*size, dim)) @ np.linalg.cholesky(covariance).T}

    return _subject(name, model, {"x": _same(dim, 0.0, 1.0)}, draw)


def _subject(
    name: str,
    model: Callable[[], None],
    moments: Moments,
    draw: Callable[[np.random.Generator, tuple[int, ...]], Mapping[str, np.ndarray]],
    mode: Mode | None = None,
) -> Subject:
    return Subject(
        name=name,
        group="closed_form",
        model=model,
        data={},
        moments=moments,
        draws=draw(np.random.default_rng(20_240_601), (NUM_CHAINS, NUM_DRAWS)),
        mode=mode,
        has_likelihood=False,
        num_truth=NUM_TRUTH,
    )


def _same(dim: int, mean: float, sd: float) -> tuple[np.ndarray, np.ndarray]:
    shape = () if dim == 1 else (dim,)
    return np.full(shape, mean), np.full(shape, sd)


def _shaped(values: np.ndarray) -> np.ndarray:
    return values[..., 0] if values.shape[-1] == 1 else values


def _builders() -> dict[str, Any]:
    modes = {
        f"two_modes_{dim}d_{round(100 * weight)}": lambda name, dim=dim, weight=weight: _modes(name, dim, weight)
        for dim in DIMS
        for weight in WEIGHTS
    }
    return {
        **modes,
        "student_t3_1d": lambda name: _student(name, 1),
        "student_t3_5d": lambda name: _student(name, 5),
        "funnel_10d": _funnel,
        "banana": _banana,
        "normal_5d": lambda name: _normal(name, 5),
    }


BUILDERS: Mapping[str, Callable[[str], Subject]] = _builders()
