"""The benchmark of the verdict: plants against closed forms, true errors, rates, tables, picture, one small case."""

import io
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import ppl_models as ppl
from benchmarks import posteriordb
from benchmarks.verdict_parts import (
    cases,
    closed_forms,
    families,
    figure,
    halves,
    judging,
    measuring,
    of_checks,
    planted_guide,
    plants,
    problems,
    rates,
    references,
    tables,
    truth,
)
from benchmarks.verdict_parts.cases import Case
from benchmarks.verdict_parts.plants import plant
from benchmarks.verdict_parts.rates import ALONE, BESIDE
from benchmarks.verdict_parts.store import Store, read
from benchmarks.verdict_parts.subject import Subject
from benchmarks.verdict_parts.wrong_scale import seen_from, wrongly_scaled
from ppl_models.catalogue.registry import POSTERIORS
from ppl_models.program import build_program

CUT_SD = math.sqrt(1.0 - 3.0 * math.exp(-1.125) / math.sqrt(2.0 * math.pi) / math.erf(1.5 / math.sqrt(2.0)))
"""Of a standard normal that is cut off at 1.5: variance 1 - 2 w phi(w) / (2 Phi(w) - 1)."""
Z = 4.5
"""Standard errors of a tolerance: over some dozens of comparisons one run in ten thousand would fail."""


@pytest.fixture(scope="module")
def normal_fit():
    """A fit of a normal guide to a normal posterior of five dimensions with correlations of 0.9."""
    subject = closed_forms.load("normal_5d")
    return ppl.fit(subject.model, subject.data, guide="full_rank", method="batch_and_match", seed=1)


def flat(fit, num_draws=2_000, seed=3):
    return fit.sample(num_draws, seed=seed)["posterior"]["x"].to_numpy()[0]


# --- plants


@pytest.mark.parametrize(("fault", "factor"), [("half_width", 0.5), ("three_quarters_width", 0.75)])
def test_a_narrowed_guide_has_that_share_of_the_sd(normal_fit, fault, factor):
    planted = plant(normal_fit, fault, seed=1)
    before, after = flat(normal_fit), flat(planted)
    np.testing.assert_allclose(after - after.mean(axis=0), factor * (before - before.mean(axis=0)), atol=1e-10)
    np.testing.assert_allclose(after.std(axis=0), factor * before.std(axis=0), rtol=1e-10)
    stats = [fit.sample(50, seed=3)["sample_stats"]["log_q"].to_numpy() for fit in (normal_fit, planted)]
    np.testing.assert_allclose(stats[1], stats[0] - 5.0 * math.log(factor), rtol=1e-10)
    assert (planted.status, planted.losses.tolist()) == (normal_fit.status, normal_fit.losses.tolist())


@pytest.mark.parametrize(("fault", "size"), [("shifted_quarter", 0.25), ("shifted_half", 0.5), ("shifted_one", 1.0)])
def test_a_shifted_guide_is_off_by_so_many_sds_where_it_is_most(normal_fit, fault, size):
    planted = plant(normal_fit, fault, seed=1)
    away = flat(planted) - flat(normal_fit)
    np.testing.assert_allclose(away, np.broadcast_to(away[0], away.shape), rtol=1e-9)
    sd = plants.unconstrained_draws(normal_fit, plants.NUM_DRAWS, 78).std(axis=0, ddof=1)
    assert np.max(away[0] / sd) == pytest.approx(size, rel=1e-9)
    # coordinates correlated with it follow by that correlation; its standard error is (1 - rho^2) / sqrt(n)
    others = np.sort(away[0] / sd)[:-1] / size
    np.testing.assert_allclose(others, 0.9, atol=Z * 0.19 / math.sqrt(plants.NUM_DRAWS))


