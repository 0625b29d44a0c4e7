"""Errors of the first, validated run name the site and the argument."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from ppl_models.errors import DataError, GuideError, ModelError
from ppl_models.program import build_program, check_guide_covers

Y = np.array([0.0, 1.0, 2.0])


def observed_only(y):
    pyro.sample("y", dist.Normal(0.0, 1.0).expand([3]).to_event(1), obs=y)


def same_name(y):
    pyro.sample("mu", dist.Normal(0.0, 1.0))
    pyro.sample("mu", dist.Normal(0.0, 1.0))


def outside_the_plate(y):
    mu = pyro.sample("mu", dist.Normal(torch.zeros(4), 1.0))
    with pyro.plate("row", 3):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def bad_scale(y):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Normal(mu, -1.0).expand([3]).to_event(1), obs=y)


def fails_between(y):
    pyro.sample("mu", dist.Normal(0.0, 1.0))
    return y.no_such_attribute


def counts(y):
    rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
    with pyro.plate("row", 3):
        pyro.sample("y", dist.Poisson(rate), obs=y)


@pytest.mark.parametrize(
    ("model", "data", "error", "words"),
    [
        (observed_only, (Y,), ModelError, ["no latent site", "obs="]),
        (same_name, (Y,), ModelError, ["'mu'", "two sample sites"]),
        (outside_the_plate, (Y,), ModelError, ["site y", "'row'", "3 vs 4"]),
        (bad_scale, (Y,), ModelError, ["after site 'mu'", "scale", "-1"]),
        (fails_between, (Y,), ModelError, ["AttributeError", "no_such_attribute", "y (3,)"]),
        (fails_between, {"y": None}, ModelError, ["None: y"]),
        (counts, (np.array([1.0, -2.0, 3.0]),), DataError, ["'y'", "Poisson", "support"]),
        (counts, (np.array([1.0, 0.5, 3.0]),), DataError, ["'y'", "Poisson"]),
        (counts, ("text",), DataError, ["'y'", "str"]),
        (3, (Y,), ModelError, ["int", "function"]),
    ],
)
def test_what_is_wrong_is_named(model, data, error, words):
    with pytest.raises(error) as caught:
        build_program(model, data)
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)


def test_sites_that_come_and_go_are_refused():
    calls = []

    def coming_and_going(y):
        calls.append(y)
        if len(calls) in (1, 4):
            pyro.sample("sometimes", dist.Normal(0.0, 1.0))
        pyro.sample("mu", dist.Normal(0.0, 1.0))

    for _ in ("present, then absent", "absent, then present"):
        with pytest.raises(ModelError, match="'sometimes'"):
            build_program(coming_and_going, (Y,))


def model(y):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("row", 3):
        pyro.sample("z", dist.Normal(mu, 1.0))
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def good(y):
    auxiliary = pyro.sample("auxiliary", dist.Normal(0.0, 1.0), infer={"is_auxiliary": True})
    pyro.sample("mu", dist.Delta(auxiliary))
    with pyro.plate("row", 3):
        pyro.sample("z", dist.Normal(0.0, 1.0))


def misses_one(y):
    pyro.sample("mu", dist.Normal(0.0, 1.0))


def one_too_many(y):
    good(y)
    pyro.sample("other", dist.Normal(0.0, 1.0))


def samples_the_data(y):
    good(y)
    pyro.sample("y", dist.Normal(torch.zeros(3), 1.0))


def wrong_shape(y):
    pyro.sample("mu", dist.Normal(torch.zeros(2), 1.0))
    with pyro.plate("row", 3):
        pyro.sample("z", dist.Normal(0.0, 1.0))


def check(guide):
    y = torch.as_tensor(Y)
    with torch.random.fork_rng(devices=[]):
        traces = poutine.trace(guide).get_trace(y), poutine.trace(model).get_trace(y)
    check_guide_covers(*traces, needed={"mu", "z"})


def test_good_guide_passes():
    check(good)


@pytest.mark.parametrize(
    ("guide", "words"),
    [
        (misses_one, ["misses", "'z'", "has 'mu'"]),
        (one_too_many, ["'other'", "model has not", "is_auxiliary"]),
        (samples_the_data, ["'y'", "observes"]),
        (wrong_shape, ["'mu'", "(2,)", "()"]),
    ],
)
def test_guide_that_does_not_cover_the_model(guide, words):
    with pytest.raises(GuideError) as caught:
        check(guide)
    assert all(word in str(caught.value) for word in words), caught.value
