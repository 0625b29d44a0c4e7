"""The models of posteriordb: complete, finite, exact beside scipy, and sampled to the reference.

The data and reference draws are no part of the project: the tests that need them skip where the environment variable
PPL_MODELS_POSTERIORDB names no folder.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.integrate import solve_ivp

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks import posteriordb
from benchmarks.posteriordb import improper
from benchmarks.posteriordb.hidden_markov import log_evidence
from benchmarks.posteriordb.lotka_volterra import log_populations
from benchmarks.posteriordb.moving_average import filtered
from benchmarks.posteriordb.verify import errors, verify
from ppl_models.errors import FileError, UnknownNameError
from ppl_models.program import build_program, isolated

VARIABLE = "PPL_MODELS_POSTERIORDB"
with_folder = pytest.mark.skipif(not os.environ.get(VARIABLE), reason=f"{VARIABLE} names no folder of posteriordb")
NAMES = posteriordb.names()
QUICK = ("kidiq-kidscore_momhs",)


def raw(name):
    values = json.loads((posteriordb.find_folder() / name / "data.json").read_text())
    return {key: np.array(value, dtype=float) for key, value in values.items()}


def reference_draws(problem, count=2):
    """Reference draws far apart in the file, each parameter -> array."""
    return [
        {name: values[3 * index, 50 * index] for name, values in problem.reference.items()} for index in range(count)
    ]


# --- the registry


def test_problems_are_28():
    assert len(NAMES) == len(set(NAMES)) == 28


@with_folder
def test_registry_is_complete():
    index = json.loads((posteriordb.find_folder() / "index.json").read_text())
    assert sorted(entry["name"] for entry in index["posteriors"]) == list(NAMES)


def test_a_folder_is_wanted(monkeypatch, tmp_path):
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(FileError, match=f"Set the environment variable {VARIABLE}, or pass --folder"):
        posteriordb.find_folder()
    with pytest.raises(FileError, match=r"found no index.json in .*Correct --folder"):
        posteriordb.find_folder(tmp_path)
    (tmp_path / "index.json").write_text('{"posteriors": []}')
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert posteriordb.find_folder() == tmp_path
    with pytest.raises(FileError, match="does not list 'arK-arK'"):
        posteriordb.load("arK-arK")
    with pytest.raises(UnknownNameError, match="nearest first: arK-arK"):
        posteriordb.load("ark-ark")


# --- what models are made of, beside plain loops


def test_filter_is_the_recursion():
    rng = np.random.default_rng(1)
    for size in (1, 2, 5, 64, 200):
        values, coefficient = rng.normal(size=size), 0.9
        wanted = np.zeros(size)
        for time in range(size):
            wanted[time] = values[time] + coefficient * wanted[time - 1]
        found = filtered(torch.tensor(values), torch.tensor(coefficient, dtype=torch.float64))
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


def log_forward(transition, emission):
    alpha = emission[0]
    for row in emission[1:]:
        alpha = np.logaddexp.reduce(alpha[:, None] + transition, axis=0) + row
    return np.logaddexp.reduce(alpha)


@pytest.mark.parametrize("size", [2, 3, 8, 13, 100])
def test_evidence_is_the_forward_algorithm(size):
    rng = np.random.default_rng(size)
    transition, emission = np.log(rng.dirichlet([1, 1], size=2)), rng.normal(size=(size, 2))
    found = log_evidence(torch.tensor(transition), torch.tensor(emission))
    assert float(found) == pytest.approx(log_forward(transition, emission), rel=1e-12)


def solved(theta, start, times):
    def slope(_, state):
        return [(theta[0] - theta[1] * state[1]) * state[0], (-theta[2] + theta[3] * state[0]) * state[1]]

    return solve_ivp(slope, (0, times[-1]), start, "DOP853", times, rtol=1e-11, atol=1e-11).y.T


def test_populations_are_the_solution():
    theta, start, times = np.array([0.55, 0.028, 0.8, 0.024]), np.array([34.0, 5.9]), np.arange(1.0, 21.0)
    path = log_populations(torch.tensor(theta), torch.tensor(start).log(), torch.tensor(times)).exp()
    np.testing.assert_allclose(path, solved(theta, start, times), rtol=1e-4)


def test_populations_take_leading_axes():
    theta = torch.tensor([[0.55, 0.028, 0.8, 0.024], [0.5, 0.03, 0.7, 0.02]], dtype=torch.float64)
    start, times = torch.tensor([[3.5, 1.8], [3.4, 1.7]], dtype=torch.float64), torch.arange(1.0, 4.0).double()
    together = log_populations(theta, start, times)
    apart = torch.stack([log_populations(*pair, times) for pair in zip(theta, start, strict=True)])
    torch.testing.assert_close(together, apart, rtol=1e-12, atol=0.0)


def test_flat_priors_have_density_one_on_their_supports():
    for prior, inside, outside in (
        (improper.real_vector(torch.zeros(4, 2), 3.0), [-7.0, 1e3], None),
        (improper.positive(3.0), 1e3, -1.0),
        (improper.increasing(torch.tensor([0.0, 3.0])), [-7.0, 1e3], [2.0, 1.0]),
    ):
        with isolated(seed=0):
            assert bool(prior.support.check(prior.sample()).all())
        assert bool(prior.support.check(torch.tensor(inside)).all())
        assert float(prior.log_prob(torch.tensor(inside))) == 0.0
        assert outside is None or not bool(prior.support.check(torch.tensor(outside)).all())


# --- the models


@with_folder
@pytest.mark.parametrize("name", NAMES)
def test_density_and_gradient_are_finite(name):
    problem = posteriordb.load(name)
    program = build_program(problem.model, problem.data)
    described = {name: mean.shape for name, (mean, _) in problem.summary.items()}
    assert described == {name: values.shape[2:] for name, values in problem.reference.items()}
    for seed in range(3):
        with program.isolated(seed=seed):
            leaf = program.prior_draw().requires_grad_(True)
            density, values = program.log_density_and_values(leaf)
            (gradient,) = torch.autograd.grad(density, leaf)
        assert bool(torch.isfinite(density))
        assert bool(torch.isfinite(gradient).all())
        assert {name: values[name].shape for name in described} == described
    assert problem.cite
    assert problem.multimodal == ("hmm_drive" in name)


def regression_density(response, design, draw):
    return stats.norm(design @ draw["beta"], draw["sigma"]).logpdf(response).sum()


def with_ones(*columns):
    return np.stack([np.ones_like(columns[0]), *columns], axis=-1)


def half_cauchy(draw):
    return stats.cauchy(0, 2.5).logpdf(draw["sigma"])


def earnings(name, draw):
    data = raw(name)
    z = (data["height"] - data["height"].mean()) / data["height"].std(ddof=1)
    design = {
        "log10earn_height": with_ones(data["height"]),
        "logearn_height": with_ones(data["height"]),
        "logearn_height_male": with_ones(data["height"], data["male"]),
        "logearn_interaction_z": with_ones(z, data["male"], z * data["male"]),
        "logearn_logheight_male": with_ones(np.log(data["height"]), data["male"]),
    }[name.split("-")[1]]
    return regression_density((np.log10 if "log10" in name else np.log)(data["earn"]), design, draw)


def kidscore(name, draw):
    data = raw(name)
    if name.startswith("kidiq-"):
        column = data["mom_hs" if name.endswith("hs") else "mom_iq"]
        return regression_density(data["kid_score"], with_ones(column), draw) + half_cauchy(draw)
    hs, iq = data["mom_hs"], data["mom_iq"]
    centre, scale = {
        "c": ((hs.mean(), iq.mean()), (1, 1)),
        "2": ((0.5, 100), (1, 1)),
        "z": ((hs.mean(), iq.mean()), (2 * hs.std(ddof=1), 2 * iq.std(ddof=1))),
    }[name[-1]]
    hs, iq = (hs - centre[0]) / scale[0], (iq - centre[1]) / scale[1]
    return regression_density(data["kid_score"], with_ones(hs, iq, hs * iq), draw)


def mesquite(name, draw):
    log = {key: np.log(values) for key, values in raw(name).items() if key != "group"}
    group, area = raw(name)["group"], log["diam1"] + log["diam2"]
    volume, rest = area + log["canopy_height"], (log["total_height"], log["density"], group)
    design = {
        "logmesquite": with_ones(log["diam1"], log["diam2"], log["canopy_height"], *rest),
        "logmesquite_logva": with_ones(volume, area, group),
        "logmesquite_logvas": with_ones(volume, area, log["diam1"] - log["diam2"], *rest),
        "logmesquite_logvolume": with_ones(volume),
    }[name.split("-")[1]]
    return regression_density(log["weight"], design, draw)


def nes(name, draw):
    data = raw(name)
    ages = [data["age_discrete"] == group for group in (2, 3, 4)]
    before = [data["real_ideo"], data["race_adj"]]
    return regression_density(
        data["partyid7"], with_ones(*before, *ages, data["educ1"], data["gender"], data["income"]), draw
    )


def diamonds(name, draw):
    data = raw(name)
    x = data["X"][:, 1:]
    likelihood = stats.norm(draw["Intercept"] + (x - x.mean(0)) @ draw["b"], draw["sigma"]).logpdf(data["Y"]).sum()
    prior = stats.norm(0, 1).logpdf(draw["b"]).sum() + stats.t(3, 8, 10).logpdf(draw["Intercept"])
    return likelihood + prior + stats.t(3, 0, 10).logpdf(draw["sigma"])


def sblrc(name, draw):
    data = raw(name)
    prior = stats.norm(0, 10).logpdf([*draw["beta"], draw["sigma"]]).sum()
    return regression_density(data["y"], data["X"], draw) + prior


def autoregression(name, draw):
    y, density = raw(name)["y"], stats.norm(0, 10).logpdf([draw["alpha"], *draw["beta"]]).sum() + half_cauchy(draw)
    for time in range(5, len(y)):
        mean = draw["alpha"] + sum(draw["beta"][lag] * y[time - 1 - lag] for lag in range(5))
        density += stats.norm(mean, draw["sigma"]).logpdf(y[time])
    return density


def moving_average(name, draw):
    y, mu, phi, theta = raw(name)["y"], draw["mu"], draw["phi"], draw["theta"]
    density = stats.norm(0, [10, 2, 2]).logpdf([mu, phi, theta]).sum() + half_cauchy(draw)
    error = y[0] - (mu + phi * mu)
    density += stats.norm(0, draw["sigma"]).logpdf(error)
    for time in range(1, len(y)):
        error = y[time] - (mu + phi * y[time - 1] + theta * error)
        density += stats.norm(0, draw["sigma"]).logpdf(error)
    return density


def eight_schools(name, draw):
    data = raw(name)
    prior = stats.norm(0, 5).logpdf(draw["mu"]) + stats.cauchy(0, 5).logpdf(draw["tau"])
    return (
        prior
        + stats.norm(draw["mu"], draw["tau"]).logpdf(draw["theta"]).sum()
        + stats.norm(draw["theta"], data["sigma"]).logpdf(data["y"]).sum()
    )


def gaussian_process(name, draw):
    data = raw(name)
    kernel = draw["alpha"] ** 2 * np.exp(-((data["x"][:, None] - data["x"]) ** 2) / (2 * draw["rho"] ** 2))
    prior = (
        stats.gamma(25, scale=1 / 4).logpdf(draw["rho"])
        + stats.norm(0, [2, 1]).logpdf([draw["alpha"], draw["sigma"]]).sum()
    )
    return prior + stats.multivariate_normal(np.zeros(11), kernel + draw["sigma"] * np.eye(11)).logpdf(data["y"])


def hidden_markov(name, draw):
    data, transition = raw(name), np.log([draw["theta1"], draw["theta2"]])
    if "y" in data:
        prior = stats.norm([3, 10], 1).logpdf(draw["mu"]).sum()
        return prior + log_forward(transition, stats.norm(draw["mu"], 1).logpdf(data["y"][:, None]))
    prior = sum(stats.norm([0, 3], 1).logpdf(draw[pair]).sum() for pair in ("phi", "lambda"))
    prior += sum(((data["alpha"][state] - 1) * transition[state]).sum() for state in (0, 1))
    emission = stats.norm(draw["phi"], data["tau"]).logpdf(data["u"][:, None])
    return prior + log_forward(
        transition, emission + stats.norm(draw["lambda"], data["rho"]).logpdf(data["v"][:, None])
    )


def lotka_volterra(name, draw):
    data = raw(name)
    prior = stats.norm([1, 0.05, 1, 0.05], [0.5, 0.05, 0.5, 0.05]).logpdf(draw["theta"]).sum()
    prior += stats.lognorm(1, scale=10).logpdf(draw["z_init"]).sum()
    prior += stats.lognorm(1, scale=np.exp(-1)).logpdf(draw["sigma"]).sum()
    path = np.vstack([draw["z_init"], solved(draw["theta"], draw["z_init"], data["ts"])])
    return prior + stats.lognorm(draw["sigma"], scale=path).logpdf(np.vstack([data["y_init"], data["y"]])).sum()


BY_HAND = {
    **{name: earnings for name in NAMES if name.startswith("earnings")},
    **{name: kidscore for name in NAMES if name.startswith("kidiq")},
    **{name: mesquite for name in NAMES if name.startswith("mesquite")},
    **{name: nes for name in NAMES if name.startswith("nes")},
    "diamonds-diamonds": diamonds,
    "sblrc-blr": sblrc,
    "arK-arK": autoregression,
    "arma-arma11": moving_average,
    "eight_schools-eight_schools_noncentered": eight_schools,
    "gp_pois_regr-gp_regr": gaussian_process,
    "hmm_example-hmm_example": hidden_markov,
    "bball_drive_event_1-hmm_drive_1": hidden_markov,
    "hudson_lynx_hare-lotka_volterra": lotka_volterra,
}


def site_values(draw, data):
    """The draw with the latents that stand behind the reference's transformed parameters."""
    behind = {}
    if "tau" in draw:
        behind["theta_trans"] = (draw["theta"] - draw["mu"]) / draw["tau"]
    elif "phi" in draw and "mu" in draw:
        behind["theta_quarters"] = 4.0 * draw["theta"]
    elif "theta1" in draw and "mu" in draw:
        behind |= {"mu_low": draw["mu"][0], "mu_gap": draw["mu"][1] - draw["mu"][0]}
    elif "z_init" in draw:
        hare, lynx = data["y"].mean(0).tolist()
        guess = 2 * np.pi / 10 * np.array([1, 1 / lynx, 1, 1 / hare])
        behind["log_theta_quarters"] = 4.0 * np.log(draw["theta"] / guess)
        behind["log_z_init_quarters"] = 4.0 * np.log(draw["z_init"] / data["y_init"].numpy())
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in {**draw, **behind}.items()}


