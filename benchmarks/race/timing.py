"""Blocks of steps that last about as long as they should, and the memory of this process."""

import time
from collections.abc import Callable

Run = Callable[[int], tuple[float, int]]
"""Makes at most that many steps; returns the seconds that they took and how many were made."""

PATIENCE = 20.0
LEAST_STEPS, MOST_STEPS = 5, 50_000
MOST_TRIALS, GROWTH = 3, 40


class TooSlowError(Exception):
    """The shortest block would take longer than anybody wants to wait."""


def block_of_steps(run: Run, target: float) -> Callable[[int], dict[str, float]]:
    """Try a few steps (which compiles what is to be compiled), then choose how many make a block.

    Args:
        run: makes the steps.
        target: seconds that the steps of one block should take.

    Returns:
        A block: given a seed, which steps do not need, it times its steps and returns seconds a step (`step`), the
        steps made, and CPU seconds per second of the whole call (`cores`).

    Raises:
        TooSlowError: the shortest block would need more than `PATIENCE` seconds.
    """
    count, (seconds, made) = LEAST_STEPS, run(LEAST_STEPS)
    if seconds / made * LEAST_STEPS > PATIENCE:
        raise TooSlowError(f"a step takes {seconds / made:.1f} s")
    # The first steps are slower than the others, and a run of few steps is mostly what it costs to begin and to end.
    for _ in range(MOST_TRIALS):
        wanted = int(min(max(made * target / seconds, LEAST_STEPS), GROWTH * count, MOST_STEPS))
        if wanted <= 2 * count:
            break
        count = wanted
        seconds, made = run(count)
    count = int(min(max(made * target / seconds, LEAST_STEPS), MOST_STEPS))

    def block(seed: int) -> dict[str, float]:
        wall, cpu = time.perf_counter(), time.process_time()
        seconds, made = run(count)
        cores = (time.process_time() - cpu) / (time.perf_counter() - wall)
        return {"step": seconds / made, "steps": made, "cores": cores}

    return block


def memory() -> dict[str, float]:
    """Resident memory of this process now and at its peak, MiB; empty where the system does not tell (not Linux).

    The peak is that of this program alone: `ru_maxrss` would start from the parent's.
    """
    try:
        with open("/proc/self/status", encoding="utf8") as status:
            fields = dict(line.split(":", 1) for line in status)
    except OSError:
        return {}
    return {"now": int(fields["VmRSS"].split()[0]) / 1024, "peak": int(fields["VmHWM"].split()[0]) / 1024}
