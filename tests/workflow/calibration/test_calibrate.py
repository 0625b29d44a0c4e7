"""Calibrations of refits that are exact, and of refits with planted faults."""

import numpy as np
import pytest

import ppl_models as ppl
from ppl_models.errors import OptionError
from tests.workflow.calibration import exact

NUM_SIMULATIONS, NUM_DRAWS = 120, 59
OPTIONS = {"num_simulations": NUM_SIMULATIONS, "num_draws": NUM_DRAWS, "n_jobs": 1}


def by_name(calibration):
    return {check.name: check for check in calibration.checks}


@pytest.mark.parametrize("kind", ["prior", "posterior", "symmetry"])
def test_the_exact_posterior_passes(fit, refits, kind):
    found = ppl.calibrate(fit, kind=kind, **OPTIONS)
    assert found.passed is True
    assert set(by_name(found)) == ({"VSBC", "refits"} if kind == "symmetry" else {"SBC", "coverage", "refits"})
    assert found.ranks["mean"].dims == ("simulation", "mean_dim_0")
    assert found.ranks["mean"].shape == (NUM_SIMULATIONS, 2)
    assert found.table["passed"].all()
    assert (found.table["shape"] == ("symmetric" if kind == "symmetry" else "uniform")).all()
    extra = [] if kind == "symmetry" else ["log joint density", "log likelihood"]
    assert found.table.index.tolist() == ["mean[0]", "mean[1]", *extra]
    assert found.status == "complete"


@pytest.mark.parametrize("kind", ["prior", "posterior"])
def test_half_the_width_fails_sbc_and_is_named(fit, refits, kind):
    refits(width=0.5)
    found = by_name(ppl.calibrate(fit, kind=kind, **OPTIONS))
    assert found["SBC"].passed is False
    assert found["coverage"].passed is False
    assert "too narrow" in found["SBC"].detail


def test_half_the_width_passes_vsbc_and_the_result_says_so(fit, refits):
    refits(width=0.5)
    found = ppl.calibrate(fit, kind="symmetry", **OPTIONS)
    assert by_name(found)["VSBC"].passed is True
    assert found.passed is True
    assert "half the width passes" in repr(found)


@pytest.mark.parametrize("kind", ["prior", "posterior", "symmetry"])
def test_a_shifted_mean_fails(fit, refits, kind):
    refits(shift=-1.0)
    found = ppl.calibrate(fit, kind=kind, **OPTIONS)
    assert by_name(found)["VSBC" if kind == "symmetry" else "SBC"].passed is False
    assert found.table.loc["mean[0]", "shape"].startswith("biased low")
    assert found.passed is False


def test_the_log_joint_density_sees_a_lost_correlation(fit, refits, monkeypatch):
    def independent(self, data, num_draws, *, seed):
        mean, covariance = exact.posterior(data["y"].numpy())
        sd = np.sqrt(np.diag(covariance))
        draws = mean + sd * np.random.default_rng(seed).normal(size=(num_draws, 2))
        return exact.Refitted({"mean": draws}, np.zeros(num_draws), "converged", 0.0)

    monkeypatch.setattr(exact.ExactSpec, "draws", independent)
    found = ppl.calibrate(fit, **OPTIONS)
    assert found.table.loc[["mean[0]", "mean[1]"], "passed"].all()
    assert not found.table.loc["log joint density", "passed"]
    assert "`log " in by_name(found)["SBC"].detail


def test_quantities_of_the_users_are_ranked(fit, refits):
    found = ppl.calibrate(
        fit,
        quantities={
            "sum": lambda latents, data: latents["mean"].sum(-1),
            "residual": lambda latents, data: (latents["mean"].sum(-1) - data["y"].mean()) ** 2,
            "constant": lambda latents, data: np.zeros(len(latents["mean"])),
            "sign": lambda latents, data: (latents["mean"][:, 0] > 0).astype(int),
        },
        **OPTIONS,
    )
    assert found.passed is True
    assert found.table.index.tolist()[-4:] == ["sum", "residual", "constant", "sign"]