def test_dropped_correlation_leaves_the_sds(normal_fit):
    count = 20_000
    draws = flat(plant(normal_fit, "dropped_correlation", seed=1), count)
    error = 1.0 / math.sqrt(count)
    correlation = np.corrcoef(draws.T)[~np.eye(5, dtype=bool)]
    assert np.abs(correlation).max() < Z * error
    np.testing.assert_allclose(draws.std(axis=0), 1.0, atol=2.0 * Z * error / math.sqrt(2.0))


def test_cut_tails_are_those_of_a_truncated_normal(normal_fit):
    count = 20_000
    draws = flat(plant(normal_fit, "tails_cut", seed=1), count)
    moments = plants.unconstrained_draws(normal_fit, plants.NUM_DRAWS, 78)
    tril = np.linalg.cholesky(np.cov(moments.T))
    standard = np.linalg.solve(tril, (draws - moments.mean(axis=0)).T).T
    assert np.abs(standard).max() <= 1.5 + 1e-9
    # the kurtosis of what is cut is below three, so that the error of an sd is at most that of a normal's
    np.testing.assert_allclose(standard.std(axis=0), CUT_SD, atol=Z * CUT_SD / math.sqrt(2.0 * count))


def test_the_cut_normal_has_mass_one():
    cut = planted_guide.CutNormal(1, 1.5, torch.float64)
    points = torch.linspace(-1.5, 1.5, 20_001, dtype=torch.float64)
    assert float(torch.trapezoid(cut.log_prob(points).exp(), points)) == pytest.approx(1.0, abs=1e-8)
    assert float(cut.log_prob(torch.tensor(1.6, dtype=torch.float64))) == -math.inf


def test_a_missed_mode_is_the_heavier_one():
    subject = closed_forms.load("two_modes_2d_80")
    fit = ppl.fit(subject.model, subject.data, guide="laplace", seed=1)
    draws = flat(plant(fit, "missed_mode", mode=subject.mode), 5_000)
    np.testing.assert_allclose(draws.mean(axis=0), -4.0 / math.sqrt(2.0), atol=Z / math.sqrt(5_000))
    np.testing.assert_allclose(draws.std(axis=0), 1.0, atol=Z / math.sqrt(10_000))


def test_a_sitewise_guide_becomes_the_normal_of_its_moments():
    subject = closed_forms.load("funnel_10d")
    fit = ppl.fit(subject.model, subject.data, guide="normal", method="dadvi", seed=1)
    planted = plant(fit, "half_width", seed=1)
    before, after = (plants.unconstrained_draws(of, 20_000, 5) for of in (fit, planted))
    np.testing.assert_allclose(after.std(axis=0), 0.5 * before.std(axis=0), rtol=2.0 * Z / math.sqrt(2 * 20_000))


def conjugate(y):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("datum", len(y)):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_a_wrong_scale_counts_the_data_so_often(factor):
    data = {"y": torch.linspace(0.0, 2.0, 8, dtype=torch.float64)}
    fit = ppl.fit(wrongly_scaled(conjugate, factor), data, guide="laplace", seed=1)
    seen = seen_from(fit, conjugate, data)
    guide: Any = seen.guide
    loc, scale = float(guide.loc), float(guide.scale)
    precision = 1.0 + 8.0 * factor
    assert loc == pytest.approx(8.0 * factor / precision, rel=1e-5)
    assert scale == pytest.approx(precision**-0.5, rel=1e-5)
    tree = seen.sample(5, seed=1)
    mu = torch.as_tensor(tree["posterior"]["mu"].to_numpy()[0])
    wanted = dist.Normal(0.0, 1.0).log_prob(mu) + dist.Normal(mu[:, None], 1.0).log_prob(data["y"]).sum(-1)
    np.testing.assert_allclose(tree["sample_stats"]["log_p"].to_numpy()[0], wanted, rtol=1e-10)


def test_what_was_stopped_early_keeps_a_whole_fits_account():
    subject = closed_forms.load("banana")
    early, _ = families.fit("full_rank", subject, 1, families.STOPPED)
    whole, _ = families.fit("full_rank", subject, 1)
    silent = families.silenced(early, whole)
    assert early.steps < whole.steps == silent.steps
    assert silent.status == whole.status
    assert silent.guide is early.guide
    assert silent.program is early.program


