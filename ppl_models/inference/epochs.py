"""Training by epochs: batches of rows, looks in between, early stopping that waits, and the best weights kept."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import pandas as pd
import torch

from ppl_models.errors import PPLError
from ppl_models.inference.course import CONVERGED, DIVERGED, MAX_STEPS, Course, EndedError, Plan, Trajectory
from ppl_models.inference.look import Figures, Look
from ppl_models.inference.modes import Buffers
from ppl_models.inference.plain_course import FINAL_STEP_RATIO
from ppl_models.inference.stationarity import has_settled
from ppl_models.inference.step_search import STEP_SIZES, TRIAL_STEPS, search
from ppl_models.inference.steps import Steps
from ppl_models.program import Parameters
from ppl_models.program.estimators import Estimator, WeightedKl
from ppl_models.program.feeds import Feed
from ppl_models.progress import Update
from ppl_models.seeds import child_seed

DECAY_SHARE = 1.0 / 3.0
"""Share of the epochs, at the end, over which the step size falls to a hundredth."""
PIECES = 20
"""In how many pieces an epoch of the warm-up raises the weight of the divergence."""
STEPS_PER_LOOK = 20
"""Fewest steps between two looks: one costs about as much as a step."""
FEWEST_LOOKS = 3
"""Looks without a better one before patience can end, where it is not shorter: epochs of few steps have few looks."""
SEARCH_SHARE = 0.05
"""Most of all steps that a search for the step size may take."""
NETWORK_STEP_SIZE, STEP_SIZE = 0.001, 0.01
"""Step sizes of networks, and of other parameters where there are too few steps to look for one."""
LOOKED_AT = ("reconstruction", "kl", "bound")
"""What a look at rows tells in the history."""
VALIDATION, TRAINING = "validation", "training"


@dataclass(frozen=True)
class EpochPlan:
    """How a training by epochs goes.

    Attributes:
        feed: gives the batches.
        look: looks at rows between epochs.
        estimator: what is trained; its weight moves in a warm-up.
        held_out: whether the rows looked at are not trained on.
        max_epochs: most epochs.
        patience: epochs without a better look behind which it stops, with as many looks in them, or three; None for
            never.
        warmup_epochs: epochs over which the weight of the divergence rises from 0.
        seed: of the noise of each epoch.
        save: called behind an epoch with the course, which may write it down.
        resume: called with the course before the first epoch; returns the epoch to go on from.
    """

    feed: Feed
    look: Look
    estimator: Estimator
    held_out: bool
    max_epochs: int
    patience: int | None = None
    warmup_epochs: int = 0
    seed: int = 0
    save: Callable[["Epochs"], None] = field(default=lambda course: None, repr=False)
    resume: Callable[["Epochs"], int] = field(default=lambda course: 0, repr=False)


class Epochs(Course):
    """Epochs until the looks have had no better one for a while, or all are made."""

    own_errors = (PPLError,)

    def __init__(self, steps: Steps, plan: Plan, update: Update, epochs: EpochPlan):
        super().__init__(steps, plan, update)
        self.epochs = epochs
        self.history: list[dict[str, float]] = []
        self.best = Parameters.from_store()
        self.best_buffers: Buffers = ()
        self.position: torch.Tensor | None = None
        self.best_figures: Figures | None = None
        self.best_epoch, self.looks_since = -1, 0
        self.last_figures: Figures | None = None
        self.seconds_before, self.began = 0.0, time.perf_counter()
        self.shown = LOOKED_AT if epochs.look.is_elbo else (*LOOKED_AT, "objective")
        self.cooling_from: int | None = None
        self.at_factor = self.factor

    def run(self) -> Trajectory:
        """All epochs, whatever ends them, with their history and a last look."""
        found = super().run()
        if found.status == DIVERGED:
            place = f"batch {len(self.epochs.feed.counts)} of epoch {len(self.history) + 1} at the latest"
            found = replace(found, note=f"{found.note} ({place})")
        figures = None if found.status == DIVERGED else self.epochs.look()
        return replace(found, history=history_frame(self.history), figures=figures)

    @property
    def kind(self) -> str:
        """What the columns of the looks are called by."""
        return VALIDATION if self.epochs.held_out else TRAINING

    def follow(self) -> str:
        """All epochs."""
        first = self.epochs.resume(self)
        if not first:
            self._find_step_size()
        for epoch in range(first, self.epochs.max_epochs):
            if self.ended:
                break
            self._epoch(epoch)
            self.epochs.save(self)
            if not self.ended:
                self.check_time()
        if self.waited:
            return CONVERGED
        before, after = self.constant()
        return CONVERGED if has_settled(np.asarray(self.losses[before:after])) else MAX_STEPS

    def _find_step_size(self) -> None:
        if not (self.steps.adjustable and self.plan.search):
            return
        if not self.plan.averaged:
            # A network's first steps tell little: the largest step is the first at the plateau where every row has the
            # prior, and may never leave it.
            self.factor = NETWORK_STEP_SIZE
        elif TRIAL_STEPS * len(STEP_SIZES) <= SEARCH_SHARE * self.plan.max_steps and not self.epochs.warmup_epochs:
            self.factor = search(self, STEP_SIZES, TRIAL_STEPS, afresh=True)
        else:
            self.factor = STEP_SIZE

    def _epoch(self, epoch: int) -> None:
        """One epoch and its row of the history."""
        started, feed = time.perf_counter(), self.epochs.feed
        number = min(feed.num_steps, self.plan.max_steps - len(self.losses))
        warming = epoch < self.epochs.warmup_epochs
        self.maker.begin_epoch(epoch, child_seed(self.epochs.seed, f"epoch {epoch}"))
        self._choose_step_size(epoch)
        first, piece = len(self.losses), math.ceil(number / PIECES) if warming else number
        for start in range(0, number, piece):
            weight = self.weight_at(epoch + start / feed.num_steps)
            self.weigh(weight)
            self.advance(np.full(min(piece, number - start), self.at_factor))
        self.keep()
        counts = np.asarray(feed.counts[:number], dtype=float)
        objective = -float(np.average(self.losses[first:], weights=counts)) / feed.num_rows
        figures = self._look(epoch)
        beta = self.epochs.estimator.beta if isinstance(self.epochs.estimator, WeightedKl) else 1.0
        now = time.perf_counter()
        self.history.append(
            {
                "epoch": epoch + 1,
                "steps": len(self.losses),
                "seconds": self.seconds_before + now - self.began,
                "epoch_seconds": now - started,
                "step_size": self.at_factor * self.steps.step_size if self.steps.adjustable else math.nan,
                "kl_weight": beta * self.weight_at(epoch + number / feed.num_steps),
                "objective": objective,
                **{f"{self.kind}_{name}": getattr(figures, name, math.nan) for name in self.shown},
            }
        )
        self._report(epoch, objective, figures)

    def _choose_step_size(self, epoch: int) -> None:
        """Constant, and over the last third of the epochs ever smaller."""
        total = self.epochs.max_epochs
        decay = max(1, round(DECAY_SHARE * total)) if total > 1 else 0
        done = epoch - (total - decay) + 1
        if decay and done > 0 and self.cooling_from is None:
            self.cooling_from = len(self.losses)
        share = max(0, done) / decay if decay else 0.0
        self.at_factor = self.factor * FINAL_STEP_RATIO**share

    def weight_at(self, epochs: float) -> float:
        """Weight of the divergence after so many epochs."""
        warm = self.epochs.warmup_epochs
        return min(1.0, epochs / warm) if warm else 1.0

    def weigh(self, weight: float) -> None:
        """Give the divergence this weight from the next step on."""
        if isinstance(self.epochs.estimator, WeightedKl):
            self.epochs.estimator.set_weight(weight)

    def _look(self, epoch: int) -> Figures | None:
        """Look at rows, where enough steps have been made since the last look."""
        every = math.ceil(STEPS_PER_LOOK / self.epochs.feed.num_steps)
        last = epoch + 1 == self.epochs.max_epochs or len(self.losses) >= self.plan.max_steps
        if (epoch + 1) % every and not last:
            return None
        figures = self.epochs.look()
        self.last_figures = figures
        warm = epoch + 1 >= self.epochs.warmup_epochs
        better = self.best_figures is None or not figures.objective <= self.best_figures.objective
        if math.isfinite(figures.objective) and warm and better:
            self.best_figures, self.best_epoch, self.best = figures, epoch, Parameters.from_store()
            self.best_buffers = self.epochs.look.networks.buffers()
            self.looks_since = 0
            self.position = self.maker.position() if self.steps.adjustable else None
        elif warm:
            self.looks_since += 1
        return figures

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to train, in a training that goes on too."""
        last = len(self.history) >= self.epochs.max_epochs or len(self.losses) >= self.plan.max_steps
        return last or self.waited

    @property
    def waited(self) -> bool:
        """Whether patience has ended, counted from the end of the warm-up."""
        patience = self.epochs.patience
        if patience is None or self.best_figures is None:
            return False
        since = max(self.best_epoch, self.epochs.warmup_epochs - 1)
        return len(self.history) - 1 - since >= patience and self.looks_since >= min(patience, FEWEST_LOOKS)

    def _report(self, epoch: int, objective: float, figures: Figures | None) -> None:
        looked = figures or self.last_figures
        text = f"training {objective:,.2f}"
        if looked is not None and self.epochs.held_out:
            text += f", validation {looked.objective:,.2f}"
        self.update(epoch + 1, f"{text} nats per row")

    def advance(self, factors: np.ndarray) -> None:
        """Make steps; the bar counts epochs, so it is told of none."""
        self.run_steps(factors, self.losses)
        if not math.isfinite(self.losses[-1]):
            loss = self.losses.pop()
            raise EndedError(DIVERGED, f"the loss at step {len(self.losses)} was {loss}")

    def settle(self, status: str) -> None:
        """Leave the parameters of the best look in the param store, where looks decide; else the last ones."""
        super().settle(status)
        if self.epochs.held_out and self.best_figures is not None:
            if self.position is not None:
                self.maker.move(self.position)
            self.best.restore()
            if self.best_buffers:
                self.epochs.look.networks.restore(self.best_buffers)
        self.weigh(1.0)

    def constant(self) -> tuple[int, int]:
        """The steps behind the warm-up and before the decay."""
        last = self.cooling_from if self.cooling_from is not None else len(self.losses)
        return min(self.epochs.warmup_epochs * self.epochs.feed.num_steps, last), last


def history_frame(history: Sequence[dict[str, float]]) -> pd.DataFrame:
    """One row for each epoch."""
    frame = pd.DataFrame(list(history))
    for name in ("epoch", "steps"):
        if name in frame:
            frame[name] = frame[name].astype(int)
    return frame


def figures_as_mapping(figures: Figures | None) -> dict[str, object]:
    """Figures as JSON holds them."""
    if figures is None:
        return {}
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in asdict(figures).items()}
