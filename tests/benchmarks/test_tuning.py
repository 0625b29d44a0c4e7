"""The benchmark of automatic tuning without its runs: rules, paired differences, the search, other units, tables."""

import io
import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyro
import pyro.distributions as dist
import pyro.optim
import pytest
import torch
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[2]))

import ppl_models as ppl
from benchmarks import tuning
from benchmarks.posteriordb import improper
from benchmarks.tuning_parts import figure, ramps, reference, rules, stopping, tables
from benchmarks.tuning_parts.best import maximise, start_of
from benchmarks.tuning_parts.best_elbos import AUTOMATIC, SEARCHED, BestElbos
from benchmarks.tuning_parts.gaussian import (
    Gaussian,
    antithetic,
    difference,
    elbo_per_pair,
    mean_and_error,
    of_fit,
    whitened,
)
from benchmarks.tuning_parts.hand_tuned import grid, start_at, transformed
from benchmarks.tuning_parts.rescaled import in_first_units, rescaled, site_factors, units
from benchmarks.tuning_parts.store import Store
from benchmarks.tuning_parts.target import Target
from ppl_models.program import build_program

LOG_2PI = math.log(2.0 * math.pi)


class NormalTarget:
    """A normalised normal density with what `Target` has, so that every ELBO is known."""

    def __init__(self, mean, covariance):
        self.mean, self.covariance = np.asarray(mean, dtype=float), np.asarray(covariance, dtype=float)
        self.precision = np.linalg.inv(self.covariance)
        self.num_dims = len(self.mean)

    def gradient(self, points):
        away = points - self.mean
        slopes = -away @ self.precision
        constant = -0.5 * (np.linalg.slogdet(self.covariance)[1] + self.num_dims * LOG_2PI)
        return 0.5 * (away * slopes).sum(axis=1) + constant, slopes

    def density(self, points):
        return self.gradient(points)[0]

    def seconds_per_point(self):
        return 1e-3

    def divergence(self, guide):
        root = np.diag(guide.root) if guide.root.ndim == 1 else guide.root
        away = guide.mean - self.mean
        trace = np.trace(self.precision @ root @ root.T)
        logs = np.linalg.slogdet(self.covariance)[1] - 2.0 * np.log(np.abs(np.diag(root))).sum()
        return 0.5 * (trace + away @ self.precision @ away - self.num_dims + logs)


@pytest.fixture
def normal():
    rng = np.random.default_rng(3)
    factor = rng.normal(size=(4, 4))
    return NormalTarget(rng.normal(size=4), factor @ factor.T + 0.1 * np.eye(4))


# --- rules


def test_limits_are_nats_or_a_share():
    assert rules.near_best(0.049, -10.0)
    assert not rules.near_best(0.051, -10.0)
    assert rules.near_best(0.5, -6_000.0)
    assert rules.near_longer(0.099, -10.0)
    assert not rules.near_longer(0.101, -10.0)
    assert not rules.near_best(math.nan, -10.0)
    assert rules.near_reference(0.1, 0.1)
    assert not rules.near_reference(0.11, 0.0)
    assert not rules.near_reference(0.0, math.nan)


def test_an_end_is_false_where_it_says_converged():
    assert rules.false_end("converged", 0.2)
    assert rules.false_end("converged", math.nan)
    assert not rules.false_end("max_steps", 5.0)
    assert not rules.false_end("converged", 0.01)


def test_share_counts_what_passed():
    assert rules.share([{"passed": True}, {"passed": False}]) == 0.5
    assert math.isnan(rules.share([]))


# --- normal guides


