"""Draws of a fit by name, with the weights that take them to its model's posterior."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ppl_models.diagnostics import Check, check_khat, psis_weights
from ppl_models.errors import DataError, OptionError, UnknownNameError
from ppl_models.inference import Fit
from ppl_models.inference.draws import latent_draws, scored
from ppl_models.options import check_count
from ppl_models.posterior import predictive_draws
from ppl_models.program import Data, Program, with_data
from ppl_models.seeds import check_seed, child_seed
from ppl_models.workflow.predictions import MOST_NUMBERS

LEAST_DRAWS = 100


class NamedDraws(Mapping[str, torch.Tensor]):
    """Latents, deterministics and predicted observations by name, shape (draw, *event); predicted when asked for.

    Args:
        program: of the data that are predicted.
        values: latents.
        deterministics: of the fit's own data; None where the data are new.
        seed: of the predictions.
    """

    def __init__(
        self,
        program: Program,
        values: Mapping[str, torch.Tensor],
        deterministics: Mapping[str, torch.Tensor] | None,
        seed: int,
    ):
        self._program, self._values, self._seed = program, dict(values), seed
        self._found = {**self._values, **(deterministics or {})}
        sites = program.sites
        drawn = sites.latent + sites.discrete + sites.deterministic + sites.observed
        self._names = tuple(dict.fromkeys([*self._values, *(site.name for site in drawn)]))

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self._names:
            raise UnknownNameError("variable", name, self._names)
        if name not in self._found:
            self._check_size()
            new = predictive_draws(self._program, self._values, self._seed, deterministics=True)
            self._found = {**new, **self._found}
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def _check_size(self) -> None:
        sites = self._program.sites
        size = sum(site.shape.numel() for site in sites.observed + sites.deterministic)
        num_draws = len(next(iter(self._values.values())))
        if num_draws * size > MOST_NUMBERS:
            raise OptionError(
                f"num_draws: found {num_draws:,} for {size:,} predicted numbers, wanted at most "
                f"{MOST_NUMBERS // size:,}: predictions are held in memory. Draw fewer, or predict fewer rows."
            )

    def rows(self, index: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """Some of the draws, by the same names."""
        return _Rows(self, index)


class _Rows(Mapping[str, torch.Tensor]):
    def __init__(self, draws: NamedDraws, index: torch.Tensor):
        self._draws, self._index = draws, index

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._draws[name][self._index]

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and name in tuple(self._draws):
            raise AttributeError(f"draws are taken by name: d[{name!r}], not d.{name}")
        raise AttributeError(f"draws have no {name!r}; by name they have {', '.join(self._draws)}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._draws)

    def __len__(self) -> int:
        return len(self._draws)


@dataclass(frozen=True)
class WeightedDraws:
    """Draws of a fit's guide and what takes them to the posterior.

    Attributes:
        values: by name.
        num_draws: how many.
        log_ratio: log p - log q in nats, shape (draw,).
        weights: Pareto-smoothed, summing to one, shape (draw,); None where there are none.
        khat: of the ratios; its `detail` says why where it was not measured.
        device: where the draws stand.
    """

    values: NamedDraws = field(repr=False)
    num_draws: int
    log_ratio: np.ndarray = field(repr=False)
    weights: np.ndarray | None = field(repr=False)
    khat: Check
    device: torch.device


def weighted_draws(fit: Fit, data: Data | None, num_draws: int, seed: int) -> WeightedDraws:
    """Draw from a fit, and weigh.

    Args:
        fit: what `ppl.fit` returned.
        data: new arguments of the model, as `fit.predict` takes them; None repeats the data of the fit.
        num_draws: at least 100.
        seed: of the draws and of the predictions.

    Raises:
        OptionError: an option is out of its range.
        DataError, ModelError: the new data do not fit the model.
    """
    if not isinstance(fit, Fit):
        raise OptionError(f"fit: found {type(fit).__name__}, wanted the result of ppl.fit.")
    check_count("num_draws", num_draws, least=LEAST_DRAWS)
    program = fit.program
    with program.isolated(seed=child_seed(check_seed(seed), "draws")):
        values, log_q = latent_draws(program, fit.guide, num_draws)
        log_p, deterministics = scored(program, values, num_draws)
    log_ratio = (log_p - log_q).double().cpu().numpy()
    shown = program if data is None else with_data(program, data)
    named = NamedDraws(shown, values, deterministics if data is None else None, child_seed(seed, "predict"))
    weights, khat = _weigh(fit, log_ratio)
    return WeightedDraws(named, num_draws, log_ratio, weights, khat, program.device)


def _weigh(fit: Fit, log_ratio: np.ndarray) -> tuple[np.ndarray | None, Check]:
    if not fit.has_density:
        said = f"the guide '{fit.guide_name}' has no density, so that nothing corrects its draws"
        return None, Check("k-hat", np.nan, 0.7, None, "fit a family that has a density", detail=said)
    khat = check_khat(log_ratio)
    try:
        return np.exp(psis_weights(log_ratio)[0]), khat
    except DataError:
        return None, khat
