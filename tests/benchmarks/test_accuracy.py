"""The accuracy benchmark without its runs: errors, shares, ratios, tables, figure; and one small run where data are."""

import io
import math
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from benchmarks import posteriordb
from benchmarks.accuracy_parts import agreement, entrants, figure, measuring, summary, tables
from benchmarks.accuracy_parts.against_reference import errors, khat
from benchmarks.accuracy_parts.entrants import OURS, PACKAGE, PEERS, Entrant
from benchmarks.accuracy_parts.peers import library
from benchmarks.tuning_parts.store import Store

VARIABLE = "PPL_MODELS_POSTERIORDB"
with_folder = pytest.mark.skipif(not os.environ.get(VARIABLE), reason=f"{VARIABLE} names no folder of posteriordb")
QUICK = "eight_schools-eight_schools_noncentered"


# --- errors


@pytest.fixture
def problem():
    """Two parameters whose reference draws have exactly the moments of the summary."""
    rng = np.random.default_rng(1)
    draws = rng.normal(size=(10, 200, 2))
    flat = draws.reshape(-1, 2)
    draws = (draws - flat.mean(axis=0)) / flat.std(axis=0, ddof=1)
    reference = {"mu": 3.0 + 2.0 * draws[..., 0], "beta": -1.0 + 0.5 * draws[..., 1:]}
    return SimpleNamespace(
        name="invented",
        reference=reference,
        summary={"mu": (np.array(3.0), np.array(2.0)), "beta": (np.array([-1.0]), np.array([0.5]))},
        multimodal=False,
    )


def flat_draws(problem):
    return {name: values.reshape(-1, *values.shape[2:]) for name, values in problem.reference.items()}


def test_the_reference_itself_is_accurate(problem):
    found = errors(problem, flat_draws(problem))
    assert found["accurate"]
    for name in ("mean_error", "sd_error", "log_sd_ratio", "wasserstein"):
        assert found[name] == pytest.approx(0.0, abs=1e-12)


def test_planted_faults_are_found(problem):
    draws = flat_draws(problem)
    shifted = errors(problem, {**draws, "mu": draws["mu"] + 0.22})
    assert not shifted["accurate"]
    assert shifted["mean_error"] == pytest.approx(0.11)
    assert shifted["wasserstein"] == pytest.approx(0.11)
    assert shifted["mean_worst"] == shifted["wasserstein_worst"] == "mu"
    narrow = errors(problem, {**draws, "beta": -1.0 + 0.5 * (draws["beta"] + 1.0)})
    assert not narrow["accurate"]
    assert narrow["log_sd_ratio"] == pytest.approx(math.log(2.0))
    assert narrow["sd_worst"] == "beta[0]"


@pytest.mark.parametrize("fault", [math.nan, math.inf])
def test_draws_that_are_not_finite_are_no_success(problem, fault):
    draws = flat_draws(problem)
    draws["mu"][3] = fault
    with np.errstate(invalid="ignore"):
        found = errors(problem, draws)
    assert not found["accurate"]
    assert found["mean_error"] is None
    assert found["wasserstein"] is None


def test_a_point_has_an_infinite_log_ratio(problem):
    draws = {name: np.broadcast_to(values[:1], values.shape) for name, values in flat_draws(problem).items()}
    found = errors(problem, draws)
    assert found["log_sd_ratio"] is None
    assert found["sd_error"] == 1.0


def test_khat_of_what_is_not_finite_is_not_known():
    assert khat(np.full(200, math.nan)) is None
    assert khat(np.zeros(200)) == 0.0


# --- sums


def run_row(problem, guide, side=OURS, **more):
    values = {"accurate": True, "multimodal": False, "seconds": 3.0, "seconds_warm": 1.0, "sample_seconds": 1.0}
    measured = {"mean_error": 0.02, "mean_worst": "mu", "log_sd_ratio": 0.03, "sd_worst": "tau", "wasserstein": 0.04}
    others = {"khat": 0.3, "evaluations": 1_000, "status": "converged", "claims": None}
    return {"problem": problem, "guide": guide, "seed": 1, "side": side, **values, **measured, **others, **more}


def all_rows():
    return [
        run_row("a", "normal", accurate=False, log_sd_ratio=None),
        run_row("b", "normal", seconds=7.0),
        run_row("c", "normal", status="failed", note="it broke", accurate=False, seconds=None, evaluations=None),
        run_row("a", "auto", claims=True),
        run_row("b", "auto", claims=True, accurate=False),
        run_row("c", "auto", claims=False, multimodal=True),
        run_row("a", "numpyro_nuts", PEERS, seconds=8.0),
        run_row("b", "numpyro_nuts", PEERS, seconds=8.0),
        run_row("a", "pyro_nuts", PEERS, seconds=399.0, khat=None),
    ]


def of(label):
    return [row for row in all_rows() if row["guide"] == label]


def test_a_line_counts_shares_and_claims():
    auto = summary.line("auto", of("auto"))
    assert (auto.single, auto.every) == (0.5, pytest.approx(2 / 3))
    assert (auto.claims, auto.claims_met) == (2, 0.5)
    normal = summary.line("normal", of("normal"))
    assert normal.claims is None
    assert normal.seconds == 8.0  # of 4, 8 and a run that failed
    assert normal.log_sd_ratio == math.inf