def test_whitened_noise_has_unit_moments():
    noise = whitened(50, 7, seed=1)
    np.testing.assert_allclose(noise.mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(noise.T @ noise / 100, np.eye(7), atol=1e-12)


def test_paired_difference_is_that_of_the_divergences(normal):
    exact = Gaussian(normal.mean, np.linalg.cholesky(normal.covariance))
    other = Gaussian(normal.mean + 0.2, 1.1 * exact.root)
    wanted = normal.divergence(other)
    found, error = difference(normal.density, exact, other)
    assert 0.0 < error < 0.01
    assert abs(found - wanted) < 4.0 * error
    # unpaired, the error would be that of a single ELBO
    assert difference(normal.density, exact, exact) == (0.0, 0.0)
    elbos = elbo_per_pair(normal.density, exact, antithetic(100, 4, seed=1))
    assert mean_and_error(elbos)[0] == pytest.approx(0.0, abs=1.0)


def test_search_finds_the_exact_normal_and_the_best_factorised_one(normal):
    rng = np.random.default_rng(5)
    draws = rng.multivariate_normal(normal.mean + 0.3, 2.0 * normal.covariance, size=400)
    axes, noise = np.linalg.cholesky(np.cov(draws, rowvar=False)), whitened(100, 4, seed=2)
    dense, _ = maximise(normal, start_of(draws, "full_rank"), axes, noise)
    assert normal.divergence(dense) < 1e-8
    factorised, _ = maximise(normal, start_of(draws, "normal"), axes, noise)
    np.testing.assert_allclose(factorised.mean, normal.mean, rtol=1e-4)
    np.testing.assert_allclose(factorised.root, 1.0 / np.sqrt(np.diag(normal.precision)), rtol=1e-4)


def test_search_turns_back_where_there_is_no_density():
    class Half(NormalTarget):
        def gradient(self, points):
            values, slopes = super().gradient(points)
            return np.where(points[:, 0] > 6.0, np.nan, values), slopes

    half = Half([0.0], [[1.0]])
    begin = Gaussian(np.array([1.0]), np.array([0.5]))
    found, _ = maximise(half, begin, np.eye(1), whitened(100, 1, seed=1))
    assert half.divergence(found) < 1e-6


@pytest.mark.parametrize("guide", ["normal", "full_rank"])
def test_guides_of_fits_have_the_fits_elbo(guide):
    problem = ppl.load("eight_schools_noncentered")
    fit = ppl.fit(
        problem.model,
        problem.data,
        guide=guide,
        max_steps=20,
        optimizer=pyro.optim.Adam({"lr": 0.01}),
        backend="eager",
        seed=1,
    )
    target = Target(fit.program)
    found, error = mean_and_error(elbo_per_pair(target.density, of_fit(fit), antithetic(4_000, 10, seed=1)))
    wanted, other = fit.elbo(8_000, seed=1)
    assert abs(found - wanted) < 4.0 * math.hypot(error, other)


def test_best_elbos_are_kept_replaced_and_found_out(normal, tmp_path):
    said = []
    best = BestElbos(tmp_path / "best.json", said.append)
    problem = SimpleNamespace(name="normal")
    exact = Gaussian(normal.mean, np.linalg.cholesky(normal.covariance))
    poor = Gaussian(normal.mean + 0.3, exact.root)
    best._keep("normal full_rank", normal, poor, SEARCHED)
    deficit, error = best.offer(problem, normal, "full_rank", exact, f"{AUTOMATIC}, seed 1")
    assert deficit == pytest.approx(-normal.divergence(poor), abs=5.0 * error + 1e-9)
    assert "is better by" in said[0]
    again = BestElbos(tmp_path / "best.json", said.append)
    np.testing.assert_allclose(again.get(problem, normal, "full_rank").gaussian.root, exact.root)
    assert again.entries["normal full_rank"]["source"] == "automatic fit, seed 1"
    assert again._still_fits("normal full_rank", normal)
    assert not again._still_fits("normal full_rank", NormalTarget(normal.mean, 2.0 * normal.covariance))


# --- other units


def regression(x, y):
    intercept = pyro.sample("Intercept", dist.StudentT(3.0, 1.0, 2.0))
    beta = pyro.sample("beta", dist.Normal(torch.zeros(x.shape[-1]), 2.0).to_event(1))
    sigma = pyro.sample("sigma", dist.HalfCauchy(1.5))
    with pyro.plate("row", len(x)):
        pyro.sample("y", dist.Normal(intercept + (x * beta).sum(-1), sigma), obs=y)


def flat_regression(x, y):
    beta = pyro.sample("beta", improper.real_vector(x, scale=1.0))
    sigma = pyro.sample("sigma", improper.positive(scale=1.0))
    with pyro.plate("row", len(x)):
        pyro.sample("y", dist.Normal((x * beta).sum(-1), sigma), obs=y)


def regression_data(*, ones):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(12, 3))
    if ones:
        x[:, 0] = 1.0
    return {"x": torch.tensor(x), "y": torch.tensor(x @ [1.0, 2.0, -1.0] + rng.normal(size=12))}


