"""Draws of a fit with what is needed to weight them, more of them on demand."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from ppl_models.diagnostics import Moments, weighted_moments
from ppl_models.diagnostics.labelled import labelled_draws
from ppl_models.inference import Fit
from ppl_models.posterior import data_groups, make_tree

MOST_NUMBERS = 20_000_000
"""Draws times parameters that are held at once."""


@dataclass(frozen=True, eq=False)
class Proposals:
    """Independent draws of a fit, scored.

    Attributes:
        fit: where they come from.
        values: latents and deterministics by name, shape (draw, *event).
        log_p: log joint density in nats, shape (draw,).
        log_q: log density of the guide in nats, shape (draw,).
        labels: one per scalar parameter.
        attrs: what made the draws.
    """

    fit: Fit
    values: Mapping[str, np.ndarray] = field(repr=False)
    log_p: np.ndarray = field(repr=False)
    log_q: np.ndarray = field(repr=False)
    labels: tuple[str, ...] = field(repr=False)
    attrs: Mapping[str, Any] = field(repr=False)

    def __len__(self) -> int:
        return len(self.log_p)

    @property
    def log_ratio(self) -> np.ndarray:
        """Log p - log q in nats, shape (draw,)."""
        return self.log_p - self.log_q

    @cached_property
    def matrix(self) -> np.ndarray:
        """Scalar parameters side by side, shape (draw, parameter)."""
        return np.concatenate([value.reshape(len(self), -1).astype(float) for value in self.values.values()], axis=1)

    @cached_property
    def raw(self) -> Moments:
        """Moments of the draws as they are."""
        return weighted_moments(self.matrix, np.full(len(self), -np.log(len(self))))

    @property
    def most(self) -> int:
        """Draws that can be held at once."""
        return max(1_000, MOST_NUMBERS // max(len(self.labels), 1))

    def and_more(self, others: "Proposals") -> "Proposals":
        """These and others of the same fit."""
        return Proposals(
            self.fit,
            {name: np.concatenate([value, others.values[name]]) for name, value in self.values.items()},
            np.concatenate([self.log_p, others.log_p]),
            np.concatenate([self.log_q, others.log_q]),
            self.labels,
            self.attrs,
        )

    def tree(self, places: np.ndarray, stats: Mapping[str, np.ndarray], attrs: Mapping[str, Any]) -> xr.DataTree:
        """The draws at given places as a posterior, with the data.

        Args:
            places: shape (chain, draw).
            stats: further sample statistics, shape (chain, draw); `log_p` and `log_q` are there.
            attrs: what was done to the draws.
        """
        program = self.fit.program
        own = {"log_p": self.log_p[places], "log_q": self.log_q[places]}
        return make_tree(
            {
                "posterior": {name: value[places] for name, value in self.values.items()},
                "sample_stats": {**own, **stats},
                **data_groups(program),
            },
            self.fit.labels.of_program(program),
            attrs={**self.attrs, **attrs},
        )


def propose(fit: Fit, num_draws: int, seed: int) -> Proposals:
    """Draw from a fit and score the draws."""
    tree = fit.sample(num_draws, seed=seed)
    posterior, stats = tree["posterior"].to_dataset(), tree["sample_stats"].to_dataset()
    labels = labelled_draws(posterior.isel(draw=slice(0, 1))).labels
    values = {str(name): array.transpose("chain", "draw", ...).to_numpy()[0] for name, array in posterior.items()}
    log_p, log_q = (stats[name].to_numpy().reshape(-1).astype(float) for name in ("log_p", "log_q"))
    attrs = {str(name): value for name, value in tree.attrs.items() if name not in ("created_at", "sample_seed")}
    return Proposals(fit, values, log_p, log_q, labels, attrs)