def test_what_is_not_accurate_never_gets_there():
    accurate, inaccurate = of("auto")[:2]
    assert summary.time_to_accuracy(accurate, "seconds") == 4.0
    assert summary.time_to_accuracy(accurate, "seconds_warm") == 2.0
    assert summary.time_to_accuracy(inaccurate, "seconds") == math.inf
    assert summary.ratio(4.0, 8.0) == 0.5
    assert summary.ratio(4.0, math.inf) is None


def test_medians_hold_infinities():
    assert summary.middle([1.0, None, 3.0]) == 2.0
    assert summary.middle([1.0, math.inf, math.inf]) == math.inf
    assert summary.middle([1.0, math.inf]) == math.inf
    assert math.isnan(summary.middle([None]))


def test_a_curve_ends_at_the_share_of_all_runs():
    times, shares = summary.curve(of("normal"))
    assert times.tolist() == [8.0]
    assert shares.tolist() == [pytest.approx(1 / 3)]


def test_labels_stand_apart_in_order():
    ends = {"a": 0.5, "b": 0.5, "c": 0.52, "d": 0.0, "e": 1.0, "f": 1.0}
    places = figure.spread(ends, 0.05)
    ordered = sorted(places.values())
    assert min(np.diff(ordered)) >= 0.05 - 1e-12
    assert 0.0 <= ordered[0] <= ordered[-1] <= 1.0
    assert sorted(ends, key=lambda name: (ends[name], name)) == sorted(places, key=lambda name: places[name])
    assert places["d"] == 0.0


def test_tables_and_figure_take_what_is_there(tmp_path):
    console = Console(file=io.StringIO(), width=250)
    for table in tables.of_rows(all_rows()):
        console.print(table)
    text = console.file.getvalue()
    for piece in (
        "failed, it broke",
        "claims no pass",
        "several modes",
        "median ratio to NumPyro inf",
        "to Pyro 0.010",
    ):
        assert piece in text
    assert tables.of_rows([]) == []
    for rows in (all_rows(), []):
        figure.draw(rows, tmp_path / "accuracy.png")
        assert (tmp_path / "accuracy.png").stat().st_size > 10_000


# --- runs


def test_labels_are_unique_and_every_family_takes_part():
    labels = [entrant.label for entrant in (*entrants.ours(), *entrants.peers())]
    assert len(labels) == len(set(labels))
    assert {"normal", "full_rank", "auto", "auto_without_mcmc", "numpyro_nuts"} <= set(labels)
    assert set(entrants.PYRO_NUTS_PROBLEMS) <= set(posteriordb.names())


def test_what_is_not_installed_has_no_row(problem):
    with pytest.raises(measuring.NothingToSayError, match="absent"):
        measuring.measured(Entrant("absent", PEERS, "absent", "fit"), problem, "", 1)


def test_what_fails_has_a_row_and_is_tried_again(problem, tmp_path):
    row = measuring.measured(Entrant("normal", OURS, "library", "fit", {"options": {}}), problem, str(tmp_path), 1)
    assert row["status"] == "failed"
    assert "invented" in row["note"]
    assert not row["accurate"]
    store = Store(tmp_path / "accuracy.json", "command", keep=True)
    key = {"problem": "invented", "guide": "normal", "seed": 1}
    store.measure(OURS, key, lambda: row, lambda text: None)
    measuring._forget_failure(store, OURS, key)
    store.measure(OURS, key, lambda: {"status": "converged", "accurate": True}, lambda text: None)
    measuring._forget_failure(store, OURS, key)
    assert [row["status"] for row in measuring.all_rows(store)] == ["converged"]


def test_methods_that_the_library_lacks_are_told_from_faults(monkeypatch, problem):
    monkeypatch.setattr(library.posteriordb, "load", lambda name, folder: problem)
    problem.model, problem.data = (lambda: None), {}
    for options in ({"guide": "no_such_family"}, {"guide": "normal", "no_such_option": 1}):
        assert measuring.NOT_THERE in library.fit("invented", "", options)(1)["status"]
    assert library.fit("invented", "", {"guide": "normal", "max_steps": 0})(1)["status"] == "refused"


@with_folder
def test_a_small_run_has_all_figures(monkeypatch, tmp_path):
    monkeypatch.setenv("PPL_MODELS_CACHE_DIR", str(tmp_path))
    options = {"guide": "normal", "max_steps": 30, "backend": "eager"}
    row = library.fit(QUICK, str(posteriordb.find_folder()), options)(1)
    for name in ("mean_error", "log_sd_ratio", "wasserstein", "khat", "seconds", "seconds_warm", "sample_seconds"):
        assert math.isfinite(row[name])
    assert row["evaluations"] >= 30
    assert row["claims"] is None
    assert row["accurate"] in (True, False)


@with_folder
@pytest.mark.slow
@pytest.mark.skipif(find_spec("numpyro") is None, reason="NumPyro is not installed")
@pytest.mark.parametrize("name", [QUICK, "bball_drive_event_1-hmm_drive_1", "diamonds-diamonds", "arma-arma11"])
def test_numpyro_models_are_ours(name):
    found = agreement.difference(posteriordb.load(name), posteriordb.find_folder())
    assert found <= agreement.TOLERANCE


def test_another_model_differs():
    ours = np.array([-10.0, -12.0, -11.0])
    assert agreement.relative_difference(ours, ours + 3.0) == 0.0
    assert agreement.relative_difference(ours, 1.001 * ours) > 1e-4


def test_jobs_are_there():
    folder = Path(__file__).parents[2] / PACKAGE.replace(".", "/")
    for entrant in (*entrants.ours(), *entrants.peers()):
        assert f"def {entrant.job}(" in (folder / f"{entrant.module}.py").read_text()