def constant_between(program, found, factors, flat):
    """Log density of the rescaled model less that of the first, unconstrained, in nats."""
    total = -12 * math.log(found.response)
    for name, (_, shape) in program.slices.items():
        logs = float(factors[name].log().expand(shape).sum())
        total += {(False, False): -logs, (True, True): logs}.get((name == "sigma", flat), 0.0)
    return total


@pytest.mark.parametrize("variant", ["up", "down", "mixed"])
@pytest.mark.parametrize(("model", "flat"), [(regression, False), (flat_regression, True)])
def test_other_units_change_the_density_by_a_constant(variant, model, flat):
    data = regression_data(ones=flat)
    found = units(variant, data["x"], continuous=True)
    program = build_program(model, data)
    factors = site_factors(list(program.slices), found)
    other_model, other_data = rescaled(model, data, found, factors)
    other = build_program(other_model, other_data)
    identity = Gaussian(np.zeros(other.num_dims), np.ones(other.num_dims))
    back = in_first_units(program, identity, factors)
    first = Gaussian(np.linspace(-1.0, 1.0, other.num_dims), np.linspace(0.5, 1.5, other.num_dims))
    guide = first.affine(1.0 / back.root, -back.mean / back.root)
    np.testing.assert_allclose(in_first_units(program, guide, factors).mean, first.mean, atol=1e-12)
    noise = antithetic(5, other.num_dims, seed=1)
    differences = Target(other).density(guide.points(noise)) - Target(program).density(first.points(noise))
    np.testing.assert_allclose(differences, constant_between(program, found, factors, flat), rtol=1e-7)


def test_units_leave_a_column_of_ones_and_classes_alone():
    x = regression_data(ones=True)["x"]
    found = units("mixed", x, continuous=False)
    assert found.columns.tolist() == [1.0, 1e-6, 1e6]
    assert found.response == 1.0


def test_a_prior_that_cannot_be_multiplied_is_refused():
    def model(x, y):
        beta = pyro.sample("beta", dist.Gumbel(torch.zeros(3), 1.0).to_event(1))
        pyro.sample("y", dist.Normal((x * beta).sum(-1), 1.0).to_event(1), obs=y)

    data = regression_data(ones=False)
    found = units("up", data["x"], continuous=True)
    other, other_data = rescaled(model, data, found, site_factors(["beta"], found))
    with pytest.raises(TypeError, match="found Gumbel"):
        other(**other_data)


# --- runs tuned by hand


def test_a_standardised_regression_reads_back():
    data = regression_data(ones=True)
    program = build_program(flat_regression, data)
    rng = np.random.default_rng(2)
    root = np.tril(0.1 * rng.normal(size=(4, 4)), -1) + np.diag([0.3, 0.2, 0.1, 0.4])
    best = Gaussian(np.array([1.0, 2.0, -1.0, 0.1]), root)
    problem = SimpleNamespace(model=flat_regression, data=data)
    start = start_at(problem, Target(program), best, standardise=True)
    standard = start.data["x"][:, 1:]
    np.testing.assert_allclose(standard.mean(0), 0.0, atol=1e-12)
    np.testing.assert_allclose(standard.std(0), 1.0)
    there = transformed(best, np.linalg.inv(start.back))
    again = transformed(there, start.back)
    np.testing.assert_allclose(again.mean, best.mean, rtol=1e-10)
    np.testing.assert_allclose(again.root, best.root, atol=1e-10)
    np.testing.assert_allclose(start.values["beta"], there.mean[:3])
    noise = antithetic(5, 4, seed=1)
    other = Target(build_program(start.model, start.data))
    points = there.points(noise)
    differences = other.density(points) - Target(program).density(points @ start.back.T)
    np.testing.assert_allclose(differences, differences[0], atol=1e-8)


def test_the_grid_begins_with_the_fewest_steps():
    steps = [tuning.steps for tuning in grid("fixed")]
    assert steps == sorted(steps)


# --- ends


def test_fits_without_end_make_all_their_steps():
    before = stopping.Plan(max_steps=1).tolerance
    with stopping.without_end():
        assert stopping.Plan(max_steps=1).tolerance < 1e-6 * before
    assert stopping.Plan(max_steps=1).tolerance == before


