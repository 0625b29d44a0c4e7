"""The parts of the benchmark, each a loop over what is measured."""

from collections.abc import Callable
from functools import partial

from benchmarks.tuning_parts import cost, ramps, scale, stopping
from benchmarks.tuning_parts.best_elbos import FAMILIES, target_of
from benchmarks.tuning_parts.default_fits import against_best, against_reference, default_fit
from benchmarks.tuning_parts.gaussian import DENSE
from benchmarks.tuning_parts.settings import Settings


def best(settings: Settings) -> None:
    """Each family's best ELBO."""
    for problem in settings.posteriors():
        target = target_of(problem)
        for family in settings.guide_names(FAMILIES):
            entry = settings.best.find(problem, target, family)
            settings.say(f"best {problem.name} {family}: {entry['elbo']:.3f}, spread {entry.get('spread', 0.0):.5f}")


def default(settings: Settings) -> None:
    """(a) and (b), from the same fits."""
    store = settings.store
    for problem in settings.posteriors():
        target = target_of(problem)
        for family in settings.guide_names(FAMILIES):
            for seed in range(1, 1 + settings.seeds["a"]):
                key = {"problem": problem.name, "guide": family, "seed": seed}
                wanted = ("a", "b") if family == DENSE else ("a",)
                if all(store.kept(part, key) for part in wanted):
                    continue
                fit, taken = default_fit(problem, family, seed)
                row = partial(against_best, problem, target, family, fit, taken, settings.best)
                store.measure("a", key, row, settings.say)
                if family == DENSE:
                    row = partial(against_reference, problem, target, fit, settings.best)
                    store.measure("b", key, row, settings.say)


def other_units(settings: Settings) -> None:
    """(c)."""
    for name in settings.names(scale.REGRESSIONS):
        for family in settings.guide_names(FAMILIES):
            for seed in range(1, 1 + settings.seeds["c"]):
                key = {"problem": name, "guide": family, "seed": seed}
                missing = [v for v in scale.VARIANTS if not settings.store.kept("c", {**key, "variant": v})]
                if not missing:
                    continue
                first = scale.regression(name, settings.folder, family, seed)
                for variant in missing:
                    settings.store.measure(
                        "c", {**key, "variant": variant}, partial(scale.in_other_units, first, variant), settings.say
                    )


def stops(settings: Settings) -> None:
    """(d)."""
    for seed in range(1, 1 + settings.seeds["d"]):
        for name in settings.names(tuple(ramps.RAMPS)):
            key = {"kind": "ramp", "problem": name, "guide": "handwritten", "seed": seed}
            settings.store.measure("d", key, partial(ramps.climb, name, seed), settings.say)
        for case in stopping.cases(settings.names, settings.folder):
            if case.guide in settings.guide_names((*FAMILIES, "handwritten")):
                key = {"kind": "longer", "problem": case.problem, "guide": case.guide, "seed": seed}
                settings.store.measure("d", key, partial(stopping.against_longer, case, seed), settings.say)


def seconds(settings: Settings) -> None:
    """(e)."""
    for name, guide in cost.CASES:
        if settings.names((name,)) and settings.guide_names((guide,)):
            row = partial(cost.against_tuned, name, guide, settings.folder, settings.seeds["e"], settings.best)
            settings.store.measure("e", {"problem": name, "guide": guide}, row, settings.say)


PARTS: dict[str, Callable[[Settings], None]] = {
    "best": best,
    "a": default,
    "b": default,
    "c": other_units,
    "d": stops,
    "e": seconds,
}
