"""Checks of option values, shared by the calls of the public API."""

import math
from collections.abc import Iterable

import numpy as np

from ppl_models.errors import OptionError, UnknownNameError


def check_count(name: str, value: int, *, least: int = 1) -> int:
    """Return a whole number of at least `least`.

    Raises:
        OptionError: it is something else; the message names the option.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise OptionError(f"{name}: found {value!r}, wanted a whole number of at least {least}.")
    return int(value)


def check_positive(name: str, value: float) -> float:
    """Return a finite number above zero.

    Raises:
        OptionError: it is something else; the message names the option.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not 0 < value < math.inf:
        raise OptionError(f"{name}: found {value!r}, wanted a number above 0.")
    return float(value)


def check_choice(kind: str, value: object, valid: Iterable[str]) -> str:
    """Return a name that is among the valid ones.

    Raises:
        UnknownNameError: lists the valid names, nearest first.
    """
    names = tuple(valid)
    if not isinstance(value, str) or value not in names:
        raise UnknownNameError(kind, value, names)
    return value
