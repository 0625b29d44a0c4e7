"""Time of one SVI step, Pyro's own beside the compiled one, same model, guide and number of particles, interleaved.

    python benchmarks/steps.py [--problem NAME ...] [--guide NAME ...] [--particles N ...]

Each figure is the median of `--blocks` blocks, with the range over them; compiling is timed apart.
"""

import argparse
import json
import statistics
import time
import warnings
from pathlib import Path

from rich.console import Console
from rich.table import Table

import guides as families
import ppl_models as ppl
from ppl_models.files import write_whole
from ppl_models.inference.steps import make_steps
from ppl_models.program import build_program
from ppl_models.versions import versions

STEPS = {"eager": 50, "inductor": 500}


def prepared(name: str, guide_name: str, backend: str, particles: int):
    """A program and its steps; the world that they run in is left open for the caller to close."""
    problem = ppl.load(name)
    program = build_program(problem.model, problem.data)
    world = program.isolated(seed=1, full_data=False, num_threads=1)
    world.__enter__()
    guide = problem.guides.get(guide_name) or families.make(guide_name, program.model)
    guide(*program.arguments.args, **program.arguments.kwargs)
    started = time.perf_counter()
    steps = make_steps(
        program, guide, backend=backend, step_size=1e-3, num_particles=particles, elbo=None, optimizer=None
    )
    steps.once()
    return world, steps, time.perf_counter() - started


def block(name: str, guide: str, backend: str, particles: int, blocks: int) -> tuple[list[float], float]:
    world, steps, seconds = prepared(name, guide, backend, particles)
    times = []
    try:
        for _ in range(blocks):
            started = time.perf_counter()
            for _ in range(STEPS[backend]):
                steps.once()
            times.append(1e6 * (time.perf_counter() - started) / STEPS[backend])
    finally:
        world.__exit__(None, None, None)
    return times, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problem", action="append", choices=ppl.names())
    parser.add_argument("--guide", action="append")
    parser.add_argument("--particles", action="append", type=int)
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "steps.json")
    options = parser.parse_args()
    warnings.simplefilter("error", ppl.PPLWarning)  # a silent fallback would time the wrong thing
    table = Table("problem", "guide", "particles", "Pyro (µs)", "compiled (µs)", "ratio", "compile (s)")
    rows = []
    for name in options.problem or ("eight_schools_noncentered", "lynx_ar2", "breast_cancer_logistic"):
        for guide in options.guide or ("normal", "full_rank"):
            for particles in options.particles or (1, 64):
                eager_before, _ = block(name, guide, "eager", particles, options.blocks)
                compiled, seconds = block(name, guide, "inductor", particles, options.blocks)
                eager_after, _ = block(name, guide, "eager", particles, options.blocks)
                eager = eager_before + eager_after
                a, b = statistics.median(eager), statistics.median(compiled)
                rows.append(
                    {
                        "problem": name,
                        "guide": guide,
                        "particles": particles,
                        "eager_us": eager,
                        "inductor_us": compiled,
                        "compile_seconds": seconds,
                    }
                )
                table.add_row(
                    name,
                    guide,
                    str(particles),
                    f"{a:,.0f} ({min(eager):,.0f}-{max(eager):,.0f})",
                    f"{b:,.0f} ({min(compiled):,.0f}-{max(compiled):,.0f})",
                    f"{a / b:.0f}",
                    f"{seconds:.1f}",
                )
    Console(width=140).print(table)
    document = {"command": "python benchmarks/steps.py", "versions": versions(), "rows": rows}
    write_whole(options.output, lambda path: path.write_text(json.dumps(document, indent=1) + "\n"))


if __name__ == "__main__":
    main()
