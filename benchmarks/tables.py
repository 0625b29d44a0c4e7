"""Rows of figures as tables for a terminal."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

Row = Mapping[str, Any]


def table_of(title: str, rows: Sequence[Row]) -> Table:
    """One table with a column for each name that a row has; lists and mappings are for the file alone."""
    hidden = {name for row in rows for name, value in row.items() if isinstance(value, list | tuple | dict)}
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in hidden]
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in names:
        numeric = any(isinstance(row.get(name), int | float) for row in rows)
        table.add_column(name.replace("_", " "), justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*(text_of(row.get(name)) for name in names))
    return table


def text_of(value: Any) -> str:
    """A value of a row as people read it."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
