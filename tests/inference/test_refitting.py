"""Refits: the numbers of whole fits at other data, code that is wrong at other data caught, and what falls back."""

import functools

import cloudpickle
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from closed_forms import DATA, EVIDENCE, MEAN, regression
from randomness import seeded
from torch.distributions import constraints

import guides
import ppl_models as ppl
from guides.networks import MLP
from ppl_models.autoencoders import VAE
from ppl_models.engine import cpp_compiler
from ppl_models.errors import DataError, OptionError
from ppl_models.inference.refitting import RefitSpec, Refitter

METHODS = {
    "newton": {"guide": "laplace"},
    "dadvi": {"guide": "dadvi"},
    "linear_response": {"guide": "linear_response"},
    "batch_and_match": {"guide": "batch_and_match"},
    "pathfinder": {"guide": "pathfinder"},
    "student_t": {"guide": "full_rank_student_t", "method": "batch_and_match"},
}
COMPILED = {"guide": "normal", "backend": "native", "num_particles": 8}
Z = 5.0
"""Standard errors; over all comparisons of this file, chance exceeds it once in a thousand runs."""

needs_compiler = pytest.mark.skipif(cpp_compiler() is None, reason="no C++ compiler")


def counts(t, y):
    """Overdispersed counts: latents with three supports, and whole numbers as data."""
    level = pyro.sample("level", dist.Normal(0.0, 1.0))
    slope = pyro.sample("slope", dist.Normal(0.0, 0.5))
    shape = pyro.sample("shape", dist.Gamma(3.0, 1.0))
    with pyro.plate("row", len(t)):
        pyro.sample("y", dist.GammaPoisson(shape, shape / torch.exp(level + slope * t)), obs=y)


def counts_data(seed):
    rng = np.random.default_rng(seed)
    t = np.linspace(-2.0, 2.0, 40)
    level, slope, shape = rng.normal(), 0.5 * rng.normal(), rng.gamma(3.0)
    return {"t": t, "y": rng.poisson(np.exp(level + slope * t) * rng.gamma(shape, 1.0 / shape, 40))}


def moved(shift):
    """Other data of the regression in closed form, and the posterior mean there."""
    y = DATA["y"] + shift
    return {"x": DATA["x"], "y": y}, MEAN + _gain() @ (y - DATA["y"])


def _gain():
    x = DATA["x"]
    return torch.linalg.solve(torch.eye(2, dtype=torch.float64) + x.mT @ x, x.mT)


def assert_same_fit(found, wanted, tolerance=1e-10):
    assert found.parameters.keys() == wanted.parameters.keys()
    for name, value in wanted.parameters.items():
        torch.testing.assert_close(found.parameters[name], value, rtol=tolerance, atol=tolerance)
    assert (found.status, found.steps, found.guide_name) == (wanted.status, wanted.steps, wanted.guide_name)


@pytest.mark.parametrize("options", METHODS.values(), ids=METHODS)
def test_a_refit_by_a_method_is_the_fit_of_the_other_data(options):
    refitter = Refitter(ppl.fit(counts, counts_data(1), seed=4, **options))
    assert refitter.fast, refitter.note
    data = counts_data(5)
    fit = ppl.fit(counts, data, seed=4, **options)
    assert_same_fit(refitter.refit(data, seed=4), fit)
    found = refitter.draws(data, 4_000, seed=4)
    assert (found.status, found.note) == (fit.status, fit.note)
    assert_same_draws(found, fit)


def assert_same_draws(found, fit):
    """The moments of 4,000 draws, and the mean log ratio, but for chance."""
    wanted = fit.sample(4_000, seed=9)["posterior"]
    for name in ("level", "slope", "shape"):
        one, other = np.log(found.values[name]) if name == "shape" else found.values[name], wanted[name].to_numpy()[0]
        other = np.log(other) if name == "shape" else other
        error = np.sqrt((one.var() + other.var()) / 4_000)
        assert abs(one.mean() - other.mean()) < Z * error
        centred = [(value - value.mean()) ** 2 for value in (one, other)]
        error = np.sqrt((centred[0].var() + centred[1].var()) / 4_000)
        assert abs(one.var() - other.var()) < Z * error
    ratio = fit.log_ratio(4_000, seed=3)
    error = np.sqrt((ratio.var() + found.log_ratio.var()) / 4_000)
    assert abs(ratio.mean() - found.log_ratio.mean()) < Z * error


def test_an_exact_posterior_at_other_data_has_a_constant_ratio():
    refitter = Refitter(ppl.fit(regression, DATA, guide="laplace", seed=1))
    again = refitter.draws(DATA, 50, seed=8)
    np.testing.assert_allclose(again.log_ratio, EVIDENCE, rtol=1e-9)
    data, mean = moved(10.0)
    far = refitter.draws(data, 2_000, seed=8)
    assert np.ptp(far.log_ratio) < 1e-8
    error = far.values["weights"].std(axis=0) / np.sqrt(2_000)
    assert (np.abs(far.values["weights"].mean(axis=0) - mean.numpy()) < Z * error).all()


