"""Distributions of every particle: what a state-space model gives, held against the shapes that it must have."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.distributions import Distribution

from ppl_models.errors import DataError, ModelError, first_line
from ppl_models.program.program import bounds

STATE = "state"
"""Name of a state that is one tensor."""

State = dict[str, torch.Tensor]
"""The parts of the state of every particle by name, each of shape (particle, *event)."""


def call(where: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of the model gives.

    Raises:
        ModelError: it raises something.
    """
    try:
        return function(*arguments)
    except Exception as error:
        raise ModelError(f"{where}: {type(error).__name__}: {first_line(error)}.") from error


def laws_of_state(where: str, found: Any, count: int, before: State | None) -> dict[str, Distribution]:
    """The distributions of the parts of `count` states, by name.

    Args:
        where: for messages.
        found: a distribution, or a dict of them.
        count: number of particles.
        before: the states before, whose parts and event shapes these must have; None at time 0.

    Raises:
        ModelError: other parts or shapes.
    """
    named = dict(found) if isinstance(found, Mapping) else {STATE: found}
    if before is not None and named.keys() != before.keys():
        raise ModelError(f"{where}: parts {sorted(named)}, wanted those of the state, {sorted(before)}.")
    laws = {name: law_of(where if name == STATE else f"{where}, '{name}'", law, count) for name, law in named.items()}
    for name, value in (before or {}).items():
        law, wanted = laws[name], value.shape[1:]
        if law.event_shape != wanted:
            raise ModelError(
                f"{where}: event shape {tuple(law.event_shape)}, wanted that of the state, {tuple(wanted)}."
            )
    return laws


def law_of(where: str, law: Any, count: int) -> Distribution:
    """A distribution of batch shape (count,).

    Raises:
        ModelError: it is none, or of another batch shape.
    """
    if not isinstance(law, Distribution):
        raise ModelError(f"{where}: found {type(law).__name__}, wanted a torch or Pyro distribution.")
    shape = tuple(law.batch_shape)
    if shape == (count,):
        return law
    if shape in ((), (1,)):
        return law.expand(torch.Size([count]))
    wanted = "()" if where.startswith("initial") else f"({count},), one for each particle"
    raise ModelError(
        f"{where}: batch shape {shape}, wanted {wanted}. Axes of the state or the observation belong to the event: "
        "call .to_event(1), or .to_event(2) for a matrix; and keep parameters from broadcasting against the particles."
    )


def density(where: str, law: Distribution, value: torch.Tensor) -> torch.Tensor:
    """Log density in nats at one value for each particle, shape (particle,); -inf outside the support.

    Raises:
        ModelError: it is NaN or +inf, or of another shape.
    """
    # without validation a density may say anything of what it cannot draw
    inside = _inside(where, law, value)
    found = call(where, law.log_prob, value)
    if found.shape != law.batch_shape:
        raise ModelError(f"{where}: log density of shape {tuple(found.shape)}, wanted {tuple(law.batch_shape)}.")
    bad = inside & (found.isnan() | (found == torch.inf))
    if bad.any():
        raise ModelError(
            f"{where}: the log density of {type(law).__name__} is NaN or +inf for {int(bad.sum())} of {len(found)} "
            "particles. See that its parameters are finite, and its scales above 0."
        )
    return torch.where(inside, found, -torch.inf)


def density_of_observed(where: str, law: Distribution, observed: torch.Tensor) -> torch.Tensor:
    """Log density of one observation given each particle, nats, shape (particle,).

    Raises:
        DataError: the observation is of another shape, or outside a support that is the same for all particles.
        ModelError: as `density`.
    """
    if observed.shape != law.event_shape:
        raise DataError(
            f"{where}: shape {tuple(observed.shape)}, wanted the event shape of its distribution, "
            f"{tuple(law.event_shape)}."
        )
    value = observed.expand(law.batch_shape + law.event_shape)
    found = density(where, law, value)
    if torch.isneginf(found).all():
        check_inside(where, law, observed)
    return found


def check_inside(where: str, law: Distribution, observed: torch.Tensor) -> None:
    """Refuse an observation outside of a support that is the same for all particles.

    Raises:
        DataError: it is outside.
    """
    support = _support(law)
    if support is None or _moves(law) or call(where, support.check, observed).all():
        return
    text = str(observed.tolist())
    raise DataError(
        f"{where}: {text if len(text) < 60 else text[:57] + '...'} is outside the support of {type(law).__name__}, "
        f"{support}. Mend the data, or take another distribution."
    )


def _inside(where: str, law: Distribution, value: torch.Tensor) -> torch.Tensor:
    support = _support(law)
    if support is None:
        return torch.ones(value.shape[:1], dtype=torch.bool, device=value.device)
    return call(where, support.check, value).reshape(len(value), -1).all(1)


def _support(law: Distribution) -> Any | None:
    try:
        return law.support
    except NotImplementedError:
        return None


def _moves(law: Distribution) -> bool:
    """Whether the support is another for each particle."""
    found = [torch.as_tensor(bound) for bound in bounds(law.support)]
    return any(bool((bound != bound.flatten()[0]).any()) for bound in found)
