"""Exceptions of the library: each says where, what was found, what was wanted, what to do."""

import difflib
from collections.abc import Iterable


class PPLError(Exception):
    """Base of every exception that a user's mistake can raise."""


class OptionError(PPLError, ValueError):
    """An option has a value that cannot be used."""


class UnknownNameError(PPLError, LookupError):
    """A problem, guide, kernel or backend is not known by that name."""

    def __init__(self, kind: str, found: object, valid: Iterable[str]):
        names = nearest_first(str(found), valid)
        super().__init__(f"unknown {kind} {str(found)!r}; the valid ones, nearest first: {', '.join(names)}.")
        self.kind, self.found, self.valid = kind, found, names


class DataError(PPLError, ValueError):
    """The data do not fit the model.

    Attributes:
        whole_numbers: the argument at fault, if it holds whole numbers or truth values; a floating dtype may mend it.
    """

    whole_numbers: str | None = None


class ModelError(PPLError, ValueError):
    """The model cannot be used as it is."""


class GuideError(PPLError, ValueError):
    """The guide does not fit the model."""


class FileError(PPLError, OSError):
    """A file cannot be read or written."""


class CaptureError(PPLError, RuntimeError):
    """A model cannot be captured as a graph, or a graph cannot be compiled; a slower backend runs it all the same."""


class PPLWarning(UserWarning):
    """Base of the library's warnings."""


class BaselineWarning(PPLWarning):
    """A baseline fails its own gates and should not be taken for the truth."""


class BackendWarning(PPLWarning):
    """A faster backend could not be used; a slower one was."""


def nearest_first(found: str, valid: Iterable[str]) -> tuple[str, ...]:
    """The valid names ordered by their likeness to the one found."""
    names = sorted(valid)
    return tuple(
        sorted(names, key=lambda name: -difflib.SequenceMatcher(None, found.lower(), name.lower()).ratio()),
    )


def first_line(error: BaseException) -> str:
    """What an exception says, in one line without its full stop; its type where it says nothing."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    # torch puts the values that it found on a line of their own.
    text = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return text.rstrip(".")[:300]
