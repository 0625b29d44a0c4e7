"""The one progress bar: on standard error, shown only when asked for."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

Update = Callable[[int, str], None]
"""Called with the amount of work done so far and a short text to show beside the bar."""


@contextmanager
def progress_bar(label: str, total: int | None, *, show: bool) -> Iterator[Update]:
    """Show a bar for a stretch of work.

    Args:
        label: what is being done.
        total: amount of work; None shows a spinner with the time spent.
        show: False shows nothing.
    """
    if not show:
        yield lambda done, text="": None
        return
    count = [MofNCompleteColumn()] if total is not None else []
    columns = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), *count, TimeElapsedColumn()]
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total, note="")
        yield lambda done, text="": bar.update(task, completed=done, note=text)
