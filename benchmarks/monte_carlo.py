"""Monte Carlo: how efficient each method is, how fast, and how near to known answers evidence comes.

    python benchmarks/monte_carlo.py [--part NAME ...] [--quick] [--output FILE]

Parts: `speed` (a million draws of E[exp(-z²)] beside NumPy's two lines, memory), `efficiency` (every method on every
named integrand: errors against the exact answer, variance times cost), `weighted` (importance sampling, multilevel),
`gradients` (variance and bias of gradient estimators), `annealing` (two-sided evidence by annealed importance
sampling), `sequential` (particle filters against Kalman's likelihood) and `bridging` (bridge sampling against closed
forms). Rows go to `results/monte_carlo.json`, where parts that were not run stay as they were, tables to the terminal,
a picture to `results/monte_carlo.png`. `--quick` takes less of each and leaves the results alone.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
from benchmarks.parts import run_parts

PARTS: dict[str, tuple[str, Callable[[bool], list[dict[str, Any]]]]] = {
    "speed": ("A million draws", expectations.speed_rows),
    "efficiency": ("Methods by integrand", expectations.efficiency_rows),
    "weighted": ("Importance sampling and multilevel", weighted.rows),
    "gradients": ("Gradient estimators", gradients.rows),
    "annealing": ("Evidence by annealing", annealing.rows),
    "sequential": ("Evidence by particle filters", sequential.rows),
    "bridging": ("Evidence by bridge sampling", bridging.rows),
}


if __name__ == "__main__":
    run_parts(__doc__, "monte_carlo", PARTS, figure.draw)
