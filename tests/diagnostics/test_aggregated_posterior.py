import math

import numpy as np
import pytest

from ppl_models.diagnostics import aggregated_posterior
from ppl_models.errors import DataError


def samples(seed, change=lambda z: z, *, num_rows=1_500, num_prior=2_000, num_units=2):
    rng = np.random.default_rng(seed)
    return change(rng.normal(size=(num_rows, num_units))), rng.normal(size=(num_prior, num_units))


def test_same_distribution_passes():
    found = aggregated_posterior(*samples(1))
    assert found.check.passed is True
    assert (found.table["p_value"] > 0.001).all()
    assert found.kl < 0.02


def test_kl_of_normals_has_its_closed_form():
    found = aggregated_posterior(
        *samples(2, lambda z: 0.5 * z + np.array([1.0, 0.0]), num_rows=20_000, num_prior=20_000)
    )
    each = 0.5 * (0.25 - 1.0 - math.log(0.25))
    assert found.kl == pytest.approx(2.0 * each + 0.5, abs=0.06)
    assert found.table.loc["z[0]", "kl"] == pytest.approx(each + 0.5, abs=0.05)
    assert found.table.index[0] == "z[0]"


@pytest.mark.parametrize(
    "change",
    [
        lambda z: 0.5 * z,
        lambda z: z + np.array([0.6, 0.0]),
        lambda z: np.where(np.abs(z) < 0.5, np.sign(z), z),
        lambda z: np.stack([z[:, 0], 0.9 * z[:, 0] + math.sqrt(0.19) * z[:, 1]], axis=1),
    ],
    ids=["half the sd", "shifted", "a hole in the middle", "dependent units"],
)
def test_faults_are_found(change):
    found = aggregated_posterior(*samples(3, change))
    assert found.check.passed is False
    assert found.check.advice


def test_dependence_shows_in_the_joint_kl_alone():
    def mixed(z):
        return np.stack([z[:, 0], 0.9 * z[:, 0] + math.sqrt(0.19) * z[:, 1]], axis=1)

    found = aggregated_posterior(*samples(4, mixed, num_rows=5_000))
    assert found.table["kl"].max() < 0.01
    assert found.kl == pytest.approx(-0.5 * math.log(0.19), abs=0.06)


def test_any_prior_is_judged_by_its_draws():
    rng = np.random.default_rng(5)
    two = rng.choice([-3.0, 3.0], size=(4_000, 1)) + 0.3 * rng.normal(size=(4_000, 1))
    assert aggregated_posterior(two[:2_000], two[2_000:]).check.passed is True


def test_few_rows_are_no_pass():
    assert aggregated_posterior(*samples(6, num_rows=50)).check.passed is None


def test_wrong_shapes_are_refused():
    with pytest.raises(DataError, match="needs"):
        aggregated_posterior(np.zeros((5, 2)), np.zeros((5, 3)))


def test_few_rows_have_no_limit_and_some_are_told_how_many_would_do():
    none = aggregated_posterior(*samples(7, num_rows=50)).check
    assert "limit" not in str(none)
    some = aggregated_posterior(*samples(8, num_rows=180, num_prior=1_000)).check
    assert some.passed is None
    number = int(some.detail.split("about ")[1].split(" rows")[0].replace(",", ""))
    assert 180 < number < 5_000
    enough = [aggregated_posterior(*samples(seed, num_rows=3 * number, num_prior=3 * number)) for seed in range(3)]
    assert sum(found.check.passed is True for found in enough) >= 2
