"""One block of refits: data of known origin, posterior draws, and where the truth stands among them."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import cloudpickle
import numpy as np
import torch

from ppl_models.diagnostics.calibration import ranks_among
from ppl_models.diagnostics.calibration.refits import CONVERGED
from ppl_models.errors import PPLError, first_line
from ppl_models.inference.refitting import RefitSpec, Refitter
from ppl_models.seeds import child_seed
from ppl_models.workflow.calibration.quantities import LOG_JOINT, LOG_LIKELIHOOD, Quantity, data_quantities
from ppl_models.workflow.calibration.simulate import Simulation, Simulator, Truths

FAILED, NOT_FINITE, INTERRUPTED = "failed", "not finite", "interrupted"
NO_RANK = -1


@dataclass(frozen=True)
class Plan:
    """What a worker needs to make any block.

    Attributes:
        simulator: makes the data.
        spec: makes the refits.
        latents: which latents are ranked, with their shapes.
        quantities: functions of the user's; None ranks the latents alone.
        num_draws: posterior draws that the truth is ranked among.
        seed: of the calibration.
    """

    simulator: Simulator
    spec: RefitSpec
    latents: Mapping[str, tuple[int, ...]]
    quantities: Mapping[str, Quantity] | None
    num_draws: int
    seed: int


@dataclass(frozen=True)
class Task:
    """Some simulations of one block.

    Attributes:
        index: of the block.
        start: first simulation of the block that is to be made.
        stop: one past the last.
        truths: latents of the whole block; None draws them from the prior.
        deadline: time since the epoch at which no refit is begun any more, in seconds.
    """

    index: int
    start: int
    stop: int
    truths: Truths | None
    deadline: float


@dataclass(frozen=True)
class Block:
    """Simulations of one block, in order.

    Attributes:
        index: of the block.
        start: the first simulation's place in the block.
        ranks: by quantity, shape (simulation, *event); -1 where the refit failed.
        statuses: how each refit ended.
        notes: what each said.
        seconds: of each refit, shape (simulation,).
    """

    index: int
    start: int
    ranks: Mapping[str, np.ndarray]
    statuses: tuple[str, ...]
    notes: tuple[str, ...]
    seconds: np.ndarray

    def followed_by(self, rest: "Block") -> "Block":
        """This part of a block with the next."""
        if not self.statuses:
            return rest
        if not rest.statuses:
            return self
        ranks = {name: np.concatenate([value, rest.ranks[name]]) for name, value in self.ranks.items()}
        seconds = np.concatenate([self.seconds, rest.seconds])
        return Block(self.index, self.start, ranks, self.statuses + rest.statuses, self.notes + rest.notes, seconds)


class Bench:
    """Makes blocks in this process, with the code for its refits loaded once."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self.refitter: Refitter = plan.spec.build()

    def block(self, task: Task) -> Block:
        """Make the simulations of a task until its deadline."""
        simulations = self.plan.simulator.block(task.index, task.truths)
        ranks, statuses, notes, seconds = [], [], [], []
        for place in range(task.start, task.stop):
            if time.time() >= task.deadline:
                break
            started = time.perf_counter()
            found, status, note = self._one(simulations[place], f"{task.index} {place}")
            ranks.append(found)
            statuses.append(status)
            notes.append(note)
            seconds.append(time.perf_counter() - started)
        names = ranks[0] if ranks else {}
        stacked = {name: np.stack([row[name] for row in ranks]) for name in names}
        return Block(task.index, task.start, stacked, tuple(statuses), tuple(notes), np.array(seconds))

    def _one(self, simulation: Simulation, which: str) -> tuple[dict[str, np.ndarray], str, str]:
        seed = child_seed(self.plan.seed, f"refit {which}")
        try:
            refitted = self.refitter.draws(simulation.data, self.plan.num_draws, seed=seed)
            draws = {name: refitted.values[name] for name in self.plan.latents}
            scalars = self._scalars(simulation, draws)
        except Exception as error:  # a refit that fails is a finding, and the others go on
            return self._none(), FAILED, f"{type(error).__name__}: {first_line(error)}"
        if refitted.status == INTERRUPTED:
            raise KeyboardInterrupt
        pairs = {name: (simulation.truth[name], value) for name, value in draws.items()}
        pairs |= {name: (value[0], value[1:]) for name, value in scalars.items()}
        for name, (truth, value) in pairs.items():
            if np.isnan(truth).any() or np.isnan(value).any() or (name in draws and not np.isfinite(value).all()):
                return self._none(), NOT_FINITE, f"{name} is not finite"
        status, note = refitted.status, refitted.note
        if self.plan.spec.amortised and status != CONVERGED:
            # Nothing was refitted; how the fit itself ended is no failure of this evaluation.
            status, note = CONVERGED, f"the fit itself: {status}"
        found = {
            name: ranks_among(truth, value, seed=child_seed(seed, f"ties {name}"))
            for name, (truth, value) in pairs.items()
        }
        return found, status, note

    def _scalars(self, simulation: Simulation, draws: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Quantities of the data at the truth, then at each draw."""
        if self.plan.quantities is None:
            return {}
        values = {name: np.concatenate([simulation.truth[name][None], value]) for name, value in draws.items()}
        target = self.plan.simulator.target_with(simulation.arguments)
        return data_quantities(target, values, self.plan.quantities)

    def _none(self) -> dict[str, np.ndarray]:
        return {name: np.full(shape, NO_RANK) for name, shape in shapes_of(self.plan).items()}


def shapes_of(plan: Plan) -> dict[str, tuple[int, ...]]:
    """Every ranked quantity's shape."""
    scalars = scalar_names(plan)
    return {**plan.latents, **dict.fromkeys(scalars, ())}


def scalar_names(plan: Plan) -> tuple[str, ...]:
    """Names of the ranked quantities that are no latents."""
    if plan.quantities is None:
        return ()
    built_in = (LOG_JOINT,) if plan.simulator.target.sites.enumerated else (LOG_JOINT, LOG_LIKELIHOOD)
    return (*built_in, *plan.quantities)


_BENCHES: dict[str, Bench] = {}
"""The bench of a worker process, by its token: loading code takes longer than a block may."""


def run_in_worker(token: str, packed: bytes, task: Task) -> Block | str:
    """Make a task's simulations in a worker process; returns the words of an error that concerns the whole."""
    with one_thread():
        try:
            if token not in _BENCHES:
                _BENCHES.clear()
                _BENCHES[token] = Bench(cloudpickle.loads(packed))
            return _BENCHES[token].block(task)
        except PPLError as error:
            return str(error)  # an exception of ours may not survive the way between processes


@contextmanager
def one_thread() -> Iterator[None]:
    """Give torch one thread: workers that have all cores each are slower than one alone."""
    before = torch.get_num_threads()
    if before != 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if before != 1:
            torch.set_num_threads(before)
