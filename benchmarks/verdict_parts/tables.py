"""Tables of the rows: confusion, rates by half, fault and guide, single checks, costs, and what went wrong."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from rich.table import Column, Table

from benchmarks.verdict_parts import halves, of_checks
from benchmarks.verdict_parts.families import NONE
from benchmarks.verdict_parts.plants import DROPPED
from benchmarks.verdict_parts.rates import ALONE, BESIDE, SIDES, VERDICTS, Rate, confusion, counted, false_rates, judged
from benchmarks.verdict_parts.store import Row
from benchmarks.verdict_parts.truth import BAD, CLASSES, GOOD

TARGETS = {
    (ALONE, "trusted and bad among all"): 0.02,
    (ALONE, "rejected among good"): 0.1,
    (BESIDE, "trusted and bad among all"): 0.0,
    (BESIDE, "rejected among good"): 0.1,
}
"""Figures to reach."""


def of_rows(rows: Sequence[Row]) -> Iterator[Table]:
    """All tables of what is there."""
    found = counted(rows)
    if found:
        for side in SIDES:
            yield confusions(found, side)
        yield rates(found)
        yield by(found, "fault", "faults")
        yield by(found, "guide", "guides")
        for half in halves.HALVES:
            if of_half := [row for row in found if halves.half_of(row["problem"]) == half]:
                yield single_checks(of_half, half)
        yield costs(found)
        yield wrong(found)
    if dropped := [row for row in judged(rows) if row["fault"] == DROPPED]:
        yield apart(dropped)
    if failed := [row for row in rows if "failed" in row]:
        yield failures(failed)
    yield split(rows)


def confusions(rows: Sequence[Row], side: str) -> Table:
    table = Table("class", *VERDICTS, "cases", title=f"verdicts {SIDES[side]}")
    for name, counts in zip(CLASSES, confusion(rows, side), strict=True):
        table.add_row(name, *map(str, counts), str(counts.sum()))
    return table


def rates(rows: Sequence[Row]) -> Table:
    table = Table(
        Column("rate", no_wrap=True), "half", "verdict", "share", "cases", "95 % (binomial)", "95 % (clusters)",
        "wanted",
        title="how often verdicts are wrong, dropped correlations apart",
    )  # fmt: skip
    for side, said in SIDES.items():
        for half in ("all", *halves.HALVES):
            chosen = [row for row in rows if half in ("all", halves.half_of(row["problem"]))]
            for name, found in false_rates(chosen, side).items():
                wanted = TARGETS.get((side, name))
                table.add_row(
                    name,
                    half,
                    said,
                    *_shown(found),
                    "" if wanted is None else f"at most {wanted:.0%}".replace("%", " %"),
                )
    return table


def _shown(found: Rate) -> tuple[str, str, str, str]:
    return (
        percent(found.share),
        f"{found.hits}/{found.total}",
        f"{percent(found.low)} to {percent(found.high)}" if found.total else "",
        "" if math.isnan(found.cluster_low) else f"{percent(found.cluster_low)} to {percent(found.cluster_high)}",
    )


def by(rows: Sequence[Row], key: str, title: str) -> Table:
    """The verdicts by fault or by guide."""
    table = Table(
        Column(key, no_wrap=True), "cases", "good", "bad", "trusted bad", "95 %", "rejected good", "95 %",
        "trusted bad, baseline", "rejected good, baseline",
        title=f"{title}: shares of the bad that are trusted, and of the good that are rejected",
    )  # fmt: skip
    for value in dict.fromkeys(sorted((row[key] for row in rows), key=lambda value: (value != NONE, value))):
        of = [row for row in rows if row[key] == value]
        cells = [value, str(len(of)), *(str(sum(row["class"] == name for row in of)) for name in (GOOD, BAD))]
        for side in SIDES:
            found = false_rates(of, side)
            for name in ("trusted among bad", "rejected among good"):
                cells.append(_of(found[name]))
                cells += [_shown(found[name])[2]] if side == ALONE else []
        table.add_row(*cells)
    return table


def _of(found: Rate) -> str:
    return f"{percent(found.share)} ({found.hits}/{found.total})" if found.total else ""


def single_checks(rows: Sequence[Row], half: str) -> Table:
    table = Table(
        Column("check", no_wrap=True), "measured", "fails bad", "fails good", "sorts", "limit that spares 90 % of good",
        "bad beyond it", "seconds",
        title=f"single checks without a baseline, {half} half",
    )  # fmt: skip
    for line in of_checks.lines(rows):
        shares = map(percent, (line.measured, line.fails_bad, line.fails_good))
        sorts = [number(line.sorts, 2), number(line.would_spare, 4)]
        table.add_row(line.name, *shares, *sorts, percent(line.would_catch), number(line.seconds, 3))
    return table


def costs(rows: Sequence[Row]) -> Table:
    """Seconds of the checks beside those of the fit: of fits without a fault, medians of the medians of problems."""
    table = Table("guide", "problems", "fit (s)", "check (s)", "check / fit", "with a baseline / fit", title="costs")
    whole = [row for row in rows if row["fault"] == NONE]
    for guide in ("all", *dict.fromkeys(row["guide"] for row in whole)):
        of = [row for row in whole if guide in ("all", row["guide"])]
        problems = sorted({row["problem"] for row in of})
        cells = []
        for key in ("fit_seconds", "check_seconds", "ratio", "baseline_ratio"):
            cells.append(float(np.median([np.median(_costs(of, name, key)) for name in problems])))
        table.add_row(guide, str(len(problems)), *(number(value, 2) for value in cells))
    return table


def _costs(rows: Sequence[Row], problem: str, key: str) -> list[float]:
    of = [row for row in rows if row["problem"] == problem]
    if key in ("fit_seconds", "check_seconds"):
        return [row[key] for row in of]
    seconds = "check_seconds" if key == "ratio" else "baseline_seconds"
    return [row[seconds] / max(row["fit_seconds"], 1e-3) for row in of]


def wrong(rows: Sequence[Row]) -> Table:
    table = Table(
        Column("problem", no_wrap=True), "guide", "fault", "seed", "class", "verdict", "with a baseline",
        "worst mean (sd)", "worst log sd ratio", "k-hat", "checks that failed",
        title="cases that are bad and trusted, or good and rejected",
    )  # fmt: skip
    for row in rows:
        verdicts = (row[ALONE], row[BESIDE])
        if (row["class"] == BAD and "trust" in verdicts) or (row["class"] == GOOD and "reject" in verdicts):
            said = [f"{number(row['mean_error'], 3)} {row['mean_worst']}"]
            said += [f"{number(row['log_sd_ratio'], 3)} {row['sd_worst']}"]
            failed = [name for name, check in row["checks"].items() if check[of_checks.PASSED] is False]
            cells = (row["problem"], row["guide"], row["fault"], str(row["seed"]), row["class"], *verdicts)
            table.add_row(*cells, *said, number(row["khat"], 2), ", ".join(failed))
    return table


def apart(rows: Sequence[Row]) -> Table:
    """Dropped correlations: where means and sds are right a rejection is not wrong, and trust is not right."""
    table = Table("class", *VERDICTS, *(f"{name}, baseline" for name in VERDICTS), title="dropped correlations, apart")
    for name, alone, beside in zip(CLASSES, confusion(rows, ALONE), confusion(rows, BESIDE), strict=True):
        table.add_row(name, *map(str, alone), *map(str, beside))
    return table


def failures(rows: Sequence[Row]) -> Table:
    table = Table(Column("problem", no_wrap=True), "guide", "fault", "seed", "why", title="cases that failed")
    for row in rows:
        table.add_row(row["problem"], row["guide"], row["fault"], str(row["seed"]), row["failed"])
    return table


def split(rows: Sequence[Row]) -> Table:
    table = Table("half", "problems", title="the two halves: limits are set on the first, and reported on the second")
    for half, names in halves.described(row["problem"] for row in rows).items():
        table.add_row(half, ", ".join(names))
    return table


def percent(value: float) -> str:
    return "" if math.isnan(value) else f"{100.0 * value:.1f} %"


def number(value: float | None, digits: int) -> str:
    """A number; empty where there is none."""
    return "" if value is None or math.isnan(value) else f"{value:,.{digits}f}"
