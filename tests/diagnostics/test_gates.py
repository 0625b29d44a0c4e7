import numpy as np
import pytest
import xarray as xr

from ppl_models.diagnostics import baseline_gates, gates_passed
from ppl_models.errors import DataError

from .samples import autoregressive, dataset, matrix, normal_draws


def by_name(checks):
    return {check.name: check for check in checks}


def spoil(posterior, name, change):
    values = {key: array.to_numpy().copy() for key, array in posterior.data_vars.items()}
    change(values[name])
    return dataset(values["tau"], values["theta"])


def test_exact_draws_pass():
    gates = baseline_gates(normal_draws(np.random.default_rng(1), 4, 1_000), np.zeros((4, 1_000), dtype=bool))
    assert [gate.name for gate in gates] == ["R-hat", "bulk ESS", "tail ESS", "divergences"]
    assert gates_passed(gates)


def test_wrong_chain_is_caught_and_named():
    posterior = spoil(normal_draws(np.random.default_rng(2), 4, 1_000), "theta", lambda v: v[2, :, 1].__iadd__(1.0))
    gate = by_name(baseline_gates(posterior))["R-hat"]
    assert gate.passed is False
    assert "theta[Deerfield]" in gate.detail


def test_chain_of_another_scale_is_caught():
    posterior = spoil(normal_draws(np.random.default_rng(3), 4, 1_000), "tau", lambda v: v[0].__imul__(3.0))
    assert by_name(baseline_gates(posterior))["R-hat"].passed is False


def test_slow_chain_is_caught():
    gates = by_name(baseline_gates(matrix(autoregressive(np.random.default_rng(4), (4, 1_000, 2), 0.95))))
    assert gates["bulk ESS"].passed is False
    assert gates["tail ESS"].passed is False


def test_one_divergence_is_caught():
    diverging = np.zeros((4, 1_000), dtype=bool)
    diverging[1, 5] = True
    gate = by_name(baseline_gates(normal_draws(np.random.default_rng(5), 4, 1_000), diverging))["divergences"]
    assert (gate.passed, gate.value) == (False, 1.0)


def test_single_chain_is_split_and_said():
    rng = np.random.default_rng(6)
    gate = by_name(baseline_gates(normal_draws(rng, 1, 4_000)))["R-hat"]
    assert gate.passed is True
    assert "one chain" in gate.detail
    drift = spoil(normal_draws(rng, 1, 4_000), "tau", lambda v: v.__iadd__(np.linspace(0, 2, 4_000)))
    assert by_name(baseline_gates(drift))["R-hat"].passed is False


def test_constants_are_skipped():
    posterior = spoil(normal_draws(np.random.default_rng(7), 4, 1_000), "theta", lambda v: v[..., 0].fill(1.0))
    assert gates_passed(baseline_gates(posterior))


def test_chains_stuck_apart_fail():
    stuck = np.repeat(np.arange(4.0)[:, None], 1_000, axis=1)
    assert not gates_passed(baseline_gates(xr.Dataset({"x": (("chain", "draw"), stuck)})))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_draws_are_never_a_pass(bad):
    posterior = spoil(
        normal_draws(np.random.default_rng(8), 4, 1_000), "theta", lambda v: v.__setitem__((0, 3, 2), bad)
    )
    gates = baseline_gates(posterior)
    assert all(gate.passed is None for gate in gates)
    assert "theta[Phillips Andover]" in gates[0].detail


def test_nothing_to_measure_is_never_a_pass():
    assert not gates_passed(())
    assert not gates_passed(baseline_gates(xr.Dataset({"x": (("chain", "draw"), np.ones((4, 100)))})))
    assert not gates_passed(baseline_gates(normal_draws(np.random.default_rng(9), 4, 5)))
    with pytest.raises(DataError, match="expand_dims"):
        baseline_gates(xr.Dataset({"x": (("draw",), np.ones(100))}))


@pytest.mark.statistical
def test_rate_of_false_alarms():
    """Independent draws, 4 chains of 1,000, four parameters: R-hat exceeds 1.01 in well under 1 % of baselines."""
    rng = np.random.default_rng(10)
    assert sum(not gates_passed(baseline_gates(normal_draws(rng, 4, 1_000))) for _ in range(60)) <= 1
