"""Run several methods on one expectation, to see which is worth its cost."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ppl_models.errors import DataError, OptionError
from ppl_models.inference.monte_carlo.comparison import MethodComparison, MethodRuns
from ppl_models.inference.monte_carlo.method import Method
from ppl_models.inference.monte_carlo.registry import choose_method
from ppl_models.options import check_count
from ppl_models.seeds import check_seed, child_seed
from ppl_models.versions import versions
from ppl_models.workflow.expecting import as_source, expect

USUAL = ("plain", "antithetic", "control_variates", "stratified", "quasi")
NUM_DRAWS, NUM_REPEATS = 65_536, 50
FIRST_SIZE, GROWTH = 256, 4


@dataclass(frozen=True)
class _Case:
    f: Callable[[Any], Any]
    q: Any
    sizes: list[int]
    num_repeats: int
    seed: int


def compare_methods(
    f: Callable[[Any], Any],
    q: Any,
    *,
    methods: Sequence[str | Method] | Mapping[str, str | Method] | None = None,
    num_draws: int = NUM_DRAWS,
    exact: float | None = None,
    num_repeats: int = NUM_REPEATS,
    seed: int = 0,
) -> MethodComparison:
    """Compare methods on E_q[f]: their errors, variance times cost, and how errors fall with the number of draws.

    Each method is run `num_repeats` times, with seeds of its own, at 256 draws, at four times as many, and so on up to
    `num_draws`. The efficiency, variance times seconds against plain Monte Carlo, has a relative error of about
    2 / sqrt(num_repeats) from the variances, and what the machine's timing adds.

    Args:
        f: as `expect` takes it, of one output.
        q: as `expect` takes it.
        methods: names, methods with their options, or either by a label; None takes plain, antithetic,
            control_variates, stratified and quasi as far as q allows.
        num_draws: of the longest runs.
        exact: the value, where it is known; errors are measured from it.
        num_repeats: runs of each method at each size.
        seed: of all random numbers.

    Returns:
        The comparison; `print` shows the table, `report.figures.efficiency_figure` draws it.

    Raises:
        OptionError: an option is wrong, or no method can be used.
        UnknownNameError: a method is not known.
        DataError: f has several outputs, or what `expect` raises.
    """
    count = check_count("num_draws", num_draws, least=FIRST_SIZE)
    check_count("num_repeats", num_repeats, least=2)
    if exact is not None and not math.isfinite(exact):
        raise OptionError(f"exact: found {exact!r}, wanted a finite number, or None.")
    sizes = [FIRST_SIZE * GROWTH**power for power in range(1 + int(math.log(count / FIRST_SIZE, GROWTH)))]
    sizes = [size for size in sizes if size < 0.6 * count] + [count]
    case = _Case(f, q, sizes, num_repeats, check_seed(seed))
    runs, left_out = [], {}
    for label, method in _labelled(methods):
        choose_method(method, as_source(q), {})
        try:
            runs.append(_runs_of(label, method, case))
        except OptionError as error:
            left_out[label] = str(error)
    if not runs:
        raise OptionError(f"methods: none of them can be used: {'; '.join(left_out.values()) or 'none was named'}.")
    config = {"sizes": sizes, "num_repeats": num_repeats, "seed": seed, "versions": versions()}
    return MethodComparison(tuple(runs), None if exact is None else float(exact), config, left_out)


def _labelled(methods: Sequence[str | Method] | Mapping[str, str | Method] | None) -> list[tuple[str, str | Method]]:
    if isinstance(methods, Mapping):
        return list(methods.items())
    named = USUAL if methods is None else [methods] if isinstance(methods, str) else methods
    return [(method if isinstance(method, str) else method.name, method) for method in named]


def _runs_of(label: str, method: str | Method, case: _Case) -> MethodRuns:
    estimates, errors, seconds, draws = [], [], [], []
    trusted, why_not = 0, ""
    for size in case.sizes:
        found = [
            expect(case.f, case.q, size, method=method, seed=child_seed(case.seed, f"{label} {size} {repeat}"))
            for repeat in range(case.num_repeats)
        ]
        if np.ndim(found[0].estimate):
            raise DataError(
                f"f: {np.size(found[0].estimate)} outputs, wanted one. Compare methods on one output at a time."
            )
        estimates.append([float(each.estimate) for each in found])
        errors.append([float(each.standard_error) for each in found])
        seconds.append(float(np.median([each.seconds for each in found])))
        draws.append(found[0].num_draws)
        if size == case.sizes[-1]:
            trusted = sum(each.passed for each in found)
            why_not = next((each.warning for each in found if not each.passed), "")
    return MethodRuns(
        name=label,
        num_draws=np.array(draws, dtype=float),
        estimates=np.array(estimates),
        standard_errors=np.array(errors),
        seconds=np.array(seconds),
        trusted=trusted / case.num_repeats,
        why_not=why_not,
    )
