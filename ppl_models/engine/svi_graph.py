"""Whole SVI steps (ELBO, gradient, optimiser) as one captured graph, run many at a time by a backend."""

import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from ppl_models.engine.elbo_graph import ElboFunction, elbo_function
from ppl_models.engine.graph import Graph, capture
from ppl_models.engine.optimizers import Adam
from ppl_models.engine.proof import agree, largest_difference
from ppl_models.engine.protocol import Backend, Runner
from ppl_models.engine.python_state import changed_name, python_state
from ppl_models.errors import CaptureError, DataError, first_line
from ppl_models.program.data import Arguments
from ppl_models.program.isolation import forked_random

NUM_PROOFS = 2
PROOF_SEED = 2026
NOISE_NUMBERS, NOISE_STEPS = 2**16, 1_000
"""Most numbers of noise, and most steps of it, drawn at once; both decide about the order of random numbers."""
MOST_AVERAGED = 100_000
"""Vectors of more parameters (networks) are not averaged over steps: the sum would have to be read at every one."""
BATCH_NUMBERS = 2**22
"""Most numbers of data stacked at once."""
SECONDS_AWAY = 0.25
"""Longest time without a look at the keyboard."""

Batch = Sequence[torch.Tensor]


class SviGraph:
    """One SVI step of a fit as a graph.

    Args:
        elbo: the negative ELBO as a pure function, at the fit's first data.
        optimizer: the rule of the steps.
        num_threads: threads that a compiled step may use.
        minibatches: whether the data change from step to step.

    Raises:
        CaptureError: the step cannot be captured; the message says why.
    """

    def __init__(self, elbo: ElboFunction, optimizer: Adam, *, num_threads: int = 1, minibatches: bool = False):
        self.elbo, self.optimizer, self.minibatches = elbo, optimizer, minibatches
        flat = elbo.flat_parameters()
        data = elbo.data
        with forked_random():
            torch.manual_seed(PROOF_SEED)
            streams, other = (self._streams(elbo.draw_noise(1), data) for _ in range(2))
            before = python_state(elbo.program.model, elbo.guide)
            self.averaged = len(flat) <= MOST_AVERAGED
            self.graph: Graph = capture(
                self.step,
                self.start(flat),
                streams,
                () if minibatches else data,
                other_streams=other,
                num_threads=num_threads,
            )
            if (name := changed_name(before, python_state(elbo.program.model, elbo.guide))) is not None:
                raise CaptureError(
                    f"model or guide changes '{name}' in Python as it runs, which compiled code would not; pass what "
                    "changes as data"
                )
            elbo.prove()

    def _streams(self, noise: Sequence[torch.Tensor], data: Batch) -> list[torch.Tensor]:
        schedule = self.optimizer.schedule(0, np.ones(1), self.elbo.program.dtype)
        return [schedule[0], *(tensor[0].contiguous() for tensor in noise), *(data if self.minibatches else ())]

    def start(self, flat: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The state before the first step: the optimizer's, and where it is averaged the sum and the units."""
        total_and_units = (torch.zeros_like(flat), torch.ones_like(flat)) if self.averaged else ()
        return (*self.optimizer.start(flat), *total_and_units)

    def step(self, *inputs: torch.Tensor) -> tuple[torch.Tensor]:
        """One step, in torch: state (changed in place), schedule, noise and perhaps data in, loss out."""
        return self.step_of(self.elbo, *inputs)

    def step_of(self, elbo: ElboFunction, *inputs: torch.Tensor) -> tuple[torch.Tensor]:
        """One step with the data of another ELBO."""
        flat, first, second, *others = inputs
        total, units = (others.pop(0), others.pop(0)) if self.averaged else (None, None)
        schedule, *noise = others[: 1 + 2 + len(elbo.subsamples)]
        gradient, loss = torch.func.grad_and_value(elbo)(flat, *noise)
        state = (flat, first, second)
        moved = self.optimizer.update(state, gradient, schedule, self._pieces(), units)
        for old, new in zip(state, moved, strict=True):
            old.copy_(new)
        if total is not None:
            total.copy_(total + flat)
        return (loss,)

    def of(self, elbo: ElboFunction) -> "SviGraph":
        """The same step captured for data of other shapes."""
        # plates of another size
        again = elbo_function(
            elbo.program, elbo.guide, elbo.log_ratio, elbo.num_particles, coordinates=elbo.coordinates
        )
        return SviGraph(again, self.optimizer, num_threads=self.graph.num_threads, minibatches=self.minibatches)

    def turned(self) -> ElboFunction:
        """The ELBO of the same data in reverse order: other values of the same shapes."""
        arguments = self.elbo.program.arguments
        turned = {name: tensor.flip(0) if tensor.dim() else tensor for name, tensor in arguments.tensors().items()}
        return self.elbo.with_arguments(arguments.with_tensors(turned))

    def _pieces(self) -> list[slice]:
        ends = np.cumsum([holder.numel() for holder in self.elbo.holders.values()])
        return [slice(int(end) - h.numel(), int(end)) for end, h in zip(ends, self.elbo.holders.values(), strict=True)]


class CompiledSteps:
    """SVI steps on compiled code.

    The parameters live in one vector here; `write` hands them to the tensors that the program holds.

    Args:
        svi: the captured step.
        backend: what compiles and runs it.
        batches: gives the data of one step after the other, for a captured step with minibatches. Batches of another
            shape (the last of an epoch) are captured and compiled when they first come.

    Raises:
        CaptureError: the step cannot be compiled, or gives other numbers than eager.
        DataError: by `run`, where only batches of another shape cannot be compiled.
    """

    def __init__(self, svi: SviGraph, backend: Backend, batches: Iterator[Arguments] | None = None):
        self.svi, self.elbo, self.optimizer, self.backend = svi, svi.elbo, svi.optimizer, backend
        self.state = tuple(value.clone() for value in svi.graph.state)
        self.num_steps = 0
        self.seconds_per_step: float | None = None
        self.failed: FailedStep | None = None
        self._batches = _Ahead(batches) if batches is not None else None
        self._kept_batches: list[Arguments] = []
        self._summed = 0
        self._runners: dict[Shapes, Runner] = {}
        self._noise: list[torch.Tensor] = []
        self._left = 0
        self._previous: _Chunk | None = None
        self._runner(svi.elbo)

    def run(self, factors: np.ndarray, losses: list[float]) -> None:
        """Make steps, and append their losses in nats; stop behind one that is not finite.

        Args:
            factors: step size at each step over the first one, shape (step,).
            losses: what is appended to, also where Ctrl-C ends it.
        """
        done = 0
        while done < len(factors):
            if not self._left:
                self._left = min(NOISE_STEPS, max(1, NOISE_NUMBERS // self.elbo.numbers_per_step))
                self._noise = self.elbo.draw_noise(self._left)
            elbo, data, count = self._data(min(len(factors) - done, self._left, self._count_for(SECONDS_AWAY)))
            schedule = self.optimizer.schedule(self.num_steps, factors[done : done + count], self.elbo.program.dtype)
            noise = [tensor[len(tensor) - self._left :][:count] for tensor in self._noise]
            runner, before = self._runner(elbo), tuple(value.clone() for value in self.state)
            chunk = _Chunk(elbo, runner, [schedule, *noise, *data], count, before, torch.get_rng_state())
            finite = self._run(chunk, losses)
            self._left -= count
            done += count
            if not finite:
                return
            self._previous = chunk

    def _run(self, chunk: "_Chunk", losses: list[float]) -> bool:
        found = torch.full((chunk.count,), torch.nan, dtype=self.elbo.program.dtype)
        started = time.perf_counter()
        try:
            chunk.runner.run(chunk.count, chunk.streams, [found], guard=True)
        finally:
            # Also where Ctrl-C comes: the steps were made, whether or not Python learns how many.
            self.seconds_per_step = (time.perf_counter() - started) / chunk.count
            made = _num_finite(found)
            losses.extend(found[:made].tolist())
            self.num_steps += made
            self._summed += made
        if made < chunk.count:
            losses.append(float(found[made]))
            self._return_to_finite(chunk, made)
        return made == chunk.count

    def write(self) -> None:
        """Hand the parameters to the tensors that the program holds."""
        self.elbo.write(self.state[0])

    @property
    def averaged(self) -> bool:
        """Whether the points passed are summed up for `take_mean`."""
        return self.svi.averaged

    def position(self) -> torch.Tensor:
        """Where the optimiser is, shape (num_parameters,)."""
        return self.state[0].clone()

    def move(self, flat: torch.Tensor, *, afresh: bool = False) -> None:
        """Go on from another point, without momentum; `afresh` forgets the size of the gradients too."""
        self.state[0].copy_(flat)
        self.state[1].zero_()
        if afresh:
            self.state[2].zero_()
            self.num_steps = 0
        self._previous = None
        self._forget_mean()

    def take_mean(self) -> torch.Tensor:
        """The mean of the points passed since the last call, `move` or failure; the present one where there is none."""
        mean = self.state[3] / self._summed if self._summed else self.position()
        self._forget_mean()
        return mean

    def _forget_mean(self) -> None:
        self._summed = 0
        if self.svi.averaged:
            self.state[3].zero_()

    def losses_at(self, flat: torch.Tensor, num_steps: int, seed: int) -> np.ndarray:
        """Losses at one point, with noise (and batches) that depend on the seed alone; shape (step,)."""
        with self._state_given_back():
            return self._stand_still(flat, num_steps, seed)

    def gradient_at(self, flat: torch.Tensor, seed: int) -> torch.Tensor:
        """The loss's gradient at one point, with the noise of one step (and a batch) that depend on the seed alone."""
        with self._state_given_back():
            self.state[1].zero_()
            self._stand_still(flat, 1, seed)
            return self.state[1] / (1.0 - self.optimizer.betas[0])

    def _stand_still(self, flat: torch.Tensor, num_steps: int, seed: int) -> np.ndarray:
        """Losses of steps of size zero, which move nothing and leave the gradient behind in its running average."""
        found: list[float] = []
        with forked_random():
            torch.manual_seed(seed)
            while len(found) < num_steps:
                left = num_steps - len(found)
                noise = self.elbo.draw_noise(min(left, max(1, NOISE_NUMBERS // self.elbo.numbers_per_step)))
                self.state[0].copy_(flat)
                elbo, data, count = self._same_data(len(found), len(noise[0]))
                schedule = self.optimizer.schedule(1, np.zeros(count), elbo.program.dtype)
                losses = torch.empty(count, dtype=elbo.program.dtype)
                self._runner(elbo).run(count, [schedule, *(n[:count] for n in noise), *data], [losses])
                found.extend(losses.tolist())
        return np.asarray(found)

    @contextmanager
    def _state_given_back(self) -> Iterator[None]:
        kept = [value.clone() for value in self.state]
        try:
            yield
        finally:
            for value, old in zip(self.state, kept, strict=True):
                value.copy_(old)

    @property
    def units(self) -> torch.Tensor:
        """What each parameter's steps are multiplied by, shape (num_parameters,)."""
        return self.state[4]

    def set_units(self, units: torch.Tensor) -> None:
        """Multiply each parameter's steps by a unit of its own, shape (num_parameters,)."""
        self.state[4].copy_(units)

    def _same_data(self, first: int, count: int) -> tuple[ElboFunction, list[torch.Tensor], int]:
        """The data of `losses_at`: batches set aside when they were first asked for."""
        if self._batches is None:
            return self.elbo, [], count
        while len(self._kept_batches) <= first:
            self._kept_batches.extend(self._batches.take(1, self.elbo.numbers_per_step))
        batch = self._kept_batches[first]
        return self.elbo.with_arguments(batch), [tensor[None] for tensor in batch.tensors().values()], 1

    def _count_for(self, seconds: float) -> int:
        if self.seconds_per_step is None:
            return 1
        return max(1, int(seconds / max(self.seconds_per_step, 1e-7)))

    def _data(self, count: int) -> tuple[ElboFunction, list[torch.Tensor], int]:
        """The data of the next steps, as long as they have the same shapes; how many steps these are."""
        if self._batches is None:
            return self.elbo, [], count
        batches = self._batches.take(count, self.elbo.numbers_per_step)
        tensors = [list(batch.tensors().values()) for batch in batches]
        return self.elbo.with_arguments(batches[0]), [torch.stack(s) for s in zip(*tensors, strict=True)], len(batches)

    def _runner(self, elbo: ElboFunction) -> Runner:
        shapes = _shapes(elbo.program.arguments)
        if shapes not in self._runners:
            if len(self._runners) >= MAX_SHAPES:
                raise DataError(
                    f"data: batches of more than {MAX_SHAPES} shapes, or with other values beside their tensors. Give "
                    "batches of one shape, with what changes as tensors, or backend='eager'."
                )
            try:
                with forked_random():  # capturing runs model and guide
                    svi = self.svi.of(elbo) if self._runners else self.svi
                self._runners[shapes] = self._compiled(svi)
            except CaptureError as error:
                if not self._runners:
                    raise
                raise DataError(
                    f"data: batches of the shapes {shapes} cannot be compiled as those before them could: {error}. "
                    "Give batches of one shape (drop_last=True), or backend='eager'."
                ) from error
        return self._runners[shapes]

    def _compiled(self, svi: SviGraph) -> Runner:
        with forked_random():  # compiling may draw, and what is cached does not
            runner = self.backend.compile(svi.graph).bind(self.state, svi.graph.fixed)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's, about what vmap loops over
                self._prove(svi, runner)
        except CaptureError:
            raise
        except (RuntimeError, ValueError, ArithmeticError) as error:
            raise CaptureError(f"a step fails: {type(error).__name__}: {first_line(error)}") from error
        return runner

    def _return_to_finite(self, chunk: "_Chunk", made: int) -> None:
        """Go back to the last parameters whose loss was finite, and remember the step that failed."""
        self._replay(chunk, made)
        self.failed = chunk.failed(made, self.state[0].clone())
        if made:
            self._replay(chunk, made - 1)
        elif self._previous is not None:
            self._replay(self._previous, self._previous.count - 1)
        self._forget_mean()

    def _replay(self, chunk: "_Chunk", count: int) -> None:
        """The state after the first steps of a chunk."""
        for value, old in zip(self.state, chunk.before, strict=True):
            value.copy_(old)
        if count:
            with forked_random():
                torch.set_rng_state(chunk.random_state)
                chunk.runner.run(count, chunk.streams, [torch.empty(count, dtype=self.elbo.program.dtype)])

    def _prove(self, svi: SviGraph, runner: Runner) -> None:
        """Compare compiled steps with the same steps run by torch on the program, with noise and data not yet seen."""
        before = [value.clone() for value in self.state]
        wanted = [value.clone() for value in self.state]
        elbo = svi.turned() if svi.minibatches else svi.elbo
        found = torch.empty(1, dtype=elbo.program.dtype)
        with forked_random():
            for proof in range(NUM_PROOFS):
                torch.manual_seed(PROOF_SEED + 1 + proof)
                schedule = self.optimizer.schedule(proof, np.ones(1), elbo.program.dtype)
                data = [tensor[None] for tensor in elbo.data] if svi.minibatches else []
                streams = [schedule, *elbo.draw_noise(1), *data]
                torch.manual_seed(proof)
                with torch.no_grad():
                    (loss,) = svi.step_of(elbo, *wanted, *(stream[0] for stream in streams))
                torch.manual_seed(proof)
                runner.run(1, streams, [found])
                for one, other, name in zip((found[0], *self.state), (loss, *wanted), NAMES, strict=False):
                    if not agree(one, other):
                        raise CaptureError(_disagreement(name, one, other, svi.graph.random))
        for value, start in zip(self.state, before, strict=True):
            value.copy_(start)


NAMES = ("loss", "parameters", "average gradient", "average square of the gradient", "sum of the parameters", "units")
Shapes = tuple[tuple[str, tuple[object, ...]], ...]
MAX_SHAPES = 8


@dataclass(frozen=True)
class FailedStep:
    """A step whose loss was not finite: its ELBO, its parameters and its noise."""

    elbo: ElboFunction
    flat: torch.Tensor
    noise: tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class _Chunk:
    """Steps in a row, with all that it takes to make them again; the ELBO is that of the first step's data."""

    elbo: ElboFunction
    runner: Runner
    streams: Batch
    count: int
    before: Batch
    random_state: torch.Tensor

    def failed(self, step: int, flat: torch.Tensor) -> FailedStep:
        """One of the steps, with its parameters, its noise and its data."""
        schedule_and_noise = 1 + 2 + len(self.elbo.subsamples)
        _, *noise = (stream[step] for stream in self.streams[:schedule_and_noise])
        arguments = self.elbo.program.arguments
        data = dict(zip(arguments.tensors(), (s[step] for s in self.streams[schedule_and_noise:]), strict=False))
        return FailedStep(self.elbo.with_arguments(arguments.with_tensors(data)), flat, tuple(noise))


class _Ahead:
    """Takes batches of one shape from an iterator, and keeps the first of another shape for later.

    The batches have a random state of their own: how many are taken at once depends on the clock.
    """

    def __init__(self, batches: Iterator[Arguments]):
        self.batches = batches
        self.kept: Arguments | None = None
        self.random_state = torch.Generator().manual_seed(int(torch.randint(2**62, ()))).get_state()

    def take(self, count: int, numbers: int) -> list[Arguments]:
        """At least one and at most `count` batches of one shape, bounded in memory."""
        with forked_random():
            torch.set_rng_state(self.random_state)
            taken = self._take(count, numbers)
            self.random_state = torch.get_rng_state()
        return taken

    def _take(self, count: int, numbers: int) -> list[Arguments]:
        first = self.kept if self.kept is not None else next(self.batches)
        self.kept, taken = None, [first]
        size = sum(tensor.numel() for tensor in first.tensors().values())
        while len(taken) < min(count, max(1, BATCH_NUMBERS // max(size, numbers))):
            following = next(self.batches)
            if _shapes(following) != _shapes(first):
                self.kept = following
                break
            taken.append(following)
        return taken


def _shapes(arguments: Arguments) -> Shapes:
    """What compiled code depends on: shapes of tensors, and other values themselves."""
    named = arguments.named().items()
    return tuple((k, tuple(v.shape) if isinstance(v, torch.Tensor) else (type(v).__name__, repr(v))) for k, v in named)


def _num_finite(found: torch.Tensor) -> int:
    finite = torch.isfinite(found)
    return len(found) if bool(finite.all()) else int(torch.argmin(finite.to(torch.int8)))


def _disagreement(name: str, found: torch.Tensor, wanted: torch.Tensor, random: Sequence[str]) -> str:
    text = f"a compiled step's {name} differs from eager's by {largest_difference(found, wanted):.3g}"
    return text + (f"; the step draws random numbers of its own ({', '.join(random)})" if random else "")
