"""Autoencoders: known optima reached, bounds in order, better models better on data not seen, and the speed of it.

    python benchmarks/representation.py [--part NAME ...] [--quick] [--output FILE]

Parts: `optimum` and `active` (the linear VAE on digits beside the closed form of probabilistic PCA), `posteriors`
(the audit of a nonlinear VAE at digits it has not seen), `mnist` (bounds, posteriors, priors and layers by their test
log likelihood on MNIST-5k), `counts` (negative binomial against Poisson on cells not seen), `labels` (a hundred
labels: summed out, sampled, and a plain classifier), `rate_distortion` (a curve over beta) and `speed` (an epoch
beside a hand-written torch loop). `mnist` and `counts` need the extra `data`. Rows go to
`results/representation.json`, where parts that were not run stay as they were, tables to the terminal, a picture to
`results/representation.png`. `--quick` takes less of each and leaves the results alone.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.parts import run_parts
from benchmarks.representation_parts import counts, figure, labels, linear, mnist, posteriors, rate_distortion, speed

PARTS: dict[str, tuple[str, Callable[[bool], list[dict[str, Any]]]]] = {
    "optimum": ("Linear VAE on digits beside probabilistic PCA", linear.optimum_rows),
    "active": ("Active latents at a fixed noise variance", linear.active_rows),
    "posteriors": ("Audit of digits not seen", posteriors.rows),
    "mnist": ("Test log likelihood on MNIST-5k", mnist.rows),
    "counts": ("Counts of cells not seen", counts.rows),
    "labels": ("A hundred labels", labels.rows),
    "rate_distortion": ("Rate and distortion by beta", rate_distortion.rows),
    "speed": ("An epoch beside a hand-written loop", speed.rows),
}


if __name__ == "__main__":
    run_parts(__doc__, "representation", PARTS, figure.draw)