@functools.cache
def remembered_mean(y):
    """A number taken from a tensor once, and remembered for it: a graph would keep that of the first data."""
    return float(y.mean())


def silently(x, y):
    """Centres its prior at a Python number that it remembers."""
    level = pyro.sample("level", dist.Normal(remembered_mean(y), 1.0))
    with pyro.plate("row", len(x)):
        pyro.sample("y", dist.Normal(level, 1.0), obs=y)


def loudly(x, y):
    """Takes it by torch's own way, which capturing sees."""
    level = pyro.sample("level", dist.Normal(y.mean().item(), 1.0))
    with pyro.plate("row", len(x)):
        pyro.sample("y", dist.Normal(level, 1.0), obs=y)


def bounded(x, y):
    """A latent whose support depends on the data."""
    top = pyro.sample("top", dist.Uniform(y.max(), y.max() + 5.0))
    with pyro.plate("row", len(x)):
        pyro.sample("y", dist.Uniform(-20.0, top), obs=y)


@pytest.mark.parametrize("model", [silently, bounded])
def test_numbers_that_stay_those_of_the_first_data_are_caught(model):
    refitter = Refitter(ppl.fit(model, DATA, guide="laplace", seed=1))
    assert refitter.fast
    assert "whole fit" not in refitter.draws(DATA, 10, seed=1).note
    data = moved(3.0)[0]
    found = refitter.draws(data, 10, seed=1)
    assert "a whole fit" in found.note
    assert_same_fit(refitter.refit(data, seed=1), ppl.fit(model, data, guide="laplace", seed=1))
    assert "whole fit" not in refitter.draws(DATA, 10, seed=1).note


def test_a_model_that_reads_its_data_in_python_is_fitted_whole():
    refitter = Refitter(ppl.fit(loudly, DATA, guide="laplace", seed=1))
    assert not refitter.fast
    assert "captured" in refitter.note
    data = moved(3.0)[0]
    assert_same_fit(refitter.refit(data, seed=1), ppl.fit(loudly, data, guide="laplace", seed=1))


@pytest.fixture(scope="module")
def compiled():
    fit = ppl.fit(regression, DATA, seed=4, **COMPILED)
    return fit, Refitter(fit)


@needs_compiler
@pytest.mark.native
@pytest.mark.slow
@pytest.mark.statistical
def test_a_refit_on_compiled_steps_is_the_fit_of_the_other_data(compiled):
    fit, refitter = compiled
    assert refitter.fast, refitter.note
    for shift in (0.0, 20.0):
        data = moved(shift)[0]
        found, wanted = refitter.refit(data, seed=4), ppl.fit(regression, data, seed=4, **COMPILED)
        assert found.note == wanted.note == ""
        assert_same_fit(found, wanted, 1e-6)  # steps amplify the rounding of a look by other code
    assert_same_fit(refitter.refit(DATA, seed=4), fit, 1e-6)


@needs_compiler
@pytest.mark.native
@pytest.mark.slow
@pytest.mark.statistical
def test_refits_far_away_reach_the_optimum_in_closed_form(compiled):
    _, refitter = compiled
    precision = torch.eye(2, dtype=torch.float64) + DATA["x"].mT @ DATA["x"]
    best = precision.diagonal() ** -0.5
    for seed in range(10):
        data, mean = moved(torch.as_tensor(4.0 * np.random.default_rng(seed).standard_normal(4)))
        found = refitter.refit(data, seed=seed)
        assert found.status == "converged"
        assert found.note == ""
        (loc,) = (value for name, value in found.parameters.items() if "locs" in name)
        (scale,) = (value for name, value in found.parameters.items() if "scales" in name)
        assert float(((loc - mean) / best).abs().max()) < 0.1  # half the tolerance of a converged fit, in one mean
        assert float((scale / best).log().abs().max()) < 0.1


@needs_compiler
@pytest.mark.native
@pytest.mark.slow
@pytest.mark.statistical
def test_draws_on_compiled_steps_are_those_of_their_guide(compiled):
    _, refitter = compiled
    data = moved(5.0)[0]
    found, fit = refitter.draws(data, 4_000, seed=6), refitter.refit(data, seed=6)
    wanted = fit.sample(4_000, seed=1)["posterior"]["weights"].to_numpy()[0]
    one = found.values["weights"]
    error = np.sqrt((one.var(axis=0) + wanted.var(axis=0)) / 4_000)
    assert (np.abs(one.mean(axis=0) - wanted.mean(axis=0)) < Z * error).all()
    assert (np.abs(np.log(one.std(axis=0) / wanted.std(axis=0))) < Z / np.sqrt(4_000)).all()
    with fit.program.isolated():
        log_p = [float(fit.program.log_joint({"weights": torch.as_tensor(draw)})) for draw in one[:5]]
    (loc,) = (value for name, value in fit.parameters.items() if "locs" in name)
    (scale,) = (value for name, value in fit.parameters.items() if "scales" in name)
    log_q = dist.Normal(loc, scale).log_prob(torch.as_tensor(one[:5])).sum(-1).numpy()
    np.testing.assert_allclose(found.log_ratio[:5], np.array(log_p) - log_q, rtol=1e-9)


