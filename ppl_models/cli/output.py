"""What commands print: tables and one JSON document on standard output, notices and mistakes on standard error."""

import contextlib
import functools
import json
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import typer
from rich.console import Console

from ppl_models.errors import BaselineWarning, PPLError, PPLWarning

CommandT = TypeVar("CommandT", bound=Callable[..., Any])
WIDTH_OF_FILES = 120


def console() -> Console:
    """Standard output as it is now; wide enough for tables where it is no terminal."""
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDTH_OF_FILES
    return Console(width=width, highlight=False)


def tell(message: str) -> None:
    """One line on standard error."""
    typer.echo(" ".join(message.split()), err=True)


def on_terminal() -> bool:
    """Whether a person is watching standard error, so that a progress bar helps."""
    return sys.stderr.isatty()


def command(function: CommandT) -> CommandT:
    """Turn the library's exceptions into one line on standard error and exit code 1, its warnings into notices."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            with _notices():
                return function(*args, **kwargs)
        except PPLError as error:
            tell(f"ppl-models: {error}")
            raise typer.Exit(1) from None

    return wrapped  # pyright: ignore[reportReturnType]


@contextlib.contextmanager
def quiet_stdout(active: bool) -> Iterator[None]:
    """While active, whatever is printed goes to standard error, so that standard output holds the document alone."""
    with contextlib.redirect_stdout(sys.stderr) if active else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def without_baseline_warnings() -> Iterator[None]:
    """Silence `BaselineWarning` where the reasons of the verdict say the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BaselineWarning)
        yield


def print_json(document: Any) -> None:
    """One JSON document on standard output; numbers that JSON lacks become null."""
    typer.echo(json.dumps(_plain(document), indent=2, ensure_ascii=False, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return str(value)


@contextlib.contextmanager
def _notices() -> Iterator[None]:
    """The library's own warnings as one line each, once; all others as Python shows them."""
    told: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("always", PPLWarning)
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if not issubclass(category, PPLWarning):
                usual(message, category, *place, **more)
            elif str(message) not in told:
                told.add(str(message))
                tell(f"note: {message}")

        warnings.showwarning = show
        yield
