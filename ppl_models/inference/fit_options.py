"""The options of a fit, with their defaults."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pyro.infer.elbo import ELBO
from pyro.optim import PyroOptim
from torch.utils.data import DataLoader

from ppl_models.inference.fit_result import Fit
from ppl_models.inference.guides import GuideSpec
from ppl_models.inference.preconditioning.initial import PRIOR_MEDIAN, Init
from ppl_models.inference.runs import AUTO
from ppl_models.posterior import Coords, Dims
from ppl_models.program import Data


@dataclass(frozen=True, eq=False)
class FitOptions:
    """What `ppl_models.fit` takes beside model and data; it says what each option means."""

    guide: GuideSpec
    method: str = AUTO
    held_out: Data | DataLoader[Any] | float | None = None
    batch_size: int | None = None
    max_epochs: int | None = None
    patience: int | None = None
    beta: float = 1.0
    free_bits: float = 0.0
    warmup_epochs: int = 0
    checkpoint: str | Path | None = None
    mixed_precision: bool = False
    guide_options: Mapping[str, Any] | None = None
    method_options: Mapping[str, Any] | None = None
    init: Init | Fit = PRIOR_MEDIAN
    max_steps: int | str = AUTO
    step_size: float | str = AUTO
    max_seconds: float = 300.0
    num_starts: int = 1
    precondition: bool = True
    num_particles: int | None = None
    init_scale: float = 0.1
    estimator: str = AUTO
    estimator_options: Mapping[str, Any] | None = None
    elbo: ELBO | None = None
    optimizer: PyroOptim | None = None
    seed: int = 0
    dtype: torch.dtype | None = None
    device: str = "cpu"
    backend: str = "auto"
    coords: Coords | None = None
    dims: Dims | None = None
    progress: bool = False

    @property
    def by_epochs(self) -> bool:
        """Whether the fit is a training by epochs."""
        return self.batch_size is not None or self.max_epochs is not None
