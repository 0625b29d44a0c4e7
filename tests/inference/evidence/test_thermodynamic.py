"""Thermodynamic integration against closed forms, within its error."""

import numpy as np
import pytest

from ppl_models.inference.evidence import tempered_path, thermodynamic
from ppl_models.inference.evidence.annealing_options import AnnealingOptions
from ppl_models.inference.evidence.temperatures import power_temperatures
from ppl_models.inference.evidence.thermodynamic import integrals, thermodynamic_evidence
from tests.inference.evidence import tempered_models as models
from tests.inference.evidence.test_annealing import NUM_RUNS, Z, assert_covers, z_score


@pytest.fixture(scope="module")
def found_and_truth():
    program, y = models.normals_program(100)
    options = AnnealingOptions(by_datum=True, num_temperatures=24, num_chains=16, seed=3)
    return thermodynamic_evidence(program, options), models.normals_truth(y)


def test_it_is_right_within_its_error(found_and_truth):
    found, truth = found_and_truth
    assert found.passed
    assert abs(z_score(found.log_evidence - truth, 0.0)) < Z
    assert 0.7 < np.std((found.log_evidence - truth) / found.standard_error) < 1.4


def test_sums_at_the_ends_of_the_steps_bracket_the_truth(found_and_truth):
    found, truth = found_and_truth
    assert (found.lower < truth).all()
    assert (found.upper > truth).all()


@pytest.mark.exhaustive
def test_its_intervals_cover():
    program, y = models.normals_program(NUM_RUNS)
    options = AnnealingOptions(by_datum=True, num_temperatures=24, num_chains=16, seed=3)
    assert_covers(thermodynamic_evidence(program, options), models.normals_truth(y))


def test_the_corrected_rule_is_of_fourth_order():
    """u = t + noise of variance 1 in place of 1: exact means m(t) = exp(t), whose slope is their variance."""
    errors = []
    for count in (4, 8):
        temperatures = np.linspace(0.0, 1.0, count + 1)
        means = np.exp(temperatures)
        both = np.stack([means + np.sqrt(means), means - np.sqrt(means)])  # two sweeps: variance exp(t)
        errors.append(abs(integrals(both[..., None], temperatures)[0] - (np.e - 1.0)))
    assert 14.0 < errors[0] / errors[1] < 18.0


def test_too_few_temperatures_are_seen():
    program, _ = models.normals_program(20)
    options = AnnealingOptions(by_datum=True, num_temperatures=4, num_chains=64, seed=3)
    found = thermodynamic_evidence(program, options)
    assert next(check for check in found.checks if "rule" in check.name).passed is False


def test_chains_that_do_not_stand_are_seen(monkeypatch):
    program, _ = models.normals_program(20)
    drawn = tempered_path.TemperedPath.drawn

    def far(path, num_draws, seed):
        return path.at(drawn(path, num_draws, seed).points + 200.0)

    def short(path, states, temperature, steps, generator):
        small = thermodynamic.Steps(0.01 * steps.size, steps.scale, steps.count)
        return transition(path, states, temperature, small, generator)

    transition = thermodynamic.transition
    monkeypatch.setattr(tempered_path.TemperedPath, "drawn", far)
    monkeypatch.setattr(thermodynamic, "transition", short)
    monkeypatch.setattr("ppl_models.inference.evidence.tuning.transition", short)
    options = AnnealingOptions(by_datum=True, num_temperatures=24, num_chains=16, seed=3)
    found = thermodynamic_evidence(program, options)
    assert next(check for check in found.checks if "half" in check.name).passed is False


def test_power_temperatures_begin_and_end():
    temperatures = power_temperatures(10)
    assert temperatures[0] == 0.0
    assert temperatures[-1] == 1.0
    assert (np.diff(temperatures) > 0.0).all()
