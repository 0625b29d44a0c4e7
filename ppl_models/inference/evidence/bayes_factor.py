"""How much better one model explains the data than another: the ratio of their evidences, with its error."""

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import expit
from scipy.stats import t as student

from ppl_models.checks import Check, all_passed
from ppl_models.errors import DataError, OptionError
from ppl_models.inference.evidence.result import CONFIDENCE, Evidence
from ppl_models.versions import versions

SAME_DATA = "See that both evidences are of the same data"


@dataclass(frozen=True, repr=False)
class BayesFactor:
    """The evidence of a first model over that of another, of the same data.

    Attributes:
        log_bayes_factor: log p(data | first) - log p(data | other), nats.
        standard_error: of it, nats; NaN where that of an evidence is unknown.
        interval: ends of its confidence interval, nats.
        probability: of the first model where both were equally probable before the data.
        checks: those of both evidences, "first: ..." and "other: ...".
        config: confidence, versions, and what made the evidences.
    """

    log_bayes_factor: float
    standard_error: float
    interval: tuple[float, float]
    probability: float
    checks: tuple[Check, ...]
    config: Mapping[str, Any]

    @property
    def passed(self) -> bool:
        """Whether every check of both evidences did; where not, `advice` says what to do."""
        return all_passed(self.checks)

    @property
    def advice(self) -> str:
        """What to do about the checks that did not pass, each once; empty where all did."""
        failed = (check for check in self.checks if check.passed is not True and check.advice)
        return "; ".join(dict.fromkeys(check.advice.rstrip(".") for check in failed))

    def __repr__(self) -> str:
        low, high = self.interval
        error = "unknown" if math.isnan(self.standard_error) else f"{self.standard_error:.2g}"
        line = (
            f"Log Bayes factor {self.log_bayes_factor:.4f} ± {error} nats, {100 * self.config['confidence']:.3g} % "
            f"interval {low:.4f} to {high:.4f}; probability of the first model {self.probability:.4g} at equal odds"
        )
        failed = ", ".join(check.name for check in self.checks if check.passed is not True)
        return line if self.passed else f"{line}; checks NOT passed ({failed}): {self.advice}"

    def _repr_html_(self) -> str:
        return f"<div>{html.escape(repr(self))}</div>"


def bayes_factor(evidence: Evidence, other: Evidence, *, confidence: float = CONFIDENCE) -> BayesFactor:
    """Compare two models by their evidences of the same data, which `ppl.log_evidence` estimated.

    The errors count as independent: give the evidences different seeds if their draws are shared. Evidences by datum
    count by their totals. The interval is by Student's t, its degrees of freedom by Welch's formula.

    Args:
        evidence: of the first model.
        other: of the other model.
        confidence: of the interval, between 0 and 1.

    Raises:
        OptionError: no evidences, or `confidence` is out of its range.
        DataError: the evidences are of different numbers of data.

    Kass and Raftery (1995), Bayes factors, Journal of the American Statistical Association 90.
    """
    for name, one in (("evidence", evidence), ("other", other)):
        if not isinstance(one, Evidence):
            raise OptionError(f"{name}: found {type(one).__name__}, wanted the result of ppl.log_evidence.")
    if isinstance(confidence, bool) or not isinstance(confidence, (int, float)) or not 0.0 < confidence < 1.0:
        raise OptionError(f"confidence: found {confidence!r}, wanted a number between 0 and 1, like 0.95.")
    _check_sizes(evidence, other)
    with np.errstate(invalid="ignore"):
        found = float(np.subtract(evidence.total, other.total))
    error = math.hypot(evidence.total_error, other.total_error)
    reach = float(student.ppf(0.5 + 0.5 * confidence, _degrees(evidence, other))) * error if error else 0.0
    return BayesFactor(
        log_bayes_factor=found,
        standard_error=error,
        interval=(found - reach, found + reach),
        probability=float(expit(found)),
        checks=(*_named("first", evidence), *_named("other", other), *_check_numbers(evidence, other)),
        config={
            "confidence": confidence,
            "first": dict(evidence.config),
            "other": dict(other.config),
            "versions": versions(),
        },
    )


def _degrees(evidence: Evidence, other: Evidence) -> float:
    variances = [one.total_error**2 for one in (evidence, other)]
    each = [max(one.num_draws - 1, 1) for one in (evidence, other)]
    return sum(variances) ** 2 / sum(v**2 / degrees for v, degrees in zip(variances, each, strict=True))


def _named(whose: str, evidence: Evidence) -> tuple[Check, ...]:
    return tuple(replace(check, name=f"{whose}: {check.name}") for check in evidence.checks)


def _check_sizes(evidence: Evidence, other: Evidence) -> None:
    """Refuse other numbers of data, or of times of a series, where both evidences know theirs."""
    data = [one.log_evidence.size if one.by_datum else None for one in (evidence, other)]
    times = [one.config.get("num_times") for one in (evidence, other)]
    for what, (first, second) in (("data", data), ("times", times)):
        if first is not None and second is not None and first != second:
            raise DataError(f"other: an evidence of {second:,} {what}, wanted {first:,}, as the first. {SAME_DATA}.")


def _check_numbers(evidence: Evidence, other: Evidence) -> tuple[Check, ...]:
    """A failing check where the models observe other numbers of numbers: one may code the same data otherwise."""
    first, second = (one.config.get("num_observed") for one in (evidence, other))
    if first is None or second is None or first == second:
        return ()
    detail = f"the other model observes {second:,} numbers, the first {first:,}"
    return (Check("numbers observed", second, first, False, SAME_DATA, detail=detail),)
