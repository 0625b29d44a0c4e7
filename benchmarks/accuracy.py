"""Accuracy against time: every family and method on every problem of posteriordb, beside the peers.

    python benchmarks/accuracy.py --folder FOLDER [--problem NAME ...] [--method LABEL ...] [--peers with|without|only]
                                  [--seeds N] [--keep] [--show] [--check]

Each run has a process of its own and an empty cache of compiled code. `seconds` are those of the first call, compiling
included; `warm` those of a second call, for which all is compiled; neither contains the 10,000 draws, whose seconds are
apart. Accurate is what has every mean within 0.1 sd of the reference's and every sd within 10 %. Rows go to
`results/accuracy.json` one by one (`--keep` measures only what is missing there), tables to the terminal, a picture to
`results/accuracy.png`. FOLDER holds posteriordb's data (or PPL_MODELS_POSTERIORDB names it). `pip install -c
constraints.txt -e '.[dev,peers]'` installs the peers; what is missing is said. `--check` compares the NumPyro models'
log densities with ours, and measures nothing.
"""

import argparse
import shlex
import sys
from pathlib import Path

from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import posteriordb
from benchmarks.accuracy_parts import agreement, entrants, figure, measuring, tables
from benchmarks.tuning import without_places
from benchmarks.tuning_parts.settings import Settings
from benchmarks.tuning_parts.store import FOLDER


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    labels = [entrant.label for entrant in (*entrants.ours(), *entrants.peers())]
    parser.add_argument("--folder", type=Path, help="posteriordb's data and reference draws")
    parser.add_argument("--problem", nargs="+", choices=posteriordb.names(), metavar="NAME", help="all if not given")
    parser.add_argument(
        "--method", "--guide", nargs="+", choices=labels, metavar="LABEL", help=f"of {', '.join(labels)}; all otherwise"
    )
    parser.add_argument("--peers", choices=("with", "without", "only"), default="with", help="with ours, or not")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each; 1 if not given")
    parser.add_argument("--keep", action="store_true", help="measure only what is not in the file of results")
    parser.add_argument("--show", action="store_true", help="measure nothing; tables and picture of what is there")
    parser.add_argument("--check", action="store_true", help="compare the NumPyro models with ours; measure nothing")
    parser.add_argument("--output", type=Path, default=FOLDER / "accuracy.json")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    console = Console(width=None if sys.stdout.isatty() else 220)
    settings = Settings(
        folder=posteriordb.find_folder(options.folder),
        seeds={"": options.seeds},
        problems=tuple(options.problem or ()),
        guides=tuple(options.method or ()),
        output=options.output,
        command=shlex.join(["python", "benchmarks/accuracy.py", *without_places(sys.argv[1:])]),
        keep=options.keep,
    )
    if options.check:
        console.print(agreement.check(settings))
        return
    sides = {"with": (entrants.OURS, entrants.PEERS), "without": (entrants.OURS,), "only": (entrants.PEERS,)}
    if not options.show:
        measuring.run(settings, sides[options.peers], options.seeds)
    rows = measuring.all_rows(settings.store)
    for table in tables.of_rows(rows):
        console.print(table)
    figure.draw(rows, options.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
