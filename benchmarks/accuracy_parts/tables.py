"""What the terminal shows: a line for each method, a line for each run, and seconds beside both NUTS."""

import math
from collections.abc import Sequence

from rich.table import Column, Table

from benchmarks.accuracy_parts.entrants import AUTO, AUTO_WITHOUT_MCMC, NUMPYRO_NUTS, PYRO_NUTS
from benchmarks.accuracy_parts.measuring import labels_of
from benchmarks.accuracy_parts.summary import by_problem, line, middle, ratio, time_to_accuracy, total
from benchmarks.tuning_parts.rules import Row

LONGEST_NOTE = 60
OK, MISSED = "ok", "[bold]MISS[/bold]"
TARGETS = {AUTO_WITHOUT_MCMC: "80 % of single-mode problems, 95 % of claims", AUTO: "all, or an honest refusal"}


def of_rows(rows: Sequence[Row]) -> list[Table]:
    """All tables for which there are rows."""
    if not rows:
        return []
    found = [runs(rows), methods(rows)]
    return [*found, *(seconds(rows, label) for label in (AUTO_WITHOUT_MCMC, AUTO) if _has(rows, label))]


def methods(rows: Sequence[Row]) -> Table:
    table = Table(
        Column("method", no_wrap=True), "runs", "accurate, single mode", "accurate, all", "claims", "of them accurate",
        "first call (s)", "compiled (s)", "evaluations", "worst mean (sd)", "worst |log sd ratio|", "worst W1 (sd)",
        "wanted",
        title="methods: every mean within 0.1 sd and every sd within 10 % of the reference; medians over problems",
    )  # fmt: skip
    for label in labels_of(rows):
        found = line(label, [row for row in rows if row["guide"] == label])
        table.add_row(
            label,
            str(found.runs),
            percent(found.single),
            percent(found.every),
            "" if found.claims is None else str(found.claims),
            "" if found.claims is None else percent(found.claims_met),
            number(found.seconds, 1),
            number(found.warm, 1),
            "" if found.evaluations is None else f"{found.evaluations:,.0f}",
            number(found.mean_error, 3),
            number(found.log_sd_ratio, 3),
            number(found.wasserstein, 3),
            TARGETS.get(label, ""),
        )
    return table


def runs(rows: Sequence[Row]) -> Table:
    table = Table(
        Column("problem", no_wrap=True), Column("method", no_wrap=True), "mean (sd)", "|log sd ratio|", "W1 (sd)",
        "k-hat", "evaluations", "first call (s)", "compiled (s)", "draws (s)", "status", "",
        title="runs: the largest errors over a problem's parameters",
    )  # fmt: skip
    order = list(labels_of(rows))
    for row in sorted(rows, key=lambda row: (row["problem"], order.index(row["guide"]), row["seed"])):
        table.add_row(
            row["problem"],
            row["guide"],
            f"{number(row.get('mean_error'), 3)} {row.get('mean_worst', '')}",
            f"{number(row.get('log_sd_ratio'), 3)} {row.get('sd_worst', '')}",
            number(row.get("wasserstein"), 3),
            number(row.get("khat"), 2),
            f"{row['evaluations']:,}" if row.get("evaluations") is not None else "",
            number(row.get("seconds"), 1),
            number(row.get("seconds_warm"), 1),
            number(row.get("sample_seconds"), 1),
            _status(row),
            OK if row["accurate"] else MISSED,
        )
    return table


def seconds(rows: Sequence[Row], label: str) -> Table:
    """Seconds to an accurate result beside NumPyro's and Pyro's NUTS; inf is a result that is not accurate."""
    ours, numpyro, pyro = (by_problem(rows, name, _typical) for name in (label, NUMPYRO_NUTS, PYRO_NUTS))
    kinds, cells, ratios = ("seconds", "seconds_warm"), [], []
    for problem, row in ours.items():
        times = [time_to_accuracy(row, kind) for kind in kinds]
        theirs = [total(numpyro.get(problem), kind) for kind in kinds]
        of_pyro = total(pyro.get(problem), "seconds")
        beside_numpyro = [ratio(*pair) for pair in zip(times, theirs, strict=True)]
        beside_pyro = [ratio(time, of_pyro) for time in times]
        ratios.append((*beside_numpyro, *beside_pyro))
        known = [None if math.isinf(value) else value for value in (*theirs, of_pyro)]
        numbers = [number(value, 1) for value in (*times, *known[:2])]
        cells.append([problem, *numbers, *_shown(beside_numpyro), number(known[2], 0), *_shown(beside_pyro)])
    medians = [number(middle(column), 3) or "?" for column in zip(*ratios, strict=True)]
    table = Table(
        "problem", "first call (s)", "compiled (s)", "NumPyro first (s)", "NumPyro compiled (s)", "ratio, first",
        "ratio, compiled", "Pyro (s)", "ratio, first", "ratio, compiled",
        title=f"{label}: seconds to an accurate result, draws included, beside NUTS of 4 x (1,000 + 1,000); "
        f"median ratio to NumPyro {medians[0]} (compiled {medians[1]}), wanted 1; "
        f"to Pyro {medians[2]} (compiled {medians[3]}), wanted 0.02",
    )  # fmt: skip
    for row in cells:
        table.add_row(*row)
    return table


def _shown(values: Sequence[float | None]) -> list[str]:
    return [number(value, 3) for value in values]


def _typical(rows: Sequence[Row]) -> Row:
    """The run of median time to accuracy, the slower of two."""
    return sorted(rows, key=lambda row: time_to_accuracy(row, "seconds"))[len(rows) // 2]


def _status(row: Row) -> str:
    words = [row["status"]]
    if row["status"] in ("failed", "refused"):
        words.append(row["note"][:LONGEST_NOTE])
    if row.get("claims") is not None:
        words.append("claims a pass" if row["claims"] else "claims no pass")
    if row["multimodal"]:
        words.append("several modes")
    return ", ".join(words)


def _has(rows: Sequence[Row], label: str) -> bool:
    return any(row["guide"] == label for row in rows)


def percent(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.0%}"


def number(value: float | None, digits: int) -> str:
    """A number; empty where there is none."""
    return "" if value is None or math.isnan(value) else f"{value:,.{digits}f}"
