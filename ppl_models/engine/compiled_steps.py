"""SVI steps on compiled code, run many at a time by a backend."""

import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from ppl_models.engine.elbo_graph import MIN_NOISE_NUMBERS, ElboFunction
from ppl_models.engine.proof import agree, largest_difference
from ppl_models.engine.protocol import Backend, Runner
from ppl_models.engine.step_data import Chunk, FailedStep, Shapes, Source, num_finite, shapes_of, source_of
from ppl_models.engine.svi_graph import PROOF_SEED, Batch, SviGraph
from ppl_models.errors import CaptureError, DataError, first_line
from ppl_models.program.data import Arguments
from ppl_models.program.isolation import forked_random, seed_torch

NUM_PROOFS = 2
FLAT = 1e-4
"""Gradients below this share of the largest are flat: Adam makes a whole step of them, and of their rounding."""
PROOF_FACTOR = 0.03
"""Step size of the proof: where a flow's weights go a whole step at once, its numbers are too large to compare."""
NOISE_NUMBERS, NOISE_STEPS = 2**16, 1_000
"""Most numbers of noise, and most steps of it, drawn at once; both decide about the order of random numbers."""
SECONDS_AWAY = 0.25
"""Longest time without a look at the keyboard."""
MAX_SHAPES = 8
NAMES = ("loss", "parameters", "average gradient", "average square of the gradient", "sum of the parameters", "units")


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
        self._source: Source | None = source_of(batches) if batches is not None else None
        self._kept_batches: list[tuple[Arguments, list[torch.Tensor], int]] = []
        self._summed = 0
        self._runners: dict[Shapes, Runner] = {}
        self._drawn: dict[Shapes, ElboFunction] = {}
        self._noise: list[torch.Tensor] = []
        self._left = 0
        self._previous: Chunk | None = None
        self._copies: list[tuple[torch.Tensor, ...]] = []
        self._runner(svi.elbo)
        for arguments in self._source.other_shapes() if self._source is not None else ():
            self._runner(svi.elbo.with_arguments(arguments))

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
            runner, before = self._runner(elbo), self._copied_state()
            noise = self._suited(noise, elbo)
            streams = [schedule, *noise, *data]
            chunk = Chunk(elbo, runner, streams, count, before, torch.get_rng_state(), self.svi.resident)
            finite = self._run(chunk, losses)
            self._left -= count
            done += count
            if not finite:
                return
            self._previous = chunk

    def _copied_state(self) -> tuple[torch.Tensor, ...]:
        """The state in memory of its own, that of the chunk before the last: fresh memory costs more than the copy."""
        kept = self._previous.before if self._previous is not None else ()
        free = [copies for copies in self._copies if copies is not kept]
        if len(free) < 1:
            self._copies.append(tuple(torch.empty_like(value) for value in self.state))
            free = self._copies[-1:]
        for copy, value in zip(free[0], self.state, strict=True):
            copy.copy_(value)
        return free[0]

    def _run(self, chunk: "Chunk", losses: list[float]) -> bool:
        found = torch.full((chunk.count,), torch.nan, dtype=self.elbo.program.dtype)
        started = time.perf_counter()
        try:
            chunk.runner.run(chunk.count, chunk.streams, [found], guard=True)
        finally:
            # Also where Ctrl-C comes: the steps were made, whether or not Python learns how many.
            self.seconds_per_step = (time.perf_counter() - started) / chunk.count
            made = num_finite(found)
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

    def begin(self, flat: torch.Tensor) -> None:
        """Begin another optimisation from a point, as newly made steps would."""
        self.move(flat, afresh=True)
        if self.svi.averaged:
            self.set_units(torch.ones_like(flat))
        self._noise, self._left, self.failed = [], 0, None

    def begin_epoch(self, epoch: int, seed: int) -> None:
        """Go to the first batch of an epoch, with random numbers that depend on the seed alone."""
        assert self._source is not None
        seed_torch(seed)
        self._source.begin(epoch)
        self._noise, self._left = [], 0

    def snapshot(self) -> dict[str, torch.Tensor]:
        """All that the optimiser holds between two epochs, by name."""
        return {str(number): value.clone() for number, value in enumerate(self.state)}

    def resume(self, state: dict[str, torch.Tensor], num_steps: int) -> None:
        """Go on where a snapshot was taken, after so many steps."""
        for number, value in enumerate(self.state):
            value.copy_(state[str(number)])
        self.num_steps, self._previous = num_steps, None

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
            seed_torch(seed)
            while len(found) < num_steps:
                left = num_steps - len(found)
                noise = self.elbo.draw_noise(min(left, max(1, NOISE_NUMBERS // self.elbo.numbers_per_step)))
                self.state[0].copy_(flat)
                elbo, data, count = self._same_data(len(found), len(noise[0]))
                schedule = self.optimizer.schedule(1, np.zeros(count), elbo.program.dtype)
                losses = torch.empty(count, dtype=elbo.program.dtype)
                runner = self._runner(elbo)
                suited = self._suited([n[:count] for n in noise], elbo)
                runner.run(count, [schedule, *suited, *data], [losses])
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
        if self._source is None:
            return self.elbo, [], count
        while len(self._kept_batches) <= first:
            self._kept_batches.append(self._source.take(1, self.elbo.numbers_per_step))
        arguments, streams, _ = self._kept_batches[first]
        return self.elbo.with_arguments(arguments), streams, 1

    def _count_for(self, seconds: float) -> int:
        if self.seconds_per_step is None:
            return 1
        return max(1, int(seconds / max(self.seconds_per_step, 1e-7)))

    def _data(self, count: int) -> tuple[ElboFunction, list[torch.Tensor], int]:
        """The data of the next steps, as long as they have the same shapes; how many steps these are."""
        if self._source is None:
            return self.elbo, [], count
        arguments, streams, count = self._source.take(count, self.elbo.numbers_per_step)
        return self.elbo.with_arguments(arguments), streams, count

    def _suited(self, noise: list[torch.Tensor], elbo: ElboFunction) -> list[torch.Tensor]:
        """Noise in the shapes that the code for data of these shapes takes: a smaller batch takes the first of it."""
        wanted = self._drawn[shapes_of(elbo.program.arguments)]
        if wanted is self.elbo:
            return noise
        own = wanted.draw_noise(len(noise[0])) if wanted.numbers_per_step > self.elbo.numbers_per_step else noise
        sizes = (max(wanted.num_normal, MIN_NOISE_NUMBERS), max(wanted.num_uniform, MIN_NOISE_NUMBERS))
        sizes = (*sizes, *(size for _, size in wanted.subsamples.values()))
        return [tensor[..., :size].contiguous() for tensor, size in zip(own, sizes, strict=True)]

    def _runner(self, elbo: ElboFunction) -> Runner:
        shapes = shapes_of(elbo.program.arguments)
        if shapes not in self._runners:
            if len(self._runners) >= MAX_SHAPES:
                raise DataError(
                    f"data: batches of more than {MAX_SHAPES} shapes, or with other values beside their tensors. Give "
                    "batches of one shape, with what changes as tensors, or backend='eager'."
                )
            try:
                with forked_random():  # capturing runs model and guide
                    svi = self.svi.of(elbo) if self._runners else self.svi
                self._runners[shapes], self._drawn[shapes] = self._compiled(svi), svi.elbo
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

    def _return_to_finite(self, chunk: "Chunk", made: int) -> None:
        """Go back to the last parameters whose loss was finite, and remember the step that failed."""
        self._replay(chunk, made)
        self.failed = chunk.failed(made, self.state[0].clone())
        if made:
            self._replay(chunk, made - 1)
        elif self._previous is not None:
            self._replay(self._previous, self._previous.count - 1)
        self._forget_mean()

    def _replay(self, chunk: "Chunk", count: int) -> None:
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
        self.state[0].copy_(svi.elbo.nudged(self.state[0]))
        wanted = [value.clone() for value in self.state]
        elbo = svi.turned()
        found = torch.empty(1, dtype=elbo.program.dtype)
        with forked_random():
            for proof in range(NUM_PROOFS):
                torch.manual_seed(PROOF_SEED + 1 + proof)
                schedule = self.optimizer.schedule(proof, np.full(1, PROOF_FACTOR), elbo.program.dtype)
                data = [tensor[None] for tensor in svi.data_of(elbo)]
                streams = [schedule, *elbo.draw_noise(1), *data]
                torch.manual_seed(proof)
                with torch.no_grad():
                    (loss,) = svi.step_of(elbo, *wanted, *(stream[0] for stream in streams))
                torch.manual_seed(proof)
                runner.run(1, streams, [found])
                for one, other, name in zip(
                    (found[0], *_steep(self.state, wanted)), (loss, *wanted), NAMES, strict=False
                ):
                    if not agree(one, other, svi.elbo.tolerance):
                        raise CaptureError(_disagreement(name, one, other, svi.graph.random))
                for value, other in zip(self.state, wanted, strict=True):
                    value.copy_(other)
        for value, start in zip(self.state, before, strict=True):
            value.copy_(start)


def _steep(found: Batch, wanted: Batch) -> list[torch.Tensor]:
    """A state behind a step; parameters (and their sum) as wanted where the rounding of a small gradient decides.

    The gradient itself is left as it is everywhere.
    """
    gradient = wanted[1].abs()
    flat = gradient < FLAT * gradient.max()
    return [torch.where(flat, wanted[i], one) if i in (0, 3) else one for i, one in enumerate(found)]


def _disagreement(name: str, found: torch.Tensor, wanted: torch.Tensor, random: Sequence[str]) -> str:
    text = f"a compiled step's {name} differs from eager's by {largest_difference(found, wanted):.3g}"
    return text + (f"; the step draws random numbers of its own ({', '.join(random)})" if random else "")
