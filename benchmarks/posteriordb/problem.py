"""What a problem of posteriordb is: a model with its data, and the reference draws that it is judged by."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

POSTERIORDB = (
    "Magnusson et al. (2024), posteriordb: testing, benchmarking and developing Bayesian inference algorithms, "
    "arXiv:2407.04967"
)

Raw = Mapping[str, Any]
"""A data file as posteriordb has it: name -> number or nested list of numbers."""


@dataclass(frozen=True)
class Entry:
    """What this package knows of a problem before its files are read.

    Attributes:
        model: The Pyro model.
        prepare: Turns the raw data into the model's arguments.
        cite: Where the model and the data were published.
        sampling: Options of `ppl_models.sample` under which NUTS meets the reference, where the defaults do not.
    """

    model: Callable[..., Any]
    prepare: Callable[[Raw], dict[str, Any]]
    cite: str
    sampling: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Problem:
    """A posterior of posteriordb, ready to be fitted, `model(**data)`, and compared with its reference.

    Attributes:
        name: Its name in posteriordb, `data-model`.
        model: A Pyro model; each parameter of the reference is a latent or deterministic site of its name.
        data: Argument of the model -> torch tensor (float64), integer or float.
        reference: Parameter -> reference draws, float64, shape (chain, draw, *shape).
        summary: Parameter -> its mean and sd, each of the parameter's shape, from five times as many reference draws.
        multimodal: Whether the posterior may have modes apart from the one that the reference explored.
        cite: Where the model and the data were published.
        sampling: Options of `ppl_models.sample` under which NUTS meets the reference, where the defaults do not.
        tags: What posteriordb's index says of its geometry.
    """

    name: str
    model: Callable[..., Any]
    data: Mapping[str, Any]
    reference: Mapping[str, np.ndarray]
    summary: Mapping[str, tuple[np.ndarray, np.ndarray]]
    multimodal: bool
    cite: str
    sampling: Mapping[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
