"""Speed beside the peers: Pyro, NumPyro, PyMC with nutpie and a torch loop, each in a process of its own, taking turns.

    python benchmarks/speed.py [--part a ...] [--rounds N] [--quick] [--backend native ...] [--check]

(a) SVI steps, (b) autoencoder, (c) NUTS, (d) time to the first step, (e) growth, (f) memory. Medians and ranges of the
rounds go to the terminal, to `results/speed.json` (parts that were not run keep what they had) and `results/speed.png`.
`pip install -c constraints.txt -e '.[dev,peers]'` installs the peers; what is missing is said in the table. About 25
minutes on two idle cores, five with `--quick`.
"""

import argparse
import json
import shlex
import sys
import time
from pathlib import Path

from race import agreement, figure, tables
from race.limits import judge
from race.parts import autoencoder_steps, first_step, growth, memory, nuts, svi_steps
from race.results import circumstances, merged
from race.settings import Settings
from rich.console import Console

from ppl_models.files import write_whole

PARTS = {"a": svi_steps, "b": autoencoder_steps, "c": nuts, "d": first_step, "e": growth, "f": memory}
ONE_FIGURE = ("a", "b", "e")
FOLDER = Path(__file__).parent / "results"


def main() -> None:
    options = arguments()
    console = Console(width=None if sys.stdout.isatty() else 200)
    if options.check:
        console.print(agreement.check())
        return
    parts, verdicts = {}, []
    with console.status("") as status:
        settings = Settings(
            rounds=options.rounds or (1 if options.quick else 5),
            quick=options.quick,
            backends=tuple(options.backend or ("native", "inductor")),
            target=0.05 if options.quick else 0.4,
            say=status.update,
        )
        for name in sorted(options.part or PARTS):
            command = shlex.join(["python", "benchmarks/speed.py", *sys.argv[1:]])
            started, where = time.perf_counter(), circumstances(command, settings.rounds)
            rows = PARTS[name].run(settings)
            limits = judge(name, rows)
            parts[name] = {**where, "rows": rows, "limits": limits}
            verdicts += [{"part": name, **limit} for limit in limits]
            show(console, name, rows, time.perf_counter() - started)
            document = merged(options.output, parts)
            text = json.dumps(document, indent=1) + "\n"
            write_whole(options.output, lambda path, text=text: path.write_text(text))
    if verdicts:
        console.print(tables.verdicts(verdicts))
    if options.quick:
        console.print("  one short round of small sizes: these figures show that it works, and no more", style="dim")
    write_whole(options.output.with_suffix(".png"), lambda path: figure.draw(document, path))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=PARTS, help="which parts; all if not given")
    parser.add_argument("--rounds", type=int, help="blocks of each entrant, 5 if not given")
    parser.add_argument("--quick", action="store_true", help="one round, small sizes: to see that it works")
    parser.add_argument("--backend", nargs="+", help="backends of this library, the one to be judged first")
    parser.add_argument("--check", action="store_true", help="only compare the peers' log densities")
    parser.add_argument("--output", type=Path, help="results/speed.json, or out/speed.json with --quick, if not given")
    options = parser.parse_args()
    options.output = options.output or (Path("out") if options.quick else FOLDER) / "speed.json"
    return options


def show(console: Console, name: str, rows: list, seconds: float) -> None:
    part = PARTS[name]
    title = f"({name}) {part.TITLE}"
    console.print(tables.by_work(title, rows, "step") if name in ONE_FIGURE else tables.by_peer(title, rows))
    for note in (*tables.remarks(rows), *getattr(part, "FOOTNOTES", ())):
        console.print(f"  {note}", style="dim", highlight=False)
    console.print(f"  measured in {seconds:.0f} s", style="dim")


if __name__ == "__main__":
    main()
