"""What a particle filter found: the evidence of a series, and the state at each time given the past."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ppl_models.errors import OptionError
from ppl_models.inference.evidence.result import Evidence
from ppl_models.options import check_count
from ppl_models.seeds import check_seed

OfState = Any
"""An array, or a dict of them by name where the state has parts."""


@dataclass(frozen=True, eq=False, repr=False)
class Filtered(Evidence):
    """The evidence of a series of observations, and its filter.

    Where a state is one tensor, `mean`, `mean_error`, `sd`, `particles` and the draws are the arrays themselves; where
    it has parts, dicts of them by name. `log_weights` of the evidence are the log estimates of each run, shape (run,),
    whose mean in the exponent is the estimate. A run whose particles have all lost their weight counts
    there with an estimate of zero, and from that time on not in the means.

    Attributes:
        mean: mean of the state given the observations up to each time, shape (time, *event): of all runs,
            weighted by their estimates of the evidence, which takes most of the bias of a single run away.
        mean_error: standard error of `mean` from the spread of the runs, of its shape.
        sd: standard deviation of the state given the observations up to each time, shape (time, *event).
        run_log_evidence: each run's estimate of the log density of the observations up to each time, nats, shape
            (run, time).
        effective: effective number of particles at each time before resampling, shape (run, time).
        unique: share of the particles at each time that have an ancestor of their own, shape (run, time); 1 where there
            was no resampling.
        particles: states, shape (run, time, particle, *event); of the last time alone unless `keep_history`.
        particle_log_weights: their normalised log weights, shape (run, time, particle).
        ancestors: place of each particle's ancestor at the time before, shape (run, time, particle).
    """

    mean: OfState = field(default_factory=dict)
    mean_error: OfState = field(default_factory=dict)
    sd: OfState = field(default_factory=dict)
    run_log_evidence: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    effective: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    unique: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    particles: OfState = field(default_factory=dict)
    particle_log_weights: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 0)))
    ancestors: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 0), dtype=int))

    def draws(self, num_draws: int, *, time: int = -1, seed: int = 0) -> OfState:
        """Draws of the state given the observations up to a time, shape (draw, *event); a dict where it has parts.

        Runs count by their estimates of the evidence up to then, particles by their weights.

        Args:
            num_draws: how many.
            time: place in what was kept: all times with `keep_history=True`, else the last alone.
            seed: seed of the draws.

        Raises:
            OptionError: an option is out of its range, that time was not kept, or no particle has weight.
        """
        check_count("num_draws", num_draws)
        kept = self.particle_log_weights.shape[1]
        if not -kept <= time < kept:
            raise OptionError(
                f"time: found {time}, and {kept} are kept. Filter with keep_history=True for all of them."
            )
        place = time if kept > 1 else -1
        log_weights = self.particle_log_weights[:, place] + self.run_log_evidence[:, place, None]
        if not np.isfinite(log_weights.max()):
            raise OptionError("draws: no particle of any run has weight. See the checks.")
        weights = np.exp(log_weights - log_weights.max()).ravel()
        places = np.random.default_rng(check_seed(seed)).choice(weights.size, num_draws, p=weights / weights.sum())
        if not isinstance(self.particles, dict):
            return _chosen(self.particles, place, places)
        return {name: _chosen(value, place, places) for name, value in self.particles.items()}

    def _rows(self) -> list[tuple[str, str]]:
        return [("runs" if name == "draws" else name, value) for name, value in super()._rows()]


def _chosen(particles: np.ndarray, place: int, places: np.ndarray) -> np.ndarray:
    return particles[:, place].reshape(-1, *particles.shape[3:])[places]