def test_elbos_of_ramps_are_exact():
    assert ramps.best_elbo(ramps.wide) == pytest.approx(0.0, abs=1e-6)
    wanted = torch.distributions.kl_divergence(dist.Normal(2.0, 2.0), ramps.unit())
    assert ramps.elbo(ramps.unit, 2.0, 2.0) == pytest.approx(-float(wanted), rel=1e-5)
    best = ramps.best_elbo(ramps.tailed)
    assert all(ramps.elbo(ramps.tailed, mean, sd) <= best for mean in (0.0, 0.1, 1e4) for sd in (0.5, 1.0, 2.0, 4.0))


# --- reference


def test_moment_errors_name_the_worst_parameter():
    problem = SimpleNamespace(summary={"mu": (np.array(1.0), np.array(2.0)), "beta": (np.zeros(3), np.ones(3))})
    exact = {"mu": (1.0, 2.0), "beta": (np.zeros(3), np.ones(3))}
    assert reference.moment_errors(problem, exact)["mean_error"] == 0.0
    found = reference.moment_errors(problem, {**exact, "beta": (np.array([0.0, 0.3, 0.0]), np.array([1.0, 1.0, 0.5]))})
    assert found == {"mean_error": 0.3, "mean_worst": "beta[1]", "sd_error": 0.5, "sd_worst": "beta[2]"}


# --- results


def fit_row(problem, guide, seed, **more):
    values = {"deficit": 0.01, "deficit_mcse": 0.001, "best": -10.0, "steps": 800 + seed, "status": "converged"}
    return {"problem": problem, "guide": guide, "seed": seed, "passed": True, "seconds": 2.0, **values, **more}


def all_parts():
    errors = {"mean_error": 0.05, "mean_worst": "mu", "sd_error": 0.2, "sd_worst": "tau"}
    best = {"best_mean_error": 0.01, "best_sd_error": 0.19, "multimodal": False}
    rounds = {"automatic": [1.0, 2.0, 3.0], "fixed": [1.0, 1.5], "cooled": []}
    tuning = {"fixed": "0.1 x 400", "cooled": None}
    return {
        "a": [fit_row("m", "normal", seed) for seed in (1, 2)] + [fit_row("m", "full_rank", 1, passed=False)],
        "b": [fit_row("m", "full_rank", 1, **errors, **best, passed=False)],
        "c": [fit_row("m", "normal", 1, variant="up", first_steps=860, **errors)],
        "d": [
            fit_row("m", "handwritten", 1, kind="longer", passed_nats=False, status="max_steps"),
            fit_row("far", "handwritten", 1, kind="ramp"),
        ],
        "e": [
            fit_row("m", "normal", 1, ratio=1.6, ratio_cooled=None, rounds=rounds, tuning=tuning, latents=3),
        ],
    }


def test_commands_name_no_folder():
    words = ["--folder", "somewhere", "--part", "a", "--output=there", "--keep"]
    assert tuning.without_places(words) == ["--part", "a", "--keep"]


def test_rows_are_kept_or_measured_again(tmp_path):
    path, said = tmp_path / "tuning.json", []
    store = Store(path, "command")
    key = {"problem": "m", "guide": "normal", "seed": 1}
    store.measure("a", key, lambda: {"passed": False}, said.append)
    store.measure("a", {**key, "seed": 2}, lambda: {"passed": True}, said.append)
    again = Store(path, "command")
    again.measure("a", key, lambda: {"passed": True}, said.append)
    assert [row["passed"] for row in again.rows("a")] == [True, True]
    kept = Store(path, "command", keep=True)
    assert kept.measure("a", key, lambda: pytest.fail("measured"), said.append)["passed"]
    assert json.loads(path.read_text())["parts"]["a"]["versions"]


def test_tables_and_figure_take_what_is_there(tmp_path):
    store = Store(tmp_path / "tuning.json", "command")
    store.parts = {part: {"rows": rows} for part, rows in all_parts().items()}
    best = BestElbos(tmp_path / "best.json", print)
    console = Console(file=io.StringIO(), width=200)
    for part in ("best", *"abcde"):
        for table in tables.of_part(part, store, best):
            console.print(table)
    text = console.file.getvalue()
    for piece in ("66.7% of 3 pass", "MISS 1 of 1", "801-802", "none near", "by nats"):
        assert piece in text
    figure.draw(store.parts, tmp_path / "tuning.png")
    assert (tmp_path / "tuning.png").stat().st_size > 10_000
    figure.draw({}, tmp_path / "empty.png")
