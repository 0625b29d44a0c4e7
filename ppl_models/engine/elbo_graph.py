"""The negative ELBO, or another bound, as a pure function of flat parameters and standard noise."""

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pyro
import torch

from ppl_models.engine.coordinates import Coordinates, write_flat
from ppl_models.engine.noise import NoiseTape, SubsampleTape, draw_normal, draw_subsamples
from ppl_models.engine.proof import BFLOAT16_TOLERANCE, agree, largest_difference
from ppl_models.errors import CaptureError, first_line
from ppl_models.program import Program
from ppl_models.program.batching import NOT_VECTORISABLE, OutOfPlaceRandomness
from ppl_models.program.data import Arguments
from ppl_models.program.elbo import Call
from ppl_models.program.estimators import Estimator, Terms
from ppl_models.program.estimators.drawing import draw, latents_of, strata_of
from ppl_models.program.mixed_precision import InMixedPrecision
from ppl_models.program.substitution import Substitution

NUDGE = 0.01
"""How far from the start proofs are made: where a guide begins at the posterior, a gradient may be rounding alone."""
MIN_NOISE_NUMBERS = 1
"""A vector of noise is never empty: compiled code has no address for nothing."""


@dataclass(frozen=True)
class ElboFunction:
    """The negative ELBO of several particles, or another bound, as a pure function.

    Attributes:
        program: the model with its data.
        guide: the guide.
        estimator: the bound, and the estimate of its gradient.
        num_particles: draws, vectorised; they share the subsamples of plates.
        holders: the tensors that hold the parameters, by name in the param store.
        num_normal: standard normal numbers that one particle takes.
        num_uniform: standard uniform numbers that one particle takes.
        subsamples: size and subsample size of each subsampled plate, by name.
        coordinates: what the flat vector means; None where it holds the parameters themselves.
    """

    program: Program | Call
    guide: Callable[..., Any]
    estimator: Estimator
    num_particles: int
    holders: Mapping[str, torch.Tensor]
    num_normal: int
    num_uniform: int
    subsamples: Mapping[str, tuple[int, int]]
    coordinates: Coordinates | None = None

    def __call__(self, flat: torch.Tensor, *noise: torch.Tensor) -> torch.Tensor:
        """Negative bound in nats; its gradient is the estimator's, which need not be that of the value.

        Args:
            flat: all unconstrained parameters, shape (num_parameters,), or their coordinates.
            noise: as `draw_noise` gives it, one step's slice.
        """
        normal, uniform, *indices = noise

        def particle(normal: torch.Tensor, uniform: torch.Tensor) -> Terms:
            return self.particle(flat, normal, uniform, indices)

        if self.num_particles == 1:
            return self.estimator.combine({name: term[None] for name, term in particle(normal[0], uniform[0]).items()})
        return self.estimator.combine(torch.func.vmap(particle, randomness="different")(normal, uniform))

    def particle(
        self, flat: torch.Tensor, normal: torch.Tensor, uniform: torch.Tensor, indices: Sequence[torch.Tensor]
    ) -> Terms:
        """The estimator's terms of one particle."""
        with self.replayed(flat, normal, uniform, indices):
            return self.estimator.particle(self.program, self.guide)

    def prove(self) -> None:
        """Compare loss and gradient, at most two particles, with autograd's on the program itself, one by one.

        Raises:
            CaptureError: they differ: a parameter cannot be exchanged everywhere, or particles disturb each other.
        """
        few = replace(self, num_particles=min(self.num_particles, 2))
        noise = [tensor[0] for tensor in few.draw_noise(1)]
        flat = self.nudged(self.flat_parameters())
        state = torch.get_rng_state()
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # torch's, about what vmap loops over
            gradient, loss = torch.func.grad_and_value(few)(flat, *noise)
        torch.set_rng_state(state)
        with self._moved_to(flat):
            random, found = few._by_autograd(flat, noise)
        for what, one, other in (("loss", loss, found[0]), ("gradient", gradient, found[1])):
            if not random and not agree(one, other, self.tolerance):
                raise CaptureError(
                    f"its {what} as a function differs from autograd's by {largest_difference(one, other):.3g}"
                )

    @contextmanager
    def _moved_to(self, flat: torch.Tensor) -> Iterator[None]:
        kept = [holder.detach().clone() for holder in self.holders.values()]
        try:
            self.write(flat)
            yield
        finally:
            with torch.no_grad():
                for holder, value in zip(self.holders.values(), kept, strict=True):
                    holder.copy_(value)

    def _by_autograd(
        self, at: torch.Tensor, noise: Sequence[torch.Tensor]
    ) -> tuple[bool, tuple[torch.Tensor, torch.Tensor]]:
        normal, uniform, *indices = noise
        before = torch.get_rng_state()
        terms: list[Terms] = []
        with torch.enable_grad():
            for particle in range(self.num_particles):
                tape = SubsampleTape(dict(zip(self.subsamples, indices, strict=True)))
                with NoiseTape(normal[particle], uniform[particle]), OutOfPlaceRandomness(), tape:
                    terms.append(self.estimator.particle(self.program, self.guide))
            total = self.estimator.combine({name: torch.stack([one[name] for one in terms]) for name in terms[0]})
            holders = list(self.holders.values())
            slopes = (
                torch.autograd.grad(total, holders, allow_unused=True) if total.requires_grad else [None] * len(holders)
            )
        parts = [torch.zeros_like(h) if s is None else s for h, s in zip(holders, slopes, strict=True)]
        flat = torch.cat([part.reshape(-1) for part in parts]).to(self.program.dtype)
        if self.coordinates is not None:
            flat = self.coordinates.gradient(at, flat)
        # Where the program draws from a generator itself, the particles' numbers come in another order.
        return not torch.equal(before, torch.get_rng_state()), (total.detach(), flat)

    def replayed(
        self, flat: torch.Tensor, normal: torch.Tensor, uniform: torch.Tensor, indices: Sequence[torch.Tensor]
    ) -> Any:
        """A context in which model and guide see these parameters and this noise."""
        tape = SubsampleTape(dict(zip(self.subsamples, indices, strict=True)))
        return _Together(Substitution(self._pieces(flat)), NoiseTape(normal, uniform), OutOfPlaceRandomness(), tape)

    def draw_noise(self, count: int) -> list[torch.Tensor]:
        """Noise of `count` steps, each tensor of shape (step, ...): normal, uniform, indices of each subsample."""
        shape = (count, self.num_particles)
        dtype = self.program.dtype
        normal = draw_normal((*shape, max(self.num_normal, MIN_NOISE_NUMBERS)), dtype)
        if self.num_uniform:
            uniform = torch.rand(*shape, self.num_uniform, dtype=dtype)
        else:
            uniform = torch.zeros(*shape, MIN_NOISE_NUMBERS, dtype=dtype)
        return [normal, uniform, *draw_subsamples(list(self.subsamples.values()), count)]

    @property
    def tolerance(self) -> float | None:
        """Relative rounding of its numbers, where it is larger than that of its dtype."""
        return BFLOAT16_TOLERANCE if isinstance(self.guide, InMixedPrecision) else None

    @property
    def data(self) -> tuple[torch.Tensor, ...]:
        """The tensors that the model is called with."""
        return tuple(self.program.arguments.tensors().values())

    @property
    def numbers_per_step(self) -> int:
        """How many numbers of noise one step takes."""
        numbers = self.num_particles * (self.num_normal + self.num_uniform)
        return max(1, numbers + sum(size for _, size in self.subsamples.values()))

    def with_arguments(self, arguments: Arguments) -> "ElboFunction":
        """The same function of other data."""
        return replace(self, program=replace(self.program, arguments=arguments))

    def flat_parameters(self) -> torch.Tensor:
        """The parameters that the holders have now, as one vector; the start where there are coordinates."""
        if self.coordinates is not None:
            return self.coordinates.start.clone()
        return torch.cat([holder.detach().reshape(-1) for holder in self.holders.values()]).to(self.program.dtype)

    def nudged(self, flat: torch.Tensor) -> torch.Tensor:
        """A point nearby, the same at every call."""
        noise = torch.randn(flat.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64, device="cpu")
        scale = flat.abs() if self.coordinates is None else 1.0
        return flat + NUDGE * scale * noise.to(flat)

    def write(self, flat: torch.Tensor) -> None:
        """Give the holders the values of one vector."""
        write_flat(self.parameters_at(flat), self.holders.values())

    def parameters_at(self, flat: torch.Tensor) -> torch.Tensor:
        """All unconstrained parameters, shape (num_parameters,)."""
        return flat if self.coordinates is None else self.coordinates.to_parameters(flat)

    def _pieces(self, flat: torch.Tensor) -> dict[int, torch.Tensor]:
        flat = self.parameters_at(flat)
        pieces, start = {}, 0
        for holder in self.holders.values():
            stop = start + holder.numel()
            pieces[id(holder)] = flat[start:stop].reshape(holder.shape)
            start = stop
        return pieces