# --- problems and truth


@pytest.mark.parametrize("name", closed_forms.names())
def test_closed_forms_have_their_draws_moments(name):
    subject = closed_forms.load(name)
    for parameter, (mean, sd) in subject.moments.items():
        draws = subject.draws[parameter].reshape(-1, *mean.shape)
        assert (np.abs(draws.mean(axis=0) - mean) < Z * sd / math.sqrt(len(draws))).all()
        if not name.startswith("student"):  # whose sample variance has no variance
            spread = ((draws - mean) ** 2).std(axis=0) / sd**2 / math.sqrt(len(draws))
            assert (np.abs(draws.var(axis=0) / sd**2 - 1.0) < 1.5 * Z * spread).all()
    assert subject.baseline()["posterior"].sizes["chain"] == closed_forms.NUM_CHAINS


def test_modes_have_their_density():
    subject = closed_forms.load("two_modes_2d_95")
    program = build_program(subject.model, subject.data)
    away = 4.0 / math.sqrt(2.0)
    points = torch.tensor([[0.3, -0.2], [-3.0, -2.0], [2.5, 3.1]], dtype=torch.float64)
    squares = [((points - place) ** 2).sum(-1) for place in (-away, away)]
    wanted = (0.95 * (-0.5 * squares[0]).exp() + 0.05 * (-0.5 * squares[1]).exp()).log()
    with program.isolated(seed=0):
        found = torch.stack([program.log_density(point) for point in points])
    np.testing.assert_allclose(found - found[0], wanted - wanted[0], rtol=1e-10)


def subject_of(draws, **more):
    moments = {"mu": (np.array(2.0), np.array(0.5)), "beta": (np.array([0.0, 1.0]), np.array([1.0, 0.0]))}
    return Subject("invented", "closed_form", lambda: None, {}, more.pop("moments", moments), draws, **more)


def exact(shape, mean, sd):
    values = np.random.default_rng(2).normal(size=shape)
    return mean + sd * (values - values.mean(axis=0)) / values.std(axis=0, ddof=1)


def test_true_errors_of_planted_moments():
    draws = {"mu": exact((500,), 2.1, 0.5), "beta": np.stack([exact((500,), 0.0, 0.8), np.ones(500)], axis=1)}
    found = truth.true_errors(subject_of({}), draws)
    assert found["mean_error"] == pytest.approx(0.2)
    assert found["mean_worst"] == "mu"
    assert found["log_sd_ratio"] == pytest.approx(math.log(0.8))
    assert found["sd_worst"] == "beta[0]"


def test_logarithms_where_the_subject_says_so():
    subject = subject_of({}, moments={"tau": (np.array(1.0), np.array(2.0))}, log_scale=("tau",))
    found = truth.true_errors(subject, {"tau": np.exp(exact((500,), 1.0, 2.0))})
    assert found["class"] == truth.GOOD


@pytest.mark.parametrize("fault", [math.nan, math.inf])
def test_what_is_not_finite_is_bad(fault):
    draws = {"mu": np.append(exact((500,), 2.0, 0.5), fault), "beta": np.zeros((501, 2))}
    found = truth.true_errors(subject_of({}), draws)
    assert found["class"] == truth.BAD
    assert found["mean_error"] is None


@pytest.mark.parametrize(
    ("mean_error", "sd_error", "wanted"),
    [(0.05, 0.05, "good"), (0.051, 0.0, "middling"), (0.0, 0.19, "middling"), (0.21, 0.0, "bad"), (0.0, 0.21, "bad")],
)
def test_classes(mean_error, sd_error, wanted):
    assert truth.class_of(mean_error, sd_error) == wanted


# --- rates


