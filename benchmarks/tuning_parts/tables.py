"""What the terminal shows of each part."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.table import Table

from benchmarks.tuning_parts import rules
from benchmarks.tuning_parts.best_elbos import BestElbos
from benchmarks.tuning_parts.rules import Row
from benchmarks.tuning_parts.store import Store

OK, MISSED = "ok", "[bold]MISS[/bold]"


def of_part(part: str, store: Store, best: BestElbos) -> list[Table]:
    """The tables of a part, with the share that passed in their titles."""
    if part == "best":
        return [bests(best)]
    rows = store.rows(part)
    return MAKERS[part](rows) if rows else []


def bests(best: BestElbos) -> Table:
    table = Table("problem and family", "ELBO (nats)", "± se", "two searches differ by", "found by", title="(best)")
    for key, entry in best.entries.items():
        spread = f"{entry['spread']:.5f}" if "spread" in entry else ""
        table.add_row(key, f"{entry['elbo']:,.3f}", f"{entry['elbo_mcse']:.3f}", spread, entry["source"])
    return table


def defaults(rows: list[Row]) -> list[Table]:
    table = Table(
        "problem", "guide", "seeds", "worst deficit (nats)", "± se", "best ELBO", "steps", "status", "seconds", "",
        title=title("a", "default fits below their family's best", rows),
    )  # fmt: skip
    for (problem, guide), group in grouped(rows, "problem", "guide"):
        worst = max(group, key=lambda row: row["deficit"])
        table.add_row(
            problem,
            guide,
            str(len(group)),
            f"{worst['deficit']:.4f}",
            f"{worst['deficit_mcse']:.4f}",
            f"{worst['best']:,.2f}",
            spanned(row["steps"] for row in group),
            statuses(group),
            f"{median(group, 'seconds'):.1f}",
            mark(group),
        )
    return [table]


def references(rows: list[Row]) -> list[Table]:
    single = [row for row in rows if not row["multimodal"]]
    table = Table(
        "problem", "mean error (sd)", "of", "sd error", "of", "the family's best: mean", "sd", "", "",
        title=title("b", "full_rank draws of problems with one mode, against the reference", single),
    )  # fmt: skip
    for (problem,), group in grouped(rows, "problem"):
        mean = max(group, key=lambda row: row["mean_error"])
        sd = max(group, key=lambda row: row["sd_error"])
        table.add_row(
            problem,
            f"{mean['mean_error']:.3f}",
            mean["mean_worst"],
            f"{sd['sd_error']:.3f}",
            sd["sd_worst"],
            f"{group[0]['best_mean_error']:.3f}",
            f"{group[0]['best_sd_error']:.3f}",
            "several modes" if group[0]["multimodal"] else "",
            mark(group),
        )
    return [table]


def scales(rows: list[Row]) -> list[Table]:
    table = Table(
        "problem", "guide", "units", "deficit (nats)", "± se", "mean (sd)", "sd", "steps", "status", "",
        title=title("c", "data in other units, against the fit in the first ones", rows),
    )  # fmt: skip
    for row in rows:
        table.add_row(
            row["problem"],
            row["guide"],
            row["variant"],
            f"{row['deficit']:.4f}",
            f"{row['deficit_mcse']:.4f}",
            f"{row['mean_error']:.3f}",
            f"{row['sd_error']:.3f}",
            f"{row['steps']:,} ({row['first_steps']:,})",
            row["status"],
            mark([row]),
        )
    return [table]


def endings(rows: list[Row]) -> list[Table]:
    longer = [row for row in rows if row["kind"] == "longer"]
    slow = [row for row in rows if row["kind"] == "ramp"]
    nats = rules.share(longer, "passed_nats")
    first = Table(
        "problem", "guide", "seeds", "worst deficit (nats)", "± se", "median", "steps", "status", "",
        title=title("d", "fits that stopped, below runs ten times as long", longer) + f"; {nats:.1%} by nats alone",
    )  # fmt: skip
    for (problem, guide), group in grouped(longer, "problem", "guide"):
        worst = max(group, key=lambda row: row["deficit"])
        first.add_row(
            problem,
            guide,
            str(len(group)),
            f"{worst['deficit']:.4f}",
            f"{worst['deficit_mcse']:.4f}",
            f"{median(group, 'deficit'):.4f}",
            spanned(row["steps"] for row in group),
            statuses(group),
            mark(group),
        )
    second = Table(
        "target", "seeds", "worst deficit (nats)", "steps", "status", "seconds", "",
        title=title("d", "slow ramps: no end far from the optimum is called converged", slow),
    )  # fmt: skip
    for (name,), group in grouped(slow, "problem"):
        second.add_row(
            name,
            str(len(group)),
            f"{max(row['deficit'] for row in group):.4g}",
            spanned(row["steps"] for row in group),
            statuses(group),
            f"{median(group, 'seconds'):.1f}",
            mark(group),
        )
    return [table for table, some in ((first, longer), (second, slow)) if some]


def costs(rows: list[Row]) -> list[Table]:
    middles = [middle_of([row[name] for row in rows]) for name in ("ratio", "ratio_cooled")]
    table = Table(
        "problem", "guide", "latents", "automatic (s)", "fixed step size (s)", "ratio", "falling (s)", "ratio",
        "steps", "tuned to", "deficit", "",
        title="(e) whole calls, medians and ranges; median ratio {} to runs tuned by hand, {} where their step size "
        "falls; wanted at most {:g}".format(*middles, rules.TUNED_RATIO),
    )  # fmt: skip
    for row in rows:
        tunings = [text or "none near" for text in row["tuning"].values()]
        table.add_row(
            row["problem"],
            row["guide"],
            str(row["latents"]),
            spread(row["rounds"]["automatic"]),
            spread(row["rounds"]["fixed"]),
            middle_of([row["ratio"]]),
            spread(row["rounds"]["cooled"]),
            middle_of([row["ratio_cooled"]]),
            f"{row['steps']:,}",
            "; ".join(tunings),
            f"{row['deficit']:.4f}",
            mark([row]),
        )
    return [table]


def middle_of(values: Sequence[float | None]) -> str:
    """The median of what is known."""
    known = [value for value in values if value is not None]
    return f"{np.median(known):.2f}" if known else ""


MAKERS = {"a": defaults, "b": references, "c": scales, "d": endings, "e": costs}


def title(part: str, text: str, rows: Sequence[Row]) -> str:
    return f"({part}) {text}: {rules.share(rows):.1%} of {len(rows)} pass, wanted {rules.TARGETS[part]:.0%}"


def grouped(rows: Sequence[Row], *names: str) -> list[tuple[tuple[str, ...], list[Row]]]:
    """Rows that agree in some values, in the order in which they come."""
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in names), []).append(row)
    return list(found.items())


def median(rows: Sequence[Row], name: str) -> float:
    return float(np.median([row[name] for row in rows]))


def spanned(values: Any) -> str:
    low, *_, high = sorted([*values] * 2)
    return f"{low:,}" if low == high else f"{low:,}-{high:,}"


def spread(values: Sequence[float]) -> str:
    return f"{np.median(values):.2f} ({min(values):.2f}-{max(values):.2f})" if values else ""


def statuses(rows: Sequence[Row]) -> str:
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["status"]] = counts.get(row["status"], 0) + 1
    return ", ".join(name if len(counts) == 1 else f"{name} {count}" for name, count in counts.items())


def mark(rows: Sequence[Row]) -> str:
    passed = sum(bool(row["passed"]) for row in rows)
    return OK if passed == len(rows) else f"{MISSED} {len(rows) - passed} of {len(rows)}"
