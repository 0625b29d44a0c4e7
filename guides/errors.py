"""Exceptions of the guides: each says what was found, what is valid, and what to do."""

import difflib
from collections.abc import Iterable


class UnknownFamilyError(LookupError):
    """No automatic family has that name."""

    def __init__(self, found: object, valid: Iterable[str]):
        names = _nearest_first(str(found), valid)
        super().__init__(f"unknown guide family {str(found)!r}; the valid ones, nearest first: {', '.join(names)}.")
        self.found, self.valid = found, names


class FamilyOptionError(TypeError, ValueError):
    """A family was given an option that it lacks, or a value that it cannot use."""


class UnsuitableModelError(ValueError):
    """A family cannot serve the model; the message names what it cannot serve, and what to do."""


class LaplaceError(ArithmeticError):
    """The log density has no proper quadratic approximation at the point that was reached."""


class MissingDataError(TypeError, ValueError):
    """A guide that conditions on the observed data was called without them."""

    def __init__(self, guide: str, argument: str):
        super().__init__(
            f"guide {guide!r}: argument {argument!r} is None, but this guide conditions on the observed data. "
            f"Call it with the data that it was fitted to, also when you draw predictions."
        )


def _nearest_first(found: str, valid: Iterable[str]) -> tuple[str, ...]:
    """The valid names ordered by their likeness to the one found."""
    return tuple(sorted(sorted(valid), key=lambda name: -difflib.SequenceMatcher(None, found.lower(), name).ratio()))