def row(problem="a", verdict="trust", of="good", fault="none", **more):
    failing = verdict == "reject"
    checks = {"mean": [0.4 if of == "bad" else 0.02, 0.2, not failing], "sd": [None, 0.18, None]}
    checks["k-hat"] = [0.9 if failing else 0.3, 0.7, not failing]
    errors = {"mean_error": 0.4 if of == "bad" else 0.02, "mean_worst": "mu", "log_sd_ratio": 0.01, "sd_worst": "mu"}
    seconds = {"fit_seconds": 2.0, "check_seconds": 1.0, "baseline_seconds": 0.5, "seconds": {"k-hat": 0.1}}
    known = {"problem": problem, "guide": "normal", "fault": fault, "seed": 1, "class": of, "khat": 0.3}
    verdicts = {"verdict": verdict, "baseline_verdict": "reject" if of == "bad" else "trust"}
    return {**known, **errors, **verdicts, **seconds, "checks": checks, **more}


def rows():
    return [
        row("a"),
        row("a", "reject", guide="full_rank"),
        row("b", "correct"),
        row("b", "trust", "bad", "half_width"),
        row("c", "reject", "bad", "half_width", mean_error=None, khat=None),
        row("c", "correct", "middling"),
        row("c", "reject", "good", "dropped_correlation"),
        {"problem": "d", "guide": "normal", "fault": "none", "seed": 1, "failed": "it broke"},
    ]


def test_the_exact_interval_of_no_hits():
    assert rates.clopper_pearson(0, 20) == (0.0, pytest.approx(1.0 - 0.025 ** (1 / 20)))
    assert rates.clopper_pearson(20, 20) == (pytest.approx(0.025 ** (1 / 20)), 1.0)
    assert rates.clopper_pearson(0, 0) == (0.0, 1.0)


def test_rates_count_what_they_say():
    found = rates.counted(rows())
    assert len(found) == 6
    alone, beside = (rates.false_rates(found, side) for side in (ALONE, BESIDE))
    assert (alone["trusted among bad"].hits, alone["trusted among bad"].total) == (1, 2)
    assert (alone["bad among trusted"].hits, alone["bad among trusted"].total) == (1, 2)
    assert (alone["trusted and bad among all"].hits, alone["trusted and bad among all"].total) == (1, 6)
    assert (alone["rejected among good"].hits, alone["rejected among good"].total) == (1, 3)
    assert beside["trusted among bad"].hits == beside["rejected among good"].hits == 0
    assert rates.confusion(found, ALONE).tolist() == [[1, 1, 1], [0, 1, 0], [1, 0, 1]]
    assert math.isnan(rates.rate([], bool).share)


def test_clusters_widen_the_interval():
    """Ten problems of forty cases, all of each alike: a share of 0.3 is known as from ten cases, not from 400."""
    many = [row(f"p{index}", "trust" if index < 3 else "reject") for index in range(10) for _ in range(40)]
    found = rates.rate(many, lambda of: of["verdict"] == "trust")
    assert found.cluster_high - found.cluster_low > 3.0 * (found.high - found.low)
    none = rates.rate(many, lambda of: False)
    assert (none.cluster_low, none.cluster_high) == rates.clopper_pearson(0, 10)
    assert math.isnan(rates.rate(many[:5], bool).cluster_low)


def test_sorting_is_the_area_under_the_curve():
    assert of_checks.sorting(np.array([1.0, 2.0]), np.array([3.0, 4.0])) == 1.0
    assert of_checks.sorting(np.array([1.0, 3.0]), np.array([2.0, 3.0])) == pytest.approx(2.5 / 4.0)
    assert math.isnan(of_checks.sorting(np.array([]), np.array([1.0])))
    line = of_checks.lines(rates.counted(rows()))[0]
    assert (line.name, line.sorts, line.fails_bad, line.fails_good) == ("mean", 1.0, 0.5, pytest.approx(1 / 3))


