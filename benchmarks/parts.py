"""A benchmark made of parts: each gives rows, which go to a table and to a file that keeps the parts not run."""

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.race.results import circumstances, merged
from benchmarks.tables import table_of
from ppl_models.files import write_whole

FOLDER = Path(__file__).parent / "results"

Rows = list[dict[str, Any]]
Parts = Mapping[str, tuple[str, Callable[[bool], Rows]]]
"""Name -> title, and function of whether little time is there that measures."""
Draw = Callable[[Mapping[str, Any], Path], Path | None]


def run_parts(description: str | None, name: str, parts: Parts, draw: Draw) -> None:
    """Run the parts that the command line asks for; rows to `results/name.json`, tables to the terminal, a picture.

    Args:
        description: what `--help` says.
        name: of the script and of its file of results.
        parts: what may be measured.
        draw: writes the picture of a document's parts to a path.
    """
    options = _arguments(description, name, parts)
    console = Console(width=None if sys.stdout.isatty() else 200)
    quick_output = Path(tempfile.gettempdir()) / f"{name}_quick.json"
    output = options.output or (quick_output if options.quick else FOLDER / f"{name}.json")
    for part in options.part:
        title, measure = parts[part]
        command = f"python benchmarks/{name}.py --part {part}" + (" --quick" if options.quick else "")
        before = circumstances(command, 1)
        rows = measure(options.quick)
        console.print(table_of(title, rows))
        write_whole(output, _writer(merged(output, {part: {**before, "rows": rows}})))
    picture = draw(json.loads(output.read_text())["parts"], output.with_suffix(".png"))
    if picture is not None:
        console.print(f"picture: {picture}")


def _arguments(description: str | None, name: str, parts: Parts) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=list(parts), default=list(parts), help="all if not given")
    parser.add_argument("--quick", action="store_true", help="less of each part, and the results stay as they are")
    parser.add_argument("--output", type=Path, help=f"results/{name}.json if not given")
    return parser.parse_args()


def _writer(document: dict[str, Any]) -> Callable[[Path], object]:
    return lambda path: path.write_text(json.dumps(_finite(document), indent=1, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    """The same without numbers that JSON lacks."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