def jacobian(name, draw):
    """Log |d parameters / d sites|, but for a constant, where the sites are not the parameters themselves."""
    if "lotka" in name:
        return np.log([*draw["theta"], *draw["z_init"]]).sum()
    return 0.0 if "eight_schools" not in name else 8 * np.log(draw["tau"])


@with_folder
@pytest.mark.parametrize("name", NAMES)
def test_densities_differ_as_they_do_by_hand(name):
    problem = posteriordb.load(name)
    program = build_program(problem.model, problem.data)
    draws = reference_draws(problem, 4)
    with program.isolated():
        found = [program.log_joint_and_deterministics(site_values(draw, problem.data)) for draw in draws]
        for draw, (_, deterministics) in zip(draws, found, strict=True):
            for key, value in deterministics.items():
                np.testing.assert_allclose(value, draw[key], rtol=1e-10, atol=1e-12)
            # where a site's support were wider or narrower than it should be, its transform would not come back
            again = program.constrain(program.unconstrain(site_values(draw, problem.data)))
            for key, value in draw.items():
                np.testing.assert_allclose(again[key], value, rtol=1e-8)
    wanted = np.array([BY_HAND[name](name, draw) + jacobian(name, draw) for draw in draws])
    densities = np.array([float(density) for density, _ in found])
    # the solvers of the differential equation differ by some 1e-5 of the populations, over noise of 0.25
    error = {"atol": 5e-3} if "lotka" in name else {"rtol": 1e-8, "atol": 1e-7}
    np.testing.assert_allclose(densities - densities[0], wanted - wanted[0], **error)


@with_folder
def test_errors_are_seen():
    problem = posteriordb.load("sblrc-blr")
    exact = dict(problem.reference)
    mean_error, sd_error = errors(problem, exact)
    assert mean_error < 0.1
    assert sd_error < 0.1
    sd = problem.summary["sigma"][1]
    assert errors(problem, {**exact, "sigma": exact["sigma"] + sd})[0] > 0.9
    assert errors(problem, {**exact, "sigma": exact["sigma"] * 2})[1] > 0.9


def pytest_generate_tests(metafunc):
    """All problems with `-m slow`; else those that are quick to compile and to sample."""
    if metafunc.function is test_sampled_to_the_reference:
        names = NAMES if "slow" in metafunc.config.option.markexpr else QUICK
        marked = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in names]
        metafunc.parametrize("name", marked)


@with_folder
@pytest.mark.statistical
@pytest.mark.native
def test_sampled_to_the_reference(name):
    row = verify(posteriordb.load(name), seed=2)
    assert row.passed, row
