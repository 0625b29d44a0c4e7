"""Bayes factors from evidences with known errors."""

import math

import numpy as np
import pytest
from scipy.stats import norm
from scipy.stats import t as student

from ppl_models.checks import Check
from ppl_models.errors import DataError, OptionError
from ppl_models.inference.evidence.bayes_factor import BayesFactor, bayes_factor
from ppl_models.inference.evidence.result import Evidence

GOOD = Check("k-hat", 0.2, 0.7, True, "")
BAD = Check("k-hat", 0.9, 0.7, False, "more draws")


def evidence(value, error, *checks, count=1_000_000, **config):
    value, error = np.asarray(value, dtype=float), np.asarray(error, dtype=float)
    ends = np.stack([value, value])
    return Evidence("ais", value, error, ends, None, None, count, checks or (GOOD,), {"seed": 0, **config})


def test_by_hand():
    found = bayes_factor(evidence(-3.0, 0.03), evidence(-5.0, 0.04))
    assert isinstance(found, BayesFactor)
    assert found.log_bayes_factor == pytest.approx(2.0)
    assert found.standard_error == pytest.approx(0.05)
    np.testing.assert_allclose(found.interval, 2.0 + np.array([-1, 1]) * norm.isf(0.025) * 0.05, rtol=1e-6)
    assert found.probability == pytest.approx(1.0 / (1.0 + math.exp(-2.0)))
    assert [check.name for check in found.checks] == ["first: k-hat", "other: k-hat"]
    assert found.passed
    assert repr(found) == (
        "Log Bayes factor 2.0000 ± 0.05 nats, 95 % interval 1.9020 to 2.0980; probability of the first model 0.8808 "
        "at equal odds"
    )
    assert "0.8808" in found._repr_html_()


def test_few_chains_widen_the_interval():
    found = bayes_factor(evidence(0.0, 0.1, count=8), evidence(0.0, 0.1, count=8), confidence=0.9)
    assert found.interval[1] == pytest.approx(student.ppf(0.95, 14) * math.sqrt(0.02))


def test_intervals_cover():
    """Means of 16 normals each with errors of their own; of 2,000 intervals the share has a standard error of 0.005."""
    rng = np.random.default_rng(1)
    first, other = 0.2 * rng.standard_normal((16, 2_000)), 0.05 * rng.standard_normal((16, 2_000))
    inside = 0
    for one, two in zip(first.T, other.T, strict=True):
        made = (evidence(draws.mean(), draws.std(ddof=1) / 4.0, count=16) for draws in (one, two))
        low, high = bayes_factor(*made).interval
        inside += low <= 0.0 <= high
    assert 0.93 < inside / 2_000 < 0.97


def test_evidences_by_datum_count_by_their_totals():
    by_datum = evidence([-1.0, -2.0], [0.3, 0.4])
    found = bayes_factor(by_datum, evidence(-4.0, 0.0))
    assert found.log_bayes_factor == pytest.approx(1.0)
    assert found.standard_error == pytest.approx(0.5)
    with pytest.raises(DataError, match="an evidence of 3 data, wanted 2"):
        bayes_factor(by_datum, evidence([-1.0] * 3, [0.1] * 3))


def test_other_data_are_seen():
    with pytest.raises(DataError, match="an evidence of 5 times, wanted 6"):
        bayes_factor(evidence(0.0, 0.1, num_times=6), evidence(0.0, 0.1, num_times=5))
    found = bayes_factor(evidence(0.0, 0.1, num_observed=6), evidence(0.0, 0.1, num_observed=5))
    assert not found.passed
    assert "same data" in found.advice
    assert bayes_factor(evidence(0.0, 0.1, num_observed=6), evidence(0.0, 0.1, num_observed=6)).passed


def test_bad_health_is_carried_and_said_once():
    found = bayes_factor(evidence(0.0, 0.1, BAD), evidence(0.0, 0.1, BAD))
    assert not found.passed
    assert found.advice == "more draws"
    assert "NOT passed (first: k-hat, other: k-hat): more draws" in repr(found)


def test_unknown_errors_and_lost_evidences():
    found = bayes_factor(evidence(0.0, math.nan), evidence(0.0, 0.1))
    assert math.isnan(found.standard_error)
    assert np.isnan(found.interval).all()
    assert "± unknown" in repr(found)
    lost = bayes_factor(evidence(-math.inf, math.nan, BAD), evidence(-math.inf, math.nan, BAD))
    assert math.isnan(lost.log_bayes_factor)
    assert math.isnan(lost.probability)
    assert bayes_factor(evidence(1.0, 0.0), evidence(0.0, 0.0)).interval == (1.0, 1.0)


def test_mistakes_are_named():
    with pytest.raises(OptionError, match=r"other: found float, wanted the result of ppl\.log_evidence"):
        bayes_factor(evidence(0.0, 0.1), -3.0)
    with pytest.raises(OptionError, match="confidence"):
        bayes_factor(evidence(0.0, 0.1), evidence(0.0, 0.1), confidence=1.0)
