import math

import numpy as np
import pytest

from ppl_models.diagnostics import rate_distortion, rate_distortion_curve
from ppl_models.errors import DataError

Z = 4.0
HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


def normal(x, mean, sd):
    return -0.5 * ((x - mean) / sd) ** 2 - np.log(sd) - HALF_LOG_2PI


def measured(seed, *, num_rows=500, num_draws=200, narrower=1.0):
    """z ~ N(0, 1), x ~ N(z, 1), q(z | x) the posterior N(x / 2, 1 / 2) with its sd scaled."""
    rng = np.random.default_rng(seed)
    x = math.sqrt(2.0) * rng.normal(size=num_rows)
    mean, sd = x / 2.0, narrower * math.sqrt(0.5)
    z = mean + sd * rng.normal(size=(num_draws, num_rows))
    return x, rate_distortion(normal(z, 0.0, 1.0), normal(x, z, 1.0), normal(z, mean, sd))


@pytest.mark.parametrize("narrower", [1.0, 0.5])
def test_closed_form_and_identity(narrower):
    x, found = measured(1, narrower=narrower)
    variance = 0.5 * narrower**2
    rate = 0.5 * (x**2 / 4.0 + variance - 1.0 - math.log(variance))
    distortion = HALF_LOG_2PI + 0.5 * ((x / 2.0) ** 2 + variance)
    assert abs(found.rate - rate.mean()) < Z * found.mcse[0]
    assert abs(found.distortion - distortion.mean()) < Z * found.mcse[1]
    assert found.elbo == -(found.rate + found.distortion)
    evidence = normal(x, 0.0, math.sqrt(2.0)).mean()
    gap = 0.5 * (narrower**2 - 1.0) - math.log(narrower)
    assert abs(found.elbo - (evidence - gap)) < Z * found.mcse[2] + 1e-12


def test_errors_are_those_over_data():
    values = np.array([(found.rate, found.distortion, found.elbo) for found in (measured(s)[1] for s in range(100))])
    stated = np.array([measured(s)[1].errors for s in range(20)]).mean(axis=0)
    assert (np.abs(np.log(values.std(axis=0, ddof=1) / stated)) < Z / math.sqrt(2.0 * 99.0)).all()


def test_curve_is_sorted_and_names_the_dominated():
    _, exact = measured(2)
    _, narrow = measured(2, narrower=0.2)
    table = rate_distortion_curve({"narrow": narrow, "exact": exact})
    assert list(table.index) == ["exact", "narrow"]
    assert not table["dominated"].any()
    worse = rate_distortion(np.zeros((1, 2)), np.full((1, 2), -99.0), np.full((1, 2), 99.0))
    assert rate_distortion_curve({"exact": exact, "worse": worse})["dominated"].tolist() == [False, True]


def test_wrong_input_is_refused():
    with pytest.raises(DataError, match="need"):
        rate_distortion(np.zeros((2, 3)), np.zeros((2, 3)), np.zeros((2, 2)))
    with pytest.raises(DataError, match="none given"):
        rate_distortion_curve({})
