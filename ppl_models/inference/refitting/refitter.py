"""Posteriors of other data, by what made a fit."""

import time
from dataclasses import replace

from ppl_models.inference.fit_result import Fit
from ppl_models.inference.fitting import fit_guide
from ppl_models.inference.refitting.amortised import Amortised
from ppl_models.inference.refitting.bench import Bench
from ppl_models.inference.refitting.refitted import Refitted, draws_of
from ppl_models.inference.refitting.spec import RefitSpec
from ppl_models.inference.refitting.swapping import SwapError
from ppl_models.options import check_count
from ppl_models.program import Data
from ppl_models.seeds import check_seed


class Refitter:
    """Fits the posteriors of other data as a fit was made: same family, method, options and rules of convergence.

    Where the code can be bound to other data, it is compiled once and the data are exchanged under it. Such a refit is
    the whole course of `ppl_models.fit` at its own data (look, coordinates, step size, stages), and gives the same
    numbers as that for the fit's own seed; for others it differs in where the guide begins, which is the prior's median
    by the fit's draws. Nothing comes from the optimum of other data. At every refit the code's numbers are compared
    with the model's own; where they differ, or data have other shapes, that refit is a whole fit, and its note says so.

    One at a time: it is for one process and one thread, and is not pickled; a `RefitSpec` is.

    Args:
        fit: the fit, or its description.

    Attributes:
        spec: what made the fit.
        amortised: whether the guide serves other data as it is, without a refit.
        note: why it is not fast; empty otherwise.
    """

    def __init__(self, fit: Fit | RefitSpec):
        self.spec = fit if isinstance(fit, RefitSpec) else RefitSpec.of(fit)
        self.amortised = self.spec.amortised
        self.note = ""
        self._amortised = Amortised(self.spec) if self.amortised else None
        self._bench: Bench | None = None
        if not self.amortised:
            try:
                self._bench = Bench(self.spec)
            except SwapError as error:
                self.note = f"whole fits: {error}"

    @property
    def fast(self) -> bool:
        """Whether refits need no whole fits."""
        return self._bench is not None or self._amortised is not None

    def refit(self, data: Data, *, seed: int) -> Fit:
        """The posterior of other data.

        Args:
            data: like the fit's: the same arguments, shapes and dtypes.
            seed: of everything random.

        Returns:
            A fit; `status` says whether it converged.

        Raises:
            DataError, ModelError: the data do not fit the model.
        """
        seed = check_seed(seed)
        if self._amortised is not None:
            return self._amortised.refit(data, seed)
        if self._bench is not None:
            try:
                return self._bench.refit(data, seed)
            except SwapError as error:
                return self._whole(data, seed, f"a whole fit: {error}")
        return self._whole(data, seed)

    def draws(self, data: Data, num_draws: int, *, seed: int) -> Refitted:
        """Draws from the posterior of other data, as plain arrays.

        Args:
            data: like the fit's: the same arguments, shapes and dtypes.
            num_draws: number of draws.
            seed: of everything random.

        Raises:
            DataError, ModelError: the data do not fit the model.
        """
        num_draws, seed = check_count("num_draws", num_draws), check_seed(seed)
        started, reason = time.perf_counter(), ""
        if self._bench is not None:
            try:
                values, log_ratio, status, note = self._bench.draws(data, num_draws, seed)
                return Refitted(values, log_ratio, status, time.perf_counter() - started, note)
            except SwapError as error:
                reason = f"a whole fit: {error}"
        fit = self._amortised.refit(data, seed) if self._amortised is not None else self._whole(data, seed, reason)
        values, log_ratio = draws_of(fit, num_draws, seed)
        return Refitted(values, log_ratio, fit.status, time.perf_counter() - started, fit.note)

    def _whole(self, data: Data, seed: int, reason: str = "") -> Fit:
        fit = fit_guide(self.spec.model, data, replace(self.spec.options, seed=seed))
        return replace(fit, note="; ".join(part for part in (reason, fit.note) if part)) if reason else fit