@needs_compiler
@pytest.mark.native
@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.statistical
def test_a_guide_that_keeps_a_number_of_the_first_data_is_caught():
    def guide(x, y):
        loc = pyro.param("loc", torch.zeros(2)) + remembered_mean(y)
        scale = pyro.param("scale", torch.ones(2), constraint=constraints.positive)
        pyro.sample("weights", dist.Normal(loc, scale).to_event(1))

    refitter = Refitter(ppl.fit(regression, DATA, seed=4, **{**COMPILED, "guide": guide}))
    assert refitter.fast, refitter.note
    assert "whole fit" not in refitter.draws(DATA, 10, seed=1).note
    assert "other numbers" in refitter.draws(moved(3.0)[0], 10, seed=1).note


def test_data_of_another_shape_are_fitted_whole():
    refitter = Refitter(ppl.fit(regression, DATA, guide="laplace", seed=1))
    longer = {"x": DATA["x"].repeat(2, 1), "y": DATA["y"].repeat(2)}
    found = refitter.refit(longer, seed=1)
    assert "shape (8, 2)" in found.note
    assert_same_fit(found, ppl.fit(regression, longer, guide="laplace", seed=1))
    assert refitter.draws(longer, 7, seed=1).values["weights"].shape == (7, 2)


def test_data_that_do_not_fit_are_refused():
    refitter = Refitter(ppl.fit(regression, DATA, guide="laplace", seed=1))
    with pytest.raises(DataError, match="NaN"):
        refitter.draws({**DATA, "y": DATA["y"] * np.nan}, 10, seed=1)
    with pytest.raises(DataError, match="signature"):
        refitter.draws({"z": DATA["y"]}, 10, seed=1)
    with pytest.raises(OptionError, match="num_draws"):
        refitter.draws(DATA, 0, seed=1)
    with pytest.raises(OptionError, match="seed"):
        refitter.refit(DATA, seed=-1)


def test_whole_numbers_serve_where_fractions_stood_and_the_other_way_round():
    data = counts_data(1)
    refitter = Refitter(ppl.fit(counts, data, guide="laplace", seed=1))
    whole = refitter.draws(data, 20, seed=2)
    real = refitter.draws({**data, "y": data["y"].astype(float)}, 20, seed=2)
    np.testing.assert_array_equal(whole.log_ratio, real.log_ratio)
    assert real.note == ""


def test_fits_stay_apart_from_refits():
    fit = ppl.fit(regression, DATA, guide="linear_response", seed=1)
    before = fit.sample(50, seed=1)["posterior"]["weights"].to_numpy()
    refitter = Refitter(fit)
    near, far = refitter.refit(DATA, seed=1), refitter.refit(moved(30.0)[0], seed=1)
    first = near.sample(50, seed=1)["posterior"]["weights"].to_numpy()
    assert not np.allclose(first, far.sample(50, seed=1)["posterior"]["weights"].to_numpy())
    refitter.draws(moved(-30.0)[0], 50, seed=1)
    for one in (fit, near):
        np.testing.assert_array_equal(one.sample(50, seed=1)["posterior"]["weights"].to_numpy(), before)
    np.testing.assert_array_equal(far.sample(5)["observed_data"]["y"].to_numpy(), moved(30.0)[0]["y"].numpy())


def test_the_same_seed_gives_the_same_draws_whatever_came_between():
    refitter = Refitter(ppl.fit(counts, counts_data(1), guide="pathfinder", seed=1))
    first = refitter.draws(counts_data(2), 30, seed=5)
    refitter.draws(counts_data(3), 30, seed=6)
    again = refitter.draws(counts_data(2), 30, seed=5)
    np.testing.assert_array_equal(first.log_ratio, again.log_ratio)
    other = refitter.draws(counts_data(2), 30, seed=7)
    assert not np.array_equal(first.log_ratio, other.log_ratio)


