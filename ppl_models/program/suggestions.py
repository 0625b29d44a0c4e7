"""Data outside the support of their likelihood: what was found, and the likelihood that would do."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.distributions import constraints

from ppl_models.errors import DataError
from ppl_models.program.data import Arguments

if TYPE_CHECKING:
    from ppl_models.program.program import Program


def outside_support(support: Any, value: torch.Tensor) -> str | None:
    """What is wrong with values under a distribution of that support, and what would do; None if nothing is.

    Args:
        support: Constraint of a distribution, whatever its event dims.
        value: Values, any shape that broadcasts against the support's bounds, where it has any.

    Returns:
        Sentences: how many are outside, the first of them and its index, and the likelihood that takes such values.
    """
    if value.is_complex() or value.numel() == 0:
        return None
    support = _elementwise(support)
    inside = _inside(support, value)
    if inside is None or bool(inside.all()):
        return None
    index = tuple(int(axis) for axis in torch.nonzero(~inside)[0])
    # value[index] is a vector where the support is one of vectors
    first = ", ".join(f"{float(number):.6g}" for number in value[index].reshape(-1)[:4])
    num_outside = int((~inside).sum())
    return (
        f"{num_outside:,} of {inside.numel():,} values {'is' if num_outside == 1 else 'are'} outside the support "
        f"{_words(support)}, the first {first} at index {index}. {_advice(support, value)}"
    )


def check_support(program: "Program", arguments: Arguments) -> None:
    """Refuse data that the program's first run has not seen, such as other batches, where a likelihood has no density.

    Args:
        program: A model whose observed sites are arguments of it, unchanged; other sites are passed over.
        arguments: Other data for the same model. Bounds that differ from row to row, such as a binomial's trials, say
            nothing of other rows, and are passed over.

    Raises:
        DataError: Values are outside of a likelihood's support, or NaN; the message names site and argument.
    """
    named = arguments.named()
    for site in program.sites.observed:
        source = program.arguments.name_of(program.observed_values.get(site.name))
        value = named.get(source) if source is not None else None
        if not isinstance(value, torch.Tensor) or _by_row(site.support):
            continue
        found = outside_support(site.support, value)
        if found is not None:
            raise DataError(f"site '{site.name}' (argument '{source}'): {found}")


def _by_row(support: Any) -> bool:
    support = _elementwise(support)
    bounds = (getattr(support, name, None) for name in ("lower_bound", "upper_bound"))
    return any(isinstance(bound, torch.Tensor) and bool((bound != bound.reshape(-1)[:1]).any()) for bound in bounds)


def _elementwise(support: Any) -> Any:
    """The constraint of the elements: what `.to_event` or `Independent` made an event is taken apart."""
    while hasattr(support, "base_constraint") and support.event_dim > support.base_constraint.event_dim:
        support = support.base_constraint
    return support


def _inside(support: Any, value: torch.Tensor) -> torch.Tensor | None:
    try:
        inside = support.check(value)
    except (RuntimeError, NotImplementedError):  # bounds of other rows, or no test
        return None
    return inside if isinstance(inside, torch.Tensor) and inside.dtype == torch.bool else None


def _bounds(support: Any) -> tuple[float, float]:
    """Least and largest value, over all elements."""
    found = []
    for name, choose in (("lower_bound", torch.min), ("upper_bound", torch.max)):
        bound = getattr(support, name, None)
        missing = -torch.inf if name == "lower_bound" else torch.inf
        found.append(missing if bound is None else float(choose(torch.as_tensor(bound, dtype=torch.float64))))
    return found[0], found[1]


def _is(support: Any, constraint: Any) -> bool:
    return isinstance(support, constraint if isinstance(constraint, type) else type(constraint))


def _words(support: Any) -> str:
    low, high = _bounds(support)
    if _is(support, constraints.boolean):
        return "of zeros and ones"
    if _is(support, constraints.nonnegative_integer):
        return "of counts 0, 1, 2, ..." if low == 0 else f"of whole numbers from {low:g}"
    if _is(support, constraints.integer_interval):
        return f"of whole numbers from {low:g} to {high:g}"
    if _is(support, constraints.interval) or _is(support, constraints.half_open_interval):
        return f"of numbers from {low:g} to {high:g}"
    if _is(support, constraints.greater_than):
        return f"of numbers above {low:g}"
    if _is(support, constraints.greater_than_eq):
        return f"of numbers from {low:g}"
    return str(support)


def _advice(support: Any, value: torch.Tensor) -> str:
    if bool(torch.isnan(value.double()).any()):
        return "Some are NaN: drop or impute those first."
    for kind, advise in ADVICE:
        if _is(support, kind):
            return advise(support, _Kind(value))
    return "Check their range, or take a likelihood with such values in its support."


class _Kind:
    """What values are like: whole, negative, between zero and one."""

    def __init__(self, value: torch.Tensor):
        self.whole = not value.is_floating_point() or bool((value == value.round()).all())
        self.least, self.largest = float(value.min()), float(value.max())

    @property
    def negative(self) -> bool:
        return self.least < 0.0

    @property
    def greys(self) -> bool:
        return not self.negative and self.largest <= 1.0


def _for_binary(support: Any, found: _Kind) -> str:
    if found.greys:
        return (
            "These are greys: take a ContinuousBernoulli likelihood or a Gaussian (Normal) one, or binarise them, "
            "with a threshold or by one draw that is kept (ppl_models.datasets.binarised)."
        )
    if found.whole and not found.negative:
        return (
            "These are counts or levels: take a Categorical likelihood of as many levels, a Poisson or "
            "NegativeBinomial one, or a threshold that makes them zeros and ones."
        )
    return "Take a Gaussian (Normal) likelihood; numbers from 0 to 1 may have a ContinuousBernoulli one."


def _for_counts(support: Any, found: _Kind) -> str:
    if found.negative and found.whole:
        return "No count is negative: take a Gaussian (Normal) likelihood, or correct the data."
    if found.negative:
        return (
            "These are no counts (centred or scaled values?): take a Gaussian (Normal) likelihood, or give the raw "
            "counts."
        )
    return (
        "These are not whole: give the raw counts, rounded where they should be whole, or take a Gamma likelihood "
        "(if none is zero) or a Gaussian (Normal) one for normalised values."
    )


def _for_levels(support: Any, found: _Kind) -> str:
    low, high = _bounds(support)
    if not found.whole:
        return (
            "These are not whole: round them to levels, or take a ContinuousBernoulli likelihood (numbers from 0 to 1) "
            "or a Gaussian (Normal) one."
        )
    if low == 0 and found.least == 1 and found.largest == high + 1:
        return "Levels begin at 0: subtract 1."
    if found.negative:
        return f"Levels begin at {low:g}: recode them."
    return f"Give the likelihood {found.largest + 1 - low:,.0f} levels, or recode the values."


def _for_interval(support: Any, found: _Kind) -> str:
    low, high = _bounds(support)
    if low == 0 and high == 1 and not found.negative and found.largest > 1.0:
        return (
            f"Divide them by their largest possible value (255 for 8-bit images; the largest here is "
            f"{found.largest:g}), or take a Gaussian (Normal) likelihood."
        )
    return "Take a Gaussian (Normal) likelihood, or shift and scale the values into the interval."


def _for_positive(support: Any, found: _Kind) -> str:
    if not found.negative:
        return (
            "There are zeros: take a likelihood with a mass or a density at zero (Poisson or NegativeBinomial for "
            "counts, Normal otherwise)."
        )
    return "Take a likelihood on all numbers: a Gaussian (Normal) or a StudentT one."


ADVICE: tuple[tuple[Any, Callable[[Any, _Kind], str]], ...] = (
    (constraints.boolean, _for_binary),
    (constraints.nonnegative_integer, _for_counts),
    (constraints.integer_interval, _for_levels),
    (constraints.interval, _for_interval),
    (constraints.half_open_interval, _for_interval),
    (constraints.greater_than, _for_positive),
    (constraints.greater_than_eq, _for_positive),
)
"""Constraint of the elements -> what to do about values outside of it."""
