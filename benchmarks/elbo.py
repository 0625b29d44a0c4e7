"""ELBO of every catalogue problem's hand-written guide beside `normal`, and the time that each stage takes.

    python benchmarks/elbo.py [--problem NAME ...] [--guide NAME ...] [--output benchmarks/results/elbo.json]

Each guide is fitted as `ppl.fit` does by default; the ELBO and k-hat are measured on 20,000 draws of their own.
"""

import argparse
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

import ppl_models as ppl
from ppl_models.diagnostics import check_khat
from ppl_models.files import write_whole
from ppl_models.versions import versions

NUM_DRAWS = 20_000


def measure(name: str, guide: str) -> dict:
    problem = ppl.load(name)
    fit = ppl.fit(
        problem.model,
        problem.data,
        guide=problem.guides.get(guide, guide),
        init_scale=problem.initial_scale,
        seed=1,
    )
    elbo, error = fit.elbo(NUM_DRAWS, seed=2)
    khat = check_khat(fit.log_ratio(NUM_DRAWS, seed=2)).value
    return {
        "problem": name,
        "guide": guide,
        "elbo": elbo,
        "elbo_mcse": error,
        "khat": khat,
        "steps": fit.steps,
        "status": fit.status,
        "seconds": fit.seconds,
        "particles": fit.config["num_particles"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problem", action="append", choices=ppl.names())
    parser.add_argument("--guide", action="append")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "elbo.json")
    options = parser.parse_args()
    guides = options.guide or ["normal", "handwritten"]
    rows = []
    table = Table("problem", "guide", "ELBO (nats)", "± se", "k-hat", "steps", "status", "seconds", "ms a step")
    for name in options.problem or ppl.names():
        for guide in guides:
            row = measure(name, guide)
            rows.append(row)
            table.add_row(
                name,
                guide,
                f"{row['elbo']:,.3f}",
                f"{row['elbo_mcse']:.3f}",
                f"{row['khat']:.2f}",
                f"{row['steps']:,}",
                row["status"],
                f"{row['seconds']:.1f}",
                f"{1e3 * row['seconds'] / max(row['steps'], 1):.2f}",
            )
    Console(width=140).print(table)
    document = {"command": "python benchmarks/elbo.py", "versions": versions(), "rows": rows}
    write_whole(options.output, lambda path: path.write_text(json.dumps(document, indent=1) + "\n"))


if __name__ == "__main__":
    main()
