"""Estimators of the gradients of variational bounds and of free expectations, one to a file, by name.

Each is an object with the terms of one draw and a rule that combines them, so that eager and compiled steps share one
definition.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ppl_models.errors import OptionError
from ppl_models.options import check_choice
from ppl_models.program.estimators.doubly_reparameterised import DoublyReparameterised
from ppl_models.program.estimators.entropy import Entropy
from ppl_models.program.estimators.enumeration import Enumeration
from ppl_models.program.estimators.estimator import Estimator, Terms
from ppl_models.program.estimators.expected import Expected
from ppl_models.program.estimators.gumbel_softmax import GumbelSoftmax
from ppl_models.program.estimators.importance_weighted import ImportanceWeighted
from ppl_models.program.estimators.nvil import Nvil
from ppl_models.program.estimators.rebar import Rebar
from ppl_models.program.estimators.relax import Relax
from ppl_models.program.estimators.renyi import Renyi
from ppl_models.program.estimators.reparameterised import Reparameterised
from ppl_models.program.estimators.score import Score
from ppl_models.program.estimators.sticking_the_landing import StickingTheLanding
from ppl_models.program.estimators.straight_through import StraightThrough
from ppl_models.program.estimators.total import Total
from ppl_models.program.estimators.vimco import Vimco
from ppl_models.program.estimators.weighted_kl import WeightedKl

ESTIMATORS: Mapping[str, type[Estimator]] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            Total,
            Reparameterised,
            StickingTheLanding,
            Entropy,
            Score,
            Nvil,
            Vimco,
            Rebar,
            Relax,
            GumbelSoftmax,
            StraightThrough,
            Enumeration,
            ImportanceWeighted,
            DoublyReparameterised,
            Renyi,
            WeightedKl,
        )
    }
)
OPTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {name: tuple(kind().options) for name, kind in ESTIMATORS.items()}
)


def make_estimator(name: str, options: Mapping[str, Any] | None = None) -> Estimator:
    """An estimator by its name.

    Args:
        name: one of `ESTIMATORS`.
        options: of that estimator, by name.

    Raises:
        UnknownNameError: no estimator has that name, or none of its options has.
        OptionError: an option has a value that it cannot use.
    """
    check_choice("estimator", name, ESTIMATORS)
    valid = OPTIONS[name]
    for option in options or {}:
        if option not in valid:
            if not valid:
                raise OptionError(f"estimator_options: '{name}' has none; found {option!r}.")
            check_choice(f"option of estimator '{name}'", option, valid)
    return ESTIMATORS[name](**(options or {}))


__all__ = [
    "ESTIMATORS",
    "OPTIONS",
    "DoublyReparameterised",
    "Entropy",
    "Enumeration",
    "Estimator",
    "Expected",
    "GumbelSoftmax",
    "ImportanceWeighted",
    "Nvil",
    "Rebar",
    "Relax",
    "Renyi",
    "Reparameterised",
    "Score",
    "StickingTheLanding",
    "StraightThrough",
    "Terms",
    "Total",
    "Vimco",
    "WeightedKl",
    "make_estimator",
]
