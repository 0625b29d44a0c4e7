"""The same guide at other data: amortised guides go along, others are refused."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import ppl_models as ppl
from ppl_models.errors import DataError, GuideError


def local(x):
    with pyro.plate("datum", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)


def encoder(x):
    half = pyro.param("half", torch.tensor(0.5))
    with pyro.plate("datum", len(x)):
        pyro.sample("z", dist.Normal(half * x, 0.5**0.5).to_event(1))


def one_for_each(x):
    mean = pyro.param("mean", torch.zeros(5, 2))
    with pyro.plate("datum", len(x)):
        pyro.sample("z", dist.Normal(mean, 1.0).to_event(1))


def fitted(guide, **options):
    x = np.random.default_rng(0).normal(size=(5, 2))
    return ppl.fit(
        local, {"x": x}, guide=guide, max_steps=1, step_size=1e-12, backend="eager", seed=0, num_particles=1, **options
    )


@pytest.fixture(scope="module")
def fit():
    return fitted(encoder, coords={"datum": list("abcde"), "z_dim_1": ["u", "v"]})


@pytest.mark.parametrize("num_rows", [1, 4, 5, 9])
def test_an_amortised_guide_works_at_any_number_of_rows(fit, num_rows):
    x = np.random.default_rng(1).normal(size=(num_rows, 2))
    other = fit.at({"x": x})
    tree = other.sample(2_000, seed=1)
    z = tree["posterior"]["z"]
    assert z.shape == (1, 2_000, num_rows, 2)
    assert np.abs((z.mean(("chain", "draw")).values - x / 2) / np.sqrt(0.5 / 2_000)).max() < 4.0
    # the exact posterior: every log ratio is log p(x)
    wanted = -0.25 * (x**2).sum() - x.size / 2 * np.log(4 * np.pi)
    np.testing.assert_allclose(other.log_ratio(10), wanted, rtol=1e-6)
    np.testing.assert_allclose(tree["observed_data"]["x"], x)
    # labels of rows are kept for as many rows only, those of other axes always
    assert z["z_dim_1"].values.tolist() == ["u", "v"]
    assert z["datum"].values.tolist() == (list("abcde") if num_rows == 5 else list(range(num_rows)))


def test_what_was_learnt_goes_along(fit):
    other = fit.at({"x": np.zeros((3, 2))})
    assert other.guide is fit.guide
    assert other.status == fit.status
    assert np.array_equal(other.losses, fit.losses)
    assert fit.sample(3)["posterior"]["z"].shape == (1, 3, 5, 2)  # and the fit is as it was
    assert other.at({"x": np.zeros((2, 2))}).sample(3)["posterior"]["z"].shape == (1, 3, 2, 2)


@pytest.mark.parametrize("guide", ["normal", one_for_each], ids=["normal", "one_for_each"])
@pytest.mark.parametrize("num_rows", [3, 5, 7])
def test_guides_with_parameters_for_each_row_are_refused(guide, num_rows):
    """Also at as many rows as the fit has, where it would give the old rows' answers for the new ones."""
    with pytest.raises(GuideError, match="amortised"):
        fitted(guide).at({"x": np.ones((num_rows, 2))})


def test_a_posterior_of_parameters_works_at_other_data():
    def model(x, y):
        slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
        with pyro.plate("datum", len(x)):
            pyro.sample("y", dist.Normal(slope * x, 1.0), obs=y)

    x = torch.arange(3.0)
    fit = ppl.fit(model, {"x": x, "y": x}, guide="normal", max_steps=1, seed=0, backend="eager")
    for number in (3, 6):
        rows = torch.ones(number)
        draws = fit.at({"x": rows, "y": rows}).sample(4)["posterior"]["slope"]
        assert np.array_equal(draws, fit.sample(4)["posterior"]["slope"])


def test_wrong_data_are_refused(fit):
    with pytest.raises(DataError, match="NaN"):
        fit.at({"x": np.full((2, 2), np.nan)})
    with pytest.raises(DataError, match="signature"):
        fit.at({"y": np.ones((2, 2))})
