"""A look at some rows between two epochs: reconstruction, divergence and bound, always on the same noise."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from ppl_models.inference.modes import Networks
from ppl_models.program import Program, map_draws
from ppl_models.program.data import Arguments
from ppl_models.program.elbo import program_log_ratio
from ppl_models.program.estimators import Estimator, WeightedKl
from ppl_models.program.estimators.drawing import is_enumerated
from ppl_models.program.estimators.parts import Parts, parts_of
from ppl_models.program.isolation import forked_random, seed_torch

ELBO_ESTIMATORS = frozenset({"total", "sticking_the_landing", "entropy", "score", "nvil"})
"""Estimators whose objective is the ELBO, so that a look need not compute it apart."""


@dataclass(frozen=True)
class Figures:
    """What a look found, in nats per row, at beta = 1.

    Attributes:
        reconstruction: E_q[log p(x | z)]; NaN where discrete sites are summed out.
        kl: divergence of the local latents, and of those that all rows share, spread over the rows.
        bound: the ELBO.
        objective: what is trained, at its final weights.
        divergence: of each unit of the local latents, shape (unit,).
        activity: variance over the rows of each unit's posterior mean, in variances of its prior, shape (unit,); NaN
            where that has to be drawn.
        labels: names of the units.
    """

    reconstruction: float
    kl: float
    bound: float
    objective: float
    divergence: np.ndarray = field(default_factory=lambda: np.zeros(0), repr=False)
    activity: np.ndarray = field(default_factory=lambda: np.zeros(0), repr=False)
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Look:
    """How the parameters in the param store do on some rows. Call it in the fit's world, where rows are scaled.

    Attributes:
        program: the model.
        guide: the guide.
        estimator: what is trained.
        chunks: the rows, some at a time, with how many they are.
        num_rows: rows that the data of any chunk stand for.
        plate: over the rows.
        seed: of the noise.
        networks: whose layers are in evaluation mode meanwhile.
    """

    program: Program
    guide: Callable[..., Any]
    estimator: Estimator
    chunks: Sequence[tuple[Arguments, int]]
    num_rows: int
    plate: str
    seed: int
    networks: Networks = field(default_factory=Networks, repr=False)

    @property
    def is_elbo(self) -> bool:
        """Whether what is trained is the ELBO, so that its value need not be told apart."""
        if isinstance(self.estimator, WeightedKl):
            return self.estimator.is_elbo
        return self.estimator.name in ELBO_ESTIMATORS

    def __call__(self) -> Figures:
        """Figures at the parameters that are in the param store."""
        with self.networks.evaluating():
            found = [self._chunk(arguments) for arguments, _ in self.chunks]
        counts = np.array([count for _, count in self.chunks], dtype=float)
        reconstruction, kl, bound, objective = np.average([one[0] for one in found], axis=0, weights=counts)
        divergence = np.average([one[1] for one in found], axis=0, weights=counts)
        if isinstance(self.estimator, WeightedKl):
            others = kl - float(divergence.sum())
            floor = np.maximum(divergence, self.estimator.free_bits)
            objective = reconstruction - others - self.estimator.beta * float(floor.sum())
        labels, means = found[0][2], [one[3] for one in found]
        activity = np.concatenate(means).var(axis=0, ddof=1) if len(means[0]) and counts.sum() > 1 else np.zeros(0)
        if len(activity) != len(labels):
            activity = np.full(len(labels), math.nan)
        return Figures(reconstruction, kl, bound, objective, divergence, activity, labels)

    def _chunk(self, arguments: Arguments) -> tuple[np.ndarray, np.ndarray, tuple[str, ...], np.ndarray]:
        here = replace(self.program, arguments=arguments)
        with forked_random(self.program.device), torch.no_grad():
            seed_torch(self.seed)
            if is_enumerated(here):
                bound = float(program_log_ratio(here, self.guide)) / self.num_rows
                figures, parts = [math.nan, math.nan, bound], None
            else:
                parts = parts_of(here, self.guide, self.plate)
                total = parts.divergence.double().sum()
                reconstruction, others = parts.reconstruction.double(), parts.others.double()
                figures = [reconstruction, others + total, reconstruction - others - total]
                figures = [float(value) / self.num_rows for value in figures]
            seed_torch(self.seed)
            figures.append(self._objective(here, figures[-1]))
        if parts is None:
            return np.array(figures), np.zeros(0), (), np.zeros((0, 0))
        divergence = parts.divergence.double().cpu().numpy() / self.num_rows
        return np.array(figures), divergence, parts.labels, _means_of(parts)

    def _objective(self, here: Program, bound: float) -> float:
        if self.is_elbo or isinstance(self.estimator, WeightedKl):
            return bound
        terms = map_draws(
            lambda: self.estimator.particle(here, self.guide), self.estimator.draws_inside, size_hint=here.size_hint
        )
        return -float(self.estimator.combine(terms)) / self.num_rows


def _means_of(parts: Parts) -> np.ndarray:
    """Posterior means in the prior's scale, shape (row, unit); empty where a latent has to be drawn, or is a group."""
    columns = []
    for deviation in parts.deviations.values():
        mean = deviation()
        if mean is None or mean.dim() < 1:
            return np.zeros((0, 0))
        columns.append(mean.detach().double().reshape(len(mean), -1))
    found = torch.cat(columns, dim=1).cpu().numpy() if columns else np.zeros((0, 0))
    return found if found.shape[-1] == len(parts.labels) else np.zeros((0, 0))