@pytest.mark.parametrize("options", [METHODS["newton"], METHODS["linear_response"]], ids=["newton", "linear_response"])
def test_a_spec_survives_a_pickle_and_a_fit_its_file(options, tmp_path):
    fit = ppl.fit(counts, counts_data(1), seed=4, init={"level": 0.5}, **options)
    wanted = RefitSpec.of(fit).build().draws(counts_data(2), 20, seed=4)
    sent = cloudpickle.loads(cloudpickle.dumps(RefitSpec.of(fit)))
    np.testing.assert_array_equal(sent.build().draws(counts_data(2), 20, seed=4).log_ratio, wanted.log_ratio)
    loaded = ppl.load_fit(fit.save(tmp_path / "fit"), counts, counts_data(1))
    found = RefitSpec.of(loaded).build()
    assert found.fast, found.note
    # The file does not say where the fit was told to begin.
    assert found.draws(counts_data(2), 20, seed=4).status == wanted.status


def test_a_loaded_fit_is_refitted_as_itself(tmp_path):
    fit = ppl.fit(counts, counts_data(1), seed=4, guide="linear_response")
    loaded = ppl.load_fit(fit.save(tmp_path / "fit"), counts, counts_data(1))
    found, wanted = (Refitter(one).draws(counts_data(2), 20, seed=4) for one in (loaded, fit))
    np.testing.assert_array_equal(found.log_ratio, wanted.log_ratio)


def test_another_fit_is_no_place_to_begin_a_refit():
    fit = ppl.fit(regression, DATA, guide="laplace", seed=1)
    again = ppl.fit(regression, DATA, guide="linear_response", init=fit, seed=1)
    assert RefitSpec.of(again).options.init == "prior_median"


def amortised_model(y):
    level = pyro.sample("level", dist.Normal(0.0, 1.0))
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.Normal(level, 1.0), obs=y)


def amortised_guide(y):
    """Knows the posterior's form: the mean is a share of the data's sum."""
    share = pyro.param("share", torch.tensor(0.5))
    scale = pyro.param("scale", torch.tensor(1.0), constraint=constraints.positive)
    pyro.sample("level", dist.Normal(share * y.sum(), scale))


def test_an_amortised_guide_serves_other_data_as_it_is():
    data = {"y": np.array([1.0, 2.0, 1.5])}
    fit = ppl.fit(amortised_model, data, guide=amortised_guide, max_steps=300, num_particles=1, backend="eager")
    refitter = cloudpickle.loads(cloudpickle.dumps(RefitSpec.of(fit, amortised=True))).build()
    assert refitter.amortised
    assert refitter.fast
    other = {"y": np.array([-4.0, -5.0, 3.0, 2.0])}
    again, found = refitter.refit(other, seed=1), refitter.draws(other, 2_000, seed=1)
    assert again.steps == 0
    assert found.status == fit.status
    for name, value in fit.parameters.items():
        torch.testing.assert_close(again.parameters[name], value, rtol=0.0, atol=0.0)
    share, scale = (float(fit.parameters[name]) for name in ("share", "scale"))
    assert abs(found.values["level"].mean() - share * other["y"].sum()) < Z * scale / np.sqrt(2_000)


def test_an_amortised_refit_takes_the_learnt_decoder():
    """Not the module that the user holds, which a fit leaves untrained."""
    with seeded(0):
        x, other = torch.randn(30, 4, dtype=torch.float64), {"x": torch.randn(7, 4, dtype=torch.float64)}
        vae = VAE(MLP(2, 4, hidden=(4,)), 2, likelihood="gaussian", num_features=4)
        guide = guides.amortized(vae, hidden=(4,))
    options = {"seed": 1, "step_size": 0.05, "backend": "eager", "num_particles": 1}
    fit, hardly = (ppl.fit(vae, {"x": x}, guide=guide, max_steps=steps, **options) for steps in (30, 1))
    refit, at, untrained = (
        one.log_ratio(5, seed=2)
        for one in (RefitSpec.of(fit, amortised=True).build().refit(other, seed=3), fit.at(other), hardly.at(other))
    )
    np.testing.assert_allclose(refit, at, rtol=1e-10)
    assert (np.abs(untrained - at) > 1.0).all()  # so that an untrained decoder would be noticed


def test_an_automatic_guide_is_not_amortised():
    fit = ppl.fit(regression, DATA, guide="laplace", seed=1)
    with pytest.raises(OptionError, match="does not read the data"):
        RefitSpec.of(fit, amortised=True)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"optimizer": pyro.optim.Adam({"lr": 0.05})}, "optimizer"),
        ({"backend": "eager"}, "eager"),
        ({"num_starts": 2}, "starts"),
        ({"init": "pathfinder"}, "pathfinder"),
    ],
    ids=["optimizer", "eager", "starts", "pathfinder"],
)
def test_what_cannot_be_fast_says_so(options, reason):
    fit = ppl.fit(regression, DATA, guide="normal", max_steps=50, seed=1, **options)
    refitter = Refitter(fit)
    assert not refitter.fast
    assert reason in refitter.note
    assert refitter.draws(moved(1.0)[0], 10, seed=1).values["weights"].shape == (10, 2)
