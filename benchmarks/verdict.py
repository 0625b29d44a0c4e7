"""How often is a verdict right? Problems with known truth x guides x planted faults, without and with a baseline.

    python benchmarks/verdict.py [--folder FOLDER] [--references FOLDER] [--problem NAME ...] [--guide LABEL ...]
                                 [--fault NAME ...] [--seeds N] [--workers N] [--keep] [--show] [--quick]

Problems: the catalogue's (truth: NUTS of 4 x 10,000 draws, kept in the folder of references), posteriordb's (its own
reference; FOLDER, or PPL_MODELS_POSTERIORDB, holds it; left out where neither is given) and closed forms. A case is bad
where some mean is off by more than 0.2 sd or some sd by more than 20 %, good where every mean is within 0.05 sd and
every sd within 5 %, by 20,000 draws of the guide (400,000 of closed forms). Rows go to `results/verdict.json` (`--keep`
judges only what is missing there), tables to the terminal, a picture to `results/verdict.png`. `--quick` takes few
problems, guides and faults, about two minutes, and leaves the results alone.
"""

import argparse
import shlex
import sys
import tempfile
from pathlib import Path

from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import posteriordb
from benchmarks.tuning import without_places
from benchmarks.tuning_parts.store import FOLDER
from benchmarks.verdict_parts import cases, figure, measuring, problems, tables
from benchmarks.verdict_parts.store import Store
from ppl_models.engine.cache import cache_directory
from ppl_models.errors import FileError

REFERENCES = "--references"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = problems.names(with_posteriordb=True)
    parser.add_argument("--folder", type=Path, help="posteriordb's data and reference draws")
    parser.add_argument(
        REFERENCES, type=Path, help="keeps NUTS runs of the catalogue; the library's cache if not given"
    )
    parser.add_argument("--problem", nargs="+", choices=every, metavar="NAME", help="all if not given")
    parser.add_argument("--guide", nargs="+", choices=cases.every_guide(), metavar="LABEL", help="all if not given")
    parser.add_argument("--fault", nargs="+", choices=cases.every_fault(), metavar="NAME", help="all if not given")
    parser.add_argument("--seeds", type=int, default=1, help="fits of each guide; 1 if not given")
    parser.add_argument(
        "--workers", type=int, default=2, help="processes at a time, of one thread each; 2 if not given"
    )
    parser.add_argument("--keep", action="store_true", help="judge only what is not in the file of results")
    parser.add_argument("--show", action="store_true", help="judge nothing; tables and picture of what is there")
    parser.add_argument("--quick", action="store_true", help="few cases, in about two minutes")
    parser.add_argument("--output", type=Path, help="results/verdict.json if not given")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    console = Console(width=None if sys.stdout.isatty() else 220)
    output = options.output or (
        Path(tempfile.gettempdir()) / "verdict_quick.json" if options.quick else FOLDER / "verdict.json"
    )
    command = shlex.join(["python", "benchmarks/verdict.py", *without_places(_shown(sys.argv[1:]))])
    store = Store(output, command, keep=options.keep or options.show)
    if not options.show:
        folder = _folder(options.folder)
        references = options.references or cache_directory() / "references"
        measuring.run(measuring.Plan(folder, references, store, _say, options.workers), _work(options, folder))
    for table in tables.of_rows(store.rows):
        console.print(table)
    figure.draw(store.rows, output.with_suffix(".png"))


def _shown(words: list[str]) -> list[str]:
    """The command line without the folder of references."""
    kept = [word for word, before in zip(words, ["", *words], strict=False) if before != REFERENCES]
    return [word for word in kept if not word.startswith(REFERENCES)]


def _work(options: argparse.Namespace, folder: Path | None) -> list[tuple[str, list[cases.Case]]]:
    every = problems.names(with_posteriordb=folder is not None)
    few = options.quick
    chosen = options.problem or (cases.QUICK_PROBLEMS if few else every)
    return list(
        cases.cases(
            [name for name in every if name in chosen],
            options.guide or (cases.QUICK_GUIDES if few else cases.every_guide()),
            options.fault or (cases.QUICK_FAULTS if few else cases.every_fault()),
            options.seeds,
        )
    )


def _folder(option: Path | None) -> Path | None:
    try:
        return posteriordb.find_folder(option)
    except FileError:
        if option is not None:
            raise
        _say(problems.NO_FOLDER)
        return None


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
