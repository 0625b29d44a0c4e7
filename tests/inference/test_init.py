"""`init=`: where fits begin, and what is refused."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from closed_forms import COVARIANCE, DATA, MEAN, SD, regression
from pyro.infer.autoguide import AutoNormal

import ppl_models as ppl
from ppl_models.errors import DataError, OptionError, UnknownNameError
from ppl_models.inference.preconditioning.initial import normal_of_fit
from ppl_models.program import build_program


def scaled(y):
    scale = pyro.sample("scale", dist.HalfCauchy(1.0))
    mean = pyro.sample("mean", dist.Normal(0.0, 10.0))
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.Normal(mean, scale), obs=y)


Y = {"y": torch.tensor([0.5, 1.0, 2.5, 3.0])}


def one_step(guide="normal", **options):
    return ppl.fit(scaled, Y, guide=guide, max_steps=1, step_size=1e-9, backend="eager", seed=1, **options)


@pytest.mark.parametrize("guide", ["normal", "full_rank", AutoNormal], ids=str)
def test_given_values_are_where_the_guide_begins(guide):
    fit = one_step(guide, init={"scale": 3.0, "mean": -2.0}, precondition=False)
    with fit.program.isolated(seed=0):
        median = fit.guide.median(*fit.program.arguments.args, **fit.program.arguments.kwargs)
    assert abs(float(median["scale"]) - 3.0) < 1e-6
    assert abs(float(median["mean"]) + 2.0) < 1e-6


def test_missing_latents_begin_at_the_priors_median():
    fit = one_step(init={"mean": -2.0}, precondition=False)
    assert abs(float(fit.parameters["AutoNormal.locs.mean"]) + 2.0) < 1e-6
    assert np.isfinite(float(fit.parameters["AutoNormal.locs.scale"]))


@pytest.mark.statistical
def test_a_fit_gives_its_means_and_covariances():
    first = ppl.fit(regression, DATA, guide="full_rank", method="batch_and_match", seed=1)
    program = build_program(regression, DATA)
    normal = normal_of_fit(first, program)
    # 4,000 draws: standard errors of means and relative ones of sds
    assert (np.abs(normal.mean - MEAN.numpy()) < 4 * SD.numpy() / np.sqrt(4_000) + 0.02 * SD.numpy()).all()
    found = normal.root @ normal.root.T
    assert (np.abs(found - COVARIANCE.numpy()) < 0.1 * np.outer(SD, SD)).all()
    again = ppl.fit(
        regression, DATA, guide="full_rank", init=first, max_steps=1, step_size=1e-9, backend="eager", seed=2
    )
    draws = again.sample(4_000, seed=1)["posterior"]["weights"].to_numpy()[0]
    assert (np.abs(draws.mean(0) - MEAN.numpy()) < 8 * SD.numpy() / np.sqrt(4_000) + 0.02 * SD.numpy()).all()


def test_pathfinder_is_where_the_guide_begins():
    fit = ppl.fit(
        regression, DATA, guide="full_rank", init="pathfinder", max_steps=1, step_size=1e-9, backend="eager", seed=2
    )
    with fit.program.isolated(seed=0):
        median = fit.guide.median(*fit.program.arguments.args, **fit.program.arguments.kwargs)
    np.testing.assert_allclose(median["weights"].detach(), MEAN, atol=0.2 * float(SD.min()))


def handwritten(y):
    pyro.sample("scale", dist.LogNormal(pyro.param("a", torch.tensor(0.0)), 1.0))
    pyro.sample("mean", dist.Normal(0.0, 1.0))


@pytest.mark.parametrize(
    ("init", "error", "said"),
    [
        ("median", UnknownNameError, "prior_median"),
        ({"sacle": 1.0}, UnknownNameError, "scale"),
        ({"scale": -1.0}, DataError, "support"),
        ({"scale": [1.0, 2.0]}, DataError, "shape"),
        ({"scale": "wide"}, DataError, "numbers"),
        (3, OptionError, "a fit"),
    ],
)
def test_what_cannot_be_a_start_is_refused(init, error, said):
    with pytest.raises(error, match=said):
        one_step(init=init)


def test_guides_of_the_users_own_cannot_be_placed():
    with pytest.raises(OptionError, match="automatic"):
        one_step(handwritten, init={"mean": 1.0})


def test_a_fit_of_another_model_is_refused():
    other = ppl.fit(regression, DATA, guide="normal", max_steps=1, backend="eager")
    with pytest.raises(DataError, match="latents"):
        one_step(init=other)


@pytest.mark.statistical
def test_chains_in_the_coordinates_of_a_fit_sample_the_same_posterior():
    # a poor fit: coordinates must not matter for what is sampled
    poor = ppl.fit(regression, DATA, guide="normal", max_steps=5, backend="eager", seed=1)
    tree = ppl.sample(regression, DATA, init=poor, warmup=300, draws=1_000, seed=1)
    draws = tree["posterior"]["weights"].to_numpy().reshape(-1, 2)
    assert (np.abs(draws.mean(0) - MEAN.numpy()) < 4 * SD.numpy() / np.sqrt(400)).all()
    assert (np.abs(np.log(draws.std(0) / SD.numpy())) < 4 / np.sqrt(2 * 400)).all()
    with pytest.raises(OptionError, match="init"):
        ppl.sample(regression, DATA, init="fit")


def test_chains_give_up_in_time():
    with pytest.raises(TimeoutError):
        ppl.sample(regression, DATA, warmup=10, draws=5_000_000, max_seconds=0.5, seed=1)
