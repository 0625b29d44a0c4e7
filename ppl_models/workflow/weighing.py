"""Draws of guides weighted to the posterior, in replicates, alone and pooled, held against limits and one another."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.special import logsumexp

from ppl_models.diagnostics import Check, Moments, Replicates, check_others, check_replicates, replicates
from ppl_models.engine import Constrained, Target
from ppl_models.inference.proposal import Proposal
from ppl_models.program import Program
from ppl_models.seeds import child_seed

NUM_REPLICATES = 4
FIRST_DRAWS, MOST_DRAWS = 2_500, 40_000
"""Draws of one replicate: to begin with, and at most, where more of them would settle the moments."""
GROWTH = 4
MOST_NUMBERS = 20_000_000
"""Draws times parameters that are held at once."""


class Scale:
    """Scalar parameters of a program at flat unconstrained points, and the log density there.

    Args:
        program: the model with its data and learnt parameters.
    """

    def __init__(self, program: Program):
        self.program = program
        with self._world(), torch.no_grad():
            self.target, self.constrained = Target(program), Constrained(program)
            values = program.constrain(torch.zeros(program.num_dims, dtype=program.dtype, device=program.device))
        self.labels = [
            name if value.numel() == 1 else f"{name}[{', '.join(map(str, index))}]"
            for name, value in values.items()
            for index in np.ndindex(tuple(value.shape))
        ]

    @property
    def most_draws(self) -> int:
        """Draws that can be held at once."""
        return max(1_000, MOST_NUMBERS // max(len(self.labels), self.program.num_dims))

    def values(self, points: np.ndarray) -> np.ndarray:
        """Latents and deterministics, shape (draw, parameter), at points (draw, dim)."""
        with self._world():
            return self.constrained(points)

    def log_density(self, points: np.ndarray) -> np.ndarray:
        """Log density in nats at points (draw, dim), -inf where there is none, shape (draw,)."""
        with self._world():
            return self.target.values(points)

    def gradients(self, points: np.ndarray) -> np.ndarray:
        """Gradients of the log density at points (draw, dim), of their shape; NaN where there are none."""
        with self._world():
            return self.target(points)[1]

    def _world(self):
        return self.program.isolated(seed=0, num_threads=1)


@dataclass(frozen=True)
class Draws:
    """Draws of one guide with what importance weighting needs.

    Attributes:
        guide: where they come from.
        points: flat and unconstrained, shape (replicate, draw, dim).
        values: scalar parameters, shape (replicate, draw, parameter).
        log_p: shape (replicate, draw).
        log_q: shape (replicate, draw).
    """

    guide: Proposal
    points: np.ndarray = field(repr=False)
    values: np.ndarray = field(repr=False)
    log_p: np.ndarray = field(repr=False)
    log_q: np.ndarray = field(repr=False)

    @property
    def finite(self) -> bool:
        """Whether the weights can be computed at all."""
        ratio = self.log_p - self.log_q
        return bool(np.isfinite(self.log_q).all() and not np.isneginf(ratio).all() and not np.isposinf(ratio).any())


@dataclass(frozen=True)
class Evidence:
    """Draws of a guide, what their weights say, and the checks."""

    draws: Draws
    found: Replicates
    checks: tuple[Check, ...]


def draw(guide: Proposal, scale: Scale, num_draws: int, seed: int) -> Draws:
    """Draw `num_draws` in each replicate, and score them."""
    number = NUM_REPLICATES * num_draws
    points = guide.draw(number, seed)
    log_q, log_p = guide.log_prob(points), scale.log_density(points)
    values = scale.values(points)
    shape = (NUM_REPLICATES, num_draws)
    return Draws(
        guide, points.reshape(*shape, -1), values.reshape(*shape, -1), log_p.reshape(shape), log_q.reshape(shape)
    )


def gather(guide: Proposal, scale: Scale, seed: int, *, max_seconds: float = 0.0) -> Evidence | None:
    """Draws of a guide, more where that may settle its corrected moments; None where none can be weighted.

    Args:
        guide: what to draw from.
        scale: where it is measured.
        seed: of the draws.
        max_seconds: more draws are taken while they are expected to take no longer.
    """
    most = min(MOST_DRAWS, scale.most_draws // NUM_REPLICATES)
    num_draws = min(FIRST_DRAWS, most)
    while True:
        began = time.perf_counter()
        draws = draw(guide, scale, num_draws, child_seed(seed, f"{num_draws} draws"))
        if not draws.finite:
            return None
        found = replicates(draws.values, draws.log_p - draws.log_q)
        checks = check_replicates(found)
        khat, precision, correction = checks
        settled = precision.passed or not (khat.passed and correction.passed)
        too_long = GROWTH * (time.perf_counter() - began) > max_seconds
        if settled or num_draws >= most or too_long:
            return Evidence(draws, found, checks)
        num_draws = min(most, GROWTH * num_draws)


def against_others(evidence: Evidence, others: Sequence[Draws], labels: Sequence[str]) -> Check:
    """Whether the corrected moments stay where they are when draws of other guides are added.

    All draws together count as draws of the mixture of the guides, half of it the guide judged (Owen and Zhou 2000,
    Safe and effective importance sampling): the guide's share bounds the weights, and a mode that it misses and
    another has comes in with its mass.
    """
    shares = [0.5, *(0.5 / len(others) for _ in others)]
    _, values, ratio = _mixed([evidence.draws, *others], shares)
    return check_others(evidence.found.corrected, replicates(values, ratio).corrected, labels)


@dataclass(frozen=True)
class Pool:
    """All draws there are, as draws of the mixture of their guides, weighted to the posterior.

    Attributes:
        points: flat and unconstrained, shape (draw, dim).
        values: scalar parameters, shape (draw, parameter).
        log_weights: their exponentials sum to one, shape (draw,).
        found: what the replicates of the weighted draws say.
    """

    points: np.ndarray = field(repr=False)
    values: np.ndarray = field(repr=False)
    log_weights: np.ndarray = field(repr=False)
    found: Replicates

    @property
    def moments(self) -> Moments:
        """Of the scalar parameters."""
        return self.found.corrected

    def starts(self, number: int, seed: int) -> np.ndarray:
        """Points drawn by their weights, shape (number, dim)."""
        chosen = np.random.default_rng(seed).choice(len(self.points), number, p=np.exp(self.log_weights))
        return self.points[chosen]


def pool(groups: Sequence[Draws]) -> Pool | None:
    """Draws of several guides together, equally many of each; None where there are none."""
    if not groups:
        return None
    points, values, ratio = _mixed(groups, [1.0 / len(groups)] * len(groups))
    if np.isneginf(ratio).all(axis=1).any():
        return None
    found = replicates(values, ratio)
    weights = found.log_weights - np.logaddexp.reduce(found.log_weights)
    return Pool(points, values.reshape(len(points), -1), weights, found)


def _mixed(groups: Sequence[Draws], shares: Sequence[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws of several guides as draws of their mixture, in proportion to their shares and in random order.

    Returns:
        Points, shape (draw, dim); scalar parameters, (replicate, draw, parameter); log p - log q, (replicate, draw).
    """
    number = min(group.points.shape[1] for group in groups)
    counts = [max(1, round(number * share / max(shares))) for share in shares]
    points, values, log_p = (
        np.concatenate([_some(getattr(group, part), count) for group, count in zip(groups, counts, strict=True)])
        for part in ("points", "values", "log_p")
    )
    # A flow may fail far from its own draws, where it has no density worth the name.
    logs = [np.nan_to_num(group.guide.log_prob(points), nan=-np.inf, posinf=np.inf, neginf=-np.inf) for group in groups]
    log_q: Any = logsumexp(np.stack(logs, axis=1), b=np.asarray(shares), axis=1)
    order = np.random.default_rng(0).permutation(len(points))
    usable = order[: len(order) // NUM_REPLICATES * NUM_REPLICATES]
    ratio = (log_p - log_q)[usable].reshape(NUM_REPLICATES, -1)
    return points[usable], values[usable].reshape(*ratio.shape, -1), ratio


def _some(array: np.ndarray, count: int) -> np.ndarray:
    """The first draws of each replicate, one after the other."""
    part = array[:, :count]
    return part.reshape(-1, *part.shape[2:])
