"""A fit's world that stands ready for other data: program, guide and code, prepared once."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ppl_models.engine import AUTO, Target
from ppl_models.engine.native.native import Native
from ppl_models.errors import CaptureError, first_line
from ppl_models.inference.fit_result import Fit
from ppl_models.inference.fitting import finish, job_of, put_together
from ppl_models.inference.guides import resolve_guide
from ppl_models.inference.methods import SVI
from ppl_models.inference.preconditioning.initial import PATHFINDER, initial
from ppl_models.inference.preparation import first_guide_run, num_threads
from ppl_models.inference.prepared import prepare
from ppl_models.inference.refitting.flat_draws import FlatDraws
from ppl_models.inference.refitting.method_road import AS_FOUND, MethodRoad
from ppl_models.inference.refitting.refitted import drawn
from ppl_models.inference.refitting.spec import RefitSpec
from ppl_models.inference.refitting.svi_road import SviRoad, whole_world
from ppl_models.inference.refitting.swapping import Swap, SwapError
from ppl_models.program import Data, Parameters, Program, build_program
from ppl_models.program.batching import NOT_VECTORISABLE
from ppl_models.seeds import child_seed

TRACED = ("traced", "native")
"""Backends of a target that run no Python of the model's."""

Drawn = tuple[dict[str, np.ndarray], np.ndarray, str, str]


class Bench:
    """Refits by data exchanged in place.

    Args:
        spec: what made the fit.

    Raises:
        SwapError: whole fits must do; the message says why.
        DataError, ModelError, GuideError, OptionError: as `ppl_models.fit`.
    """

    def __init__(self, spec: RefitSpec):
        _check_options(spec)
        self.spec = spec
        prepared = prepare(spec.model, spec.data, spec.options)
        _check_program(prepared.program)
        self._swap = Swap(prepared.program)
        self.program = self._swap.program
        self._prepared = replace(prepared, program=self.program)
        self._seed = spec.options.seed
        self._threads = num_threads(self.program, spec.model, prepared.guide)
        with self._world(self.program, self._seed):
            begin = initial(spec.options.init, self.program, _no_pathfinder)
            options = prepared.settings["guide_options"], prepared.memo, prepared.settings["init_scale"]
            self._resolved = resolve_guide(prepared.guide, self.program, *options, begin)
            first_guide_run(self._resolved, self.program)
            self._untouched = Parameters.from_store()
            self._random = torch.get_rng_state()
            with whole_world(self.program, 0):
                target = self._target(compiled=prepared.method is None)
                flat = FlatDraws(target) if prepared.method is not None else None
            if prepared.method is not None and flat is not None:
                self._road: MethodRoad | SviRoad = MethodRoad(
                    prepared.method, self.program, self._resolved, begin, prepared.settings, target, flat
                )
            else:
                job = job_of(self._prepared, self._resolved, spec.data, begin, time.perf_counter())
                self._road = SviRoad.of(job, target)

    def refit(self, data: Data, seed: int) -> Fit:
        """A fit of other data.

        Raises:
            SwapError: a whole fit must do for these data.
            DataError, ModelError: the data do not fit the model.
        """
        started = time.perf_counter()
        program = build_program(
            getattr(self.program.model, "__wrapped__", self.program.model),
            data,
            dtype=self.program.dtype,
            seed=child_seed(seed, "program"),
            device=self.program.device,
        )
        with self._fitting(data, seed) as fresh:
            begun = time.perf_counter()
            final, ran = finish(self._resolved, self.program, self._road.run(seed, fresh))
            parameters = Parameters.from_store()
        prepared = replace(
            self._prepared,
            program=program,
            options=replace(self.spec.options, seed=seed),
            settings={**self._prepared.settings, "seed": seed},
        )
        return put_together(prepared, self._resolved, final, ran, parameters, started, begun - started)

    def draws(self, data: Data, num_draws: int, seed: int) -> Drawn:
        """Draws of each latent, log p - log q there, status and note of a refit; as `refit` raises."""
        draw_seed = child_seed(seed, "draws")
        with self._fitting(data, seed) as fresh:
            if isinstance(self._road, MethodRoad) and self._family() in AS_FOUND:
                found = self._road.find(seed)
                with whole_world(self.program, draw_seed):
                    values, ratio = self._road.draw(
                        found.approximation, num_draws, np.random.default_rng(draw_seed), fresh
                    )
                return values, ratio, found.status, found.note
            ran = self._road.run(seed, fresh)
            with whole_world(self.program, draw_seed):
                values, ratio = self._drawn(num_draws, fresh)
        return values, ratio if self._has_density() else np.full(num_draws, np.nan), ran.status, ran.note

    def _drawn(self, num_draws: int, fresh: Program) -> tuple[dict[str, np.ndarray], np.ndarray]:
        draw = self._road.draw if isinstance(self._road, SviRoad) else None
        return drawn(fresh, self._resolved.guide, num_draws) if draw is None else draw(num_draws, fresh)

    @contextmanager
    def _fitting(self, data: Data, seed: int) -> Iterator[Program]:
        """The fit's world behind the guide's first run, with other data, proven."""
        fresh = self._swap.take(data)
        self._swap.check_supports(fresh)
        with self._world(self.program.with_parameters(self._untouched), seed):
            if seed == self._seed:
                torch.set_rng_state(self._random)  # the numbers of `ppl_models.fit` with this seed
            with whole_world(self.program, 0):
                try:
                    self._road.target.prove(fresh)
                except (CaptureError, *NOT_VECTORISABLE) as error:
                    raise SwapError(f"its density as it was captured is wrong at other data: {error}") from error
            yield fresh

    def _world(self, program: Program, seed: int) -> Any:
        return program.isolated(seed=child_seed(seed, "fit"), full_data=False, num_threads=self._threads)

    def _target(self, *, compiled: bool) -> Target:
        try:
            target = Target(self.program, Native.name if compiled else AUTO)
            if target.backend != Native.name and compiled:
                target = Target(self.program)
        except NOT_VECTORISABLE as error:
            raise SwapError(f"its log density fails: {first_line(error)}") from error
        if target.backend not in TRACED:
            raise SwapError("its log density cannot be captured: its Python reads values of tensors, or draws")
        return target

    def _family(self) -> str | None:
        return self._resolved.family.name if self._resolved.family else None

    def _has_density(self) -> bool:
        family = self._resolved.family
        return not self._resolved.point and (family is None or family.density)


def _check_options(spec: RefitSpec) -> None:
    options = spec.options
    reasons = {
        "held_out data": options.held_out is not None,
        "an elbo of the user's": options.elbo is not None,
        "an optimizer of the user's": options.optimizer is not None,
        "data in batches": spec.batched,
        "several starts": options.num_starts != 1,
        "init='pathfinder'": options.init == PATHFINDER,
        "backend='eager'": options.backend == "eager",
        "a device other than the CPU": options.device != "cpu",
    }
    for reason, holds in reasons.items():
        if holds:
            raise SwapError(f"the fit has {reason}")
    if options.method == SVI and options.guide == "laplace":
        raise SwapError("Laplace's approximation by SVI takes its Hessian at the end")


def _check_program(program: Program) -> None:
    if program.moving_supports:
        raise SwapError(f"the support of '{min(program.moving_supports)}' depends on another latent")


def _no_pathfinder() -> Any:
    raise AssertionError("refused before")