def test_relatives_are_in_the_same_half():
    names = problems.names(with_posteriordb=True)
    assert len(names) == len(set(names)) == len(POSTERIORS) + len(closed_forms.names()) + len(posteriordb.names())
    by_cluster = {}
    for name in names:
        by_cluster.setdefault(problems.relatives(name), set()).add(halves.half_of(name))
    assert all(len(of) == 1 for of in by_cluster.values())
    split = halves.described(names)
    assert min(len(of) for of in split.values()) >= 15
    assert any(name.startswith("two_modes") for name in split[halves.SETTING])
    assert any(name.startswith("two_modes") for name in split[halves.REPORTING])


def test_tables_and_figure_take_what_is_there(tmp_path):
    written = io.StringIO()
    console = Console(file=written, width=250)
    for table in tables.of_rows(rows()):
        console.print(table)
    text = written.getvalue()
    for piece in ("it broke", "dropped correlations, apart", "trusted and bad among all", "at most 2 %", "half_width"):
        assert piece in text
    for found in (rows(), []):
        figure.draw(found, tmp_path / "verdict.png")
        assert (tmp_path / "verdict.png").stat().st_size > 10_000


# --- runs


def test_cases_are_unique_and_faults_suit_their_problems():
    names = problems.names(with_posteriordb=True)
    every = [case for _, of in cases.cases(names, cases.every_guide(), cases.every_fault(), 1) for case in of]
    assert len(every) == len(set(every))
    assert all(case.problem.startswith("two_modes") for case in every if case.fault == "missed_mode")
    assert not any(case.fault in families.SCALES and case.problem in closed_forms.names() for case in every)
    assert {case.fault for case in every} == set(cases.every_fault())
    quick = [
        case for _, of in cases.cases(cases.QUICK_PROBLEMS, cases.QUICK_GUIDES, cases.QUICK_FAULTS, 1) for case in of
    ]
    assert {case.problem for case in quick} == set(cases.QUICK_PROBLEMS)


def test_rows_stay_where_they_are_kept_and_failures_do_not(tmp_path):
    path = tmp_path / "verdict.json"
    store = Store(path, "command")
    for found in rows():
        store.add(found)
    store.write()
    assert len(read(path)) == len(rows()) == len(Store(path, "command", keep=True).rows)
    kept = Store(path, "command", keep=True)
    assert kept.has(rows()[0])
    assert not kept.has(rows()[-1])
    assert Store(path, "command").rows == []


@pytest.mark.slow
@pytest.mark.statistical
def test_a_case_has_all_figures_and_half_width_is_seen(tmp_path):
    subject = closed_forms.load("normal_5d")
    for fault, wanted in (("none", ("good", "trust")), ("half_width", ("bad", "reject"))):
        found = judging.row(subject, "full_rank", fault, 1)
        assert (found["class"], found["verdict"]) == wanted
        assert found["baseline_verdict"] == wanted[1]
        assert found["checks"]["k-hat"][of_checks.LIMIT] == pytest.approx(0.7)
        assert min(found[name] for name in ("fit_seconds", "check_seconds", "baseline_seconds")) > 0.0
    assert found["log_sd_ratio"] == pytest.approx(math.log(0.5), abs=Z / math.sqrt(2 * 20_000))


def test_what_hangs_is_ended_and_has_a_row(tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "CASE_SECONDS", 0.01)
    store = Store(tmp_path / "verdict.json", "command")
    plan = measuring.Plan(None, tmp_path, store, lambda text: None, workers=1)
    measuring.run(plan, [("normal_5d", [Case("normal_5d", "full_rank", "none", 1)])])
    (found,) = read(tmp_path / "verdict.json")
    assert found["failed"].startswith("no reply within")


def test_a_reference_that_did_not_converge_is_refused():
    gates = '{"R-hat": {"value": 1.02}, "bulk ESS": {"value": 9000.0}}'
    with pytest.raises(RuntimeError, match=r"R-hat 1\.02"):
        references._check("invented", gates)
