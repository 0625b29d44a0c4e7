"""How well fits tune themselves: without options, beside posteriordb's references, longer runs and runs tuned by hand.

    python benchmarks/tuning.py --folder FOLDER [--part best a b c d e] [--seeds N] [--problem NAME ...] [--keep]

(best) each family's best ELBO, found without the library's optimisation; (a) default fits less that; (b) their draws
against the reference; (c) data in other units; (d) runs ten times as long, and slow ramps; (e) seconds against runs
tuned by hand. Rows go to `results/tuning.json` one by one (`--keep` measures only what is missing there), tables to the
terminal, and a picture to `results/tuning.png`. FOLDER holds posteriordb's data (or PPL_MODELS_POSTERIORDB names it).
"""

import argparse
import shlex
import sys
from pathlib import Path

from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import posteriordb
from benchmarks.tuning_parts import figure, parts, tables
from benchmarks.tuning_parts.settings import Settings
from benchmarks.tuning_parts.store import FOLDER

DEFAULT_SEEDS = {"a": 3, "b": 3, "c": 1, "d": 10, "e": 5}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="posteriordb's data and reference draws")
    parser.add_argument("--part", nargs="+", choices=list(parts.PARTS), help="all if not given")
    parser.add_argument("--seeds", type=int, help=f"seeds (or rounds, in e) of each part; {DEFAULT_SEEDS} if not given")
    parser.add_argument("--problem", nargs="+", help="names of posteriordb or of the catalogue; all if not given")
    parser.add_argument("--guide", nargs="+", help="all if not given")
    parser.add_argument("--keep", action="store_true", help="measure only what is not in the file of results")
    parser.add_argument("--show", action="store_true", help="measure nothing; tables and picture of what is there")
    parser.add_argument("--output", type=Path, default=FOLDER / "tuning.json")
    return parser.parse_args()


def without_places(words: list[str]) -> list[str]:
    """The command line without the folders of one machine."""
    places = ("--folder", "--output")
    kept = [word for word, before in zip(words, ["", *words], strict=False) if before not in places]
    return [word for word in kept if not word.startswith(places)]


def main() -> None:
    options = arguments()
    console = Console(width=None if sys.stdout.isatty() else 170)
    settings = Settings(
        folder=posteriordb.find_folder(options.folder),
        seeds={**DEFAULT_SEEDS, **({} if options.seeds is None else dict.fromkeys(DEFAULT_SEEDS, options.seeds))},
        problems=tuple(options.problem or ()),
        guides=tuple(options.guide or ()),
        output=options.output,
        command=shlex.join(["python", "benchmarks/tuning.py", *without_places(sys.argv[1:])]),
        keep=options.keep,
    )
    chosen = [part for part in parts.PARTS if part in (options.part or parts.PARTS)]
    if not options.show:
        for run in dict.fromkeys(parts.PARTS[part] for part in chosen):
            run(settings)
    for part in chosen:
        for table in tables.of_part(part, settings.store, settings.best):
            console.print(table)
    figure.draw(settings.store.parts, options.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