@pytest.mark.parametrize(
    ("quantities", "said"),
    [
        ({"x": lambda latents, data: 0.0}, "wanted real numbers of shape"),
        ({"mean": lambda latents, data: latents["mean"][:, 0]}, "Rename it"),
        ({"x": 3}, "wanted a function"),
        ([lambda latents, data: 0.0], "wanted a mapping"),
    ],
)
def test_quantities_that_cannot_be_ranked(fit, refits, quantities, said):
    with pytest.raises(OptionError, match=said):
        ppl.calibrate(fit, quantities=quantities, **OPTIONS)


@pytest.mark.parametrize(
    "option",
    [
        {"kind": "prio"},
        {"num_simulations": 0},
        {"num_draws": 3},
        {"n_jobs": 0},
        {"false_alarm_rate": 2.0},
        {"seed": -1},
    ],
)
def test_options_out_of_range(fit, refits, option):
    with pytest.raises(ppl.PPLError, match=f"{next(iter(option))}|kind of calibration"):
        ppl.calibrate(fit, **{**OPTIONS, **option})


def test_refits_that_fail_are_kept_apart(fit, refits):
    refits(fails=("raises", "nan", "stops"), width=1.0)
    found = ppl.calibrate(fit, **OPTIONS)
    statuses = found.ranks["status"].to_numpy()
    assert set(statuses) == {"converged", "failed", "not finite", "max_steps"}
    failed = by_name(found)["refits"]
    assert failed.passed is False
    assert failed.value == np.mean(statuses != "converged")
    assert found.passed is False
    assert (found.ranks["mean"].to_numpy()[np.isin(statuses, ["failed", "not finite"])] == -1).all()
    assert (found.ranks["mean"].to_numpy()[statuses == "max_steps"] >= 0).all()
    # The zeros of what stopped would fail the check were they counted.
    assert by_name(found)["SBC"].passed is True
    assert "ValueError: a planted failure" in found.notes


def test_refits_that_all_fail_are_no_pass(fit, refits, monkeypatch):
    def raises(self, data, num_draws, *, seed):
        raise RuntimeError("a planted failure")

    monkeypatch.setattr(exact.ExactSpec, "draws", raises)
    found = ppl.calibrate(fit, num_simulations=30, n_jobs=1)
    assert by_name(found)["refits"].value == 1.0
    assert "30 failed (RuntimeError: a planted failure)" in by_name(found)["refits"].detail
    assert by_name(found)["SBC"].passed is None
    assert found.passed is False
    assert "not measured" in repr(found)


def test_out_of_time_is_a_status(fit, refits):
    found = ppl.calibrate(fit, max_seconds=1e-9, **OPTIONS)
    assert found.status == "out_of_time"
    assert found.passed is None
    assert all(check.passed is None for check in found.checks)
    assert "0 simulations of 120, out of time" in repr(found)


def test_few_simulations_are_no_pass(fit, refits):
    found = ppl.calibrate(fit, num_simulations=5, num_draws=NUM_DRAWS, n_jobs=1)
    assert found.passed is None
    assert (found.table["shape"] == "not measured").all()


def test_more_simulations_begin_with_the_same(fit, refits):
    few, more = (ppl.calibrate(fit, num_simulations=n, num_draws=NUM_DRAWS, n_jobs=1).ranks for n in (25, 40))
    assert few.equals(more.isel(simulation=slice(0, 25)))


def test_another_seed_is_another_calibration(fit, refits):
    first, second = (ppl.calibrate(fit, seed=seed, num_simulations=20, n_jobs=1).ranks for seed in (0, 1))
    assert not first.equals(second)


def test_prints_and_escapes(fit, refits):
    refits(width=0.3)
    found = ppl.calibrate(fit, quantities={"<b>": lambda latents, data: latents["mean"][:, 0]}, **OPTIONS)
    text = repr(found)
    assert text.startswith(
        "Calibration: failed (simulation-based calibration over the prior, 120 simulations, 59 draws"
    )
    assert "FAIL SBC" in text
    assert "too narrow" in text
    html = found._repr_html_()
    assert "<b>" not in html
    assert "&lt;b&gt;" in html