def elbo_function(
    program: Program | Call,
    guide: Callable[..., Any],
    estimator: Estimator,
    num_particles: int = 1,
    names: Collection[str] | None = None,
    coordinates: Coordinates | None = None,
) -> ElboFunction:
    """Describe the ELBO of a guide whose parameters are in the param store.

    Args:
        program: the model with its data.
        guide: the guide; every site of it reparameterised.
        estimator: the bound, and the estimate of its gradient.
        num_particles: draws a step.
        names: the parameters, by name in the param store; None takes all of it.
        coordinates: what the flat vector means; the holders have the parameters of its start.

    Raises:
        CaptureError: the guide has no parameter, or a site that is not reparameterised; the message names it.
    """
    learnt = pyro.get_param_store().named_parameters()
    holders = {n: holder for n, holder in learnt if holder.requires_grad and (names is None or n in names)}
    if not holders:
        raise CaptureError("the guide has no parameter to learn")
    _require_reparameterised(program, guide)
    tape, subsamples = NoiseTape(), SubsampleTape()
    try:
        with torch.no_grad(), tape, OutOfPlaceRandomness(), subsamples:
            estimator.particle(program, guide)
    except NOT_VECTORISABLE as error:
        raise CaptureError(f"{type(error).__name__}: {first_line(error)}") from error
    return ElboFunction(
        program,
        guide,
        estimator,
        num_particles,
        holders,
        tape.num_normal,
        tape.num_uniform,
        subsamples.sizes,
        coordinates,
    )


def _require_reparameterised(program: Program | Call, guide: Callable[..., Any]) -> None:
    with torch.no_grad():
        drawn = [latents_of(draw(program, stratum)) for _, stratum in strata_of(program, guide)]
    for name, node in (item for latents in drawn for item in latents.items()):
        if not node["fn"].has_rsample:
            raise CaptureError(
                f"the guide's site '{name}' ({type(node['fn']).__name__}) is not reparameterised: its gradient needs a "
                "score function, which runs eagerly. Use a distribution with rsample, or enumerate the site in the "
                "model"
            )


class _Together:
    """Several contexts as one, entered in order."""

    def __init__(self, *contexts: Any):
        self.contexts = contexts

    def __enter__(self) -> None:
        for context in self.contexts:
            context.__enter__()

    def __exit__(self, *error: Any) -> None:
        for context in reversed(self.contexts):
            context.__exit__(*error)
