"""Monte Carlo: how efficient each method is, how fast, and how near to known answers evidence comes.

    python benchmarks/monte_carlo.py [--part NAME ...] [--quick] [--output FILE]

Parts: `speed` (a million draws of E[exp(-z²)] beside NumPy's two lines, memory), `efficiency` (every method on every
named integrand: errors against the exact answer, variance times cost), `weighted` (importance sampling, multilevel),
`gradients` (variance and bias of gradient estimators), `annealing` (two-sided evidence by annealed importance
sampling), `sequential` (particle filters against Kalman's likelihood) and `bridging` (bridge sampling against closed
forms). Rows go to `results/monte_carlo.json`, where parts that were not run stay as they were, tables to the terminal,
a picture to `results/monte_carlo.png`. `--quick` takes less of each and leaves the results alone.
"""

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.monte_carlo_parts import (
    annealing,
    bridging,
    expectations,
    figure,
    gradients,
    sequential,
    weighted,
)
from benchmarks.monte_carlo_parts.tables import table_of
from benchmarks.race.results import circumstances, merged
from ppl_models.files import write_whole

RESULTS = Path(__file__).parent / "results" / "monte_carlo.json"
PARTS: dict[str, tuple[str, Callable[[bool], list[dict[str, Any]]]]] = {
    "speed": ("A million draws", expectations.speed_rows),
    "efficiency": ("Methods by integrand", expectations.efficiency_rows),
    "weighted": ("Importance sampling and multilevel", weighted.rows),
    "gradients": ("Gradient estimators", gradients.rows),
    "annealing": ("Evidence by annealing", annealing.rows),
    "sequential": ("Evidence by particle filters", sequential.rows),
    "bridging": ("Evidence by bridge sampling", bridging.rows),
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=list(PARTS), default=list(PARTS), help="all if not given")
    parser.add_argument("--quick", action="store_true", help="less of each part, and the results stay as they are")
    parser.add_argument("--output", type=Path, help="results/monte_carlo.json if not given")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    console = Console(width=None if sys.stdout.isatty() else 200)
    quick_output = Path(tempfile.gettempdir()) / "monte_carlo_quick.json"
    output = options.output or (quick_output if options.quick else RESULTS)
    for name in options.part:
        title, measure = PARTS[name]
        command = f"python benchmarks/monte_carlo.py --part {name}" + (" --quick" if options.quick else "")
        before = circumstances(command, 1)
        rows = measure(options.quick)
        console.print(table_of(title, rows))
        write_whole(output, _writer(merged(output, {name: {**before, "rows": rows}})))
    picture = figure.draw(json.loads(output.read_text())["parts"], output.with_suffix(".png"))
    if picture is not None:
        console.print(f"picture: {picture}")


def _writer(document: dict[str, Any]) -> Callable[[Path], object]:
    return lambda path: path.write_text(json.dumps(_finite(document), indent=1, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    """The same without numbers that JSON lacks."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    main()
