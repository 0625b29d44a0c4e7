"""How an evidence by annealing is to be made, and what all such methods begin with."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ppl_models.engine import check_backend
from ppl_models.errors import OptionError
from ppl_models.inference.evidence.prior_likelihood import split_of
from ppl_models.inference.evidence.result import CONFIDENCE
from ppl_models.inference.evidence.temperatures import check_temperatures
from ppl_models.inference.evidence.tempered_path import GuideStart, PathStart, PriorStart, TemperedPath
from ppl_models.inference.evidence.tuning import Tuning, tune
from ppl_models.inference.fit_result import Fit
from ppl_models.inference.proposal import proposal_of
from ppl_models.options import check_choice, check_count
from ppl_models.program import Program
from ppl_models.seeds import check_seed, child_seed
from ppl_models.versions import versions

AUTO, PRIOR, GUIDE = "auto", "prior", "guide"
FEWEST_CHAINS = 8
NUM_KNOTS = 25
ONE_THREAD = 500_000
"""Paths whose chains hold fewer numbers run in one thread: handing work to a second one would cost more."""


@dataclass(frozen=True)
class AnnealingOptions:
    """How an evidence by annealing is to be made.

    Attributes:
        num_temperatures: steps from the start to the posterior; None for the method's own.
        temperatures: inverse temperatures that rise from 0 to 1, in place of the method's own schedule.
        num_chains: independent chains.
        num_leapfrog: leapfrog steps in one transition.
        by_datum: whether to give the evidence of each datum; its latents must be all its own.
        start: "prior", "guide" (of a fit), or "auto": the guide where there is one that has a density.
        backend: what computes the densities, as of `ppl_models.engine.tempered.TwoEnds`.
        seed: of everything random.
        confidence: of the interval.
    """

    num_temperatures: int | None = None
    temperatures: Sequence[float] | np.ndarray | None = None
    num_chains: int = 64
    num_leapfrog: int = 3
    by_datum: bool = False
    start: str = AUTO
    backend: str = "auto"
    seed: int = 0
    confidence: float = CONFIDENCE

    def __post_init__(self) -> None:
        if self.num_temperatures is not None:
            check_count("num_temperatures", self.num_temperatures, least=2)
        if self.temperatures is not None:
            check_temperatures(self.temperatures)
        check_count("num_chains", self.num_chains, least=FEWEST_CHAINS)
        check_count("num_leapfrog", self.num_leapfrog)
        check_choice("start", self.start, (AUTO, PRIOR, GUIDE))
        check_backend(self.backend)
        check_seed(self.seed)
        if not 0.0 < self.confidence < 1.0:
            raise OptionError(f"confidence: found {self.confidence!r}, wanted a number between 0 and 1.")


@dataclass(frozen=True)
class Road:
    """A path with transitions that are tuned to it.

    Attributes:
        path: the densities.
        temperatures: inverse temperatures, shape (temperature,).
        tuning: the transitions.
        generator: of what is random on the way.
        config: options, seed and versions.
    """

    path: TemperedPath
    temperatures: torch.Tensor
    tuning: Tuning = field(repr=False)
    generator: torch.Generator = field(repr=False)
    config: dict[str, Any]


def start_of(program: Program, options: AnnealingOptions, fit: Fit | None) -> PathStart:
    """Where the path starts; call it inside `program.isolated()`.

    Raises:
        OptionError: the guide was asked for, and there is none that has a density here.
        ModelError: the model has no evidence that can be had by annealing.
    """
    split = split_of(program, options.by_datum)
    if options.start != PRIOR and fit is not None and not options.by_datum:
        proposal = proposal_of(fit)
        if proposal is not None:
            return GuideStart(program, split, proposal)
    if options.start == GUIDE:
        reason = (
            "no fit was given"
            if fit is None
            else "by_datum=True takes the prior of each datum"
            if options.by_datum
            else f"the guide '{fit.guide_name}' has no density at given points"
        )
        raise OptionError(f"start: found 'guide', but {reason}. Leave start out.")
    return PriorStart(program, split)


def road_of(
    program: Program,
    start: PathStart,
    options: AnnealingOptions,
    temperatures: np.ndarray,
    knots: np.ndarray,
    *,
    keep: bool = False,
) -> Road:
    """The path, with transitions tuned by a pilot of as many chains; call it inside `program.isolated()`.

    Args:
        program: the model with its data.
        start: where the path starts.
        options: as they were given.
        temperatures: of the path.
        knots: temperatures of the pilot.
        keep: whether to keep where its chains stood.
    """
    kind = {"dtype": program.dtype, "device": program.device}
    path = TemperedPath(program, start, options.num_chains, options.backend)
    pilot = generator_of(program, options.seed, "pilot")
    begun = path.drawn(options.num_chains, child_seed(options.seed, "pilot"))
    tuning = tune(path, begun, knots.tolist(), options.num_leapfrog, pilot, keep=keep)
    config = {
        "num_temperatures": len(temperatures) - 1,
        "num_chains": options.num_chains,
        "num_leapfrog": options.num_leapfrog,
        "by_datum": options.by_datum,
        "start": GUIDE if start.geometric else PRIOR,
        "backend": path.density.backend,
        "backend_note": path.density.note,
        "seed": options.seed,
        "confidence": options.confidence,
        "versions": versions(),
    }
    generator = generator_of(program, options.seed, "transitions")
    return Road(path, torch.as_tensor(temperatures, **kind), tuning, generator, config)


def generator_of(program: Program, seed: int, stage: str) -> torch.Generator:
    """A generator of its own for a stage, on the program's device."""
    return torch.Generator(device=program.device).manual_seed(child_seed(seed, stage))


def num_threads(program: Program, num_points: int) -> int | None:
    """Threads for so many points at once: None for all, where they are worth it."""
    return 1 if program.size_hint * num_points < ONE_THREAD else None


def by_data(values: torch.Tensor, shape: torch.Size) -> np.ndarray:
    """Values of shape (..., datum) as NumPy numbers, with the data in the shape of their plates."""
    return values.double().cpu().numpy().reshape(*values.shape[:-1], *shape)
