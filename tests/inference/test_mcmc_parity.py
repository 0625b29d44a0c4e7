"""NUTS on compiled densities: C function and callback give the same draws, other backends the same posterior."""

import warnings

import numpy as np
import pytest
from arviz_stats.base import array_stats

import ppl_models as ppl
from ppl_models.errors import BaselineWarning
from ppl_models.inference.mcmc import nutpie_kernel

pytestmark = pytest.mark.native

SHORT = {"chains": 1, "warmup": 100, "draws": 50, "seed": 3}
TAME = ("eight_schools_noncentered", "sleepstudy_varying_intercepts")
Z = 5.0


@pytest.fixture
def runs(monkeypatch):
    """The kernels that drew: "native" where nutpie called a C function, "callback" where it called Python."""
    kept = []
    for kind, name in (("native", "native_model"), ("callback", "_callback_model")):
        monkeypatch.setattr(nutpie_kernel, name, _noting(kept, kind, getattr(nutpie_kernel, name)))
    return kept


def _noting(kept, kind, make):
    def noting(*args):
        kept.append(kind)
        return make(*args)

    return noting


def drawn(name, backend="native", **options):
    """Unlabelled draws of all sites, shape (chain, draw, number)."""
    problem = ppl.load(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BaselineWarning)
        tree = ppl.sample(problem.model, problem.data, backend=backend, **{**SHORT, **options})
    assert tree.attrs["backend"] == backend
    values = [site.values for site in tree["posterior"].data_vars.values()]
    return np.concatenate([value.reshape(*value.shape[:2], -1) for value in values], axis=-1)


def by_callback(monkeypatch, name, backend="native", **options):
    with monkeypatch.context() as patch:
        patch.setattr(nutpie_kernel, "native_interface", lambda: False)
        return drawn(name, backend, **options)


LONG = (
    "single_cell_pbmc",
    "vae_digits",
    "linear_vae_digits",
    "digits_ppca",
    "diabetes_horseshoe",
    "breast_cancer_logistic",
    "lynx_ar2",
    "sleepstudy_varying_intercepts",
)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.exhaustive if name in LONG else ()) for name in ppl.names()]
)
def test_native_kernel_and_callback_draw_the_same(name, monkeypatch, runs):
    assert np.array_equal(drawn(name), by_callback(monkeypatch, name))
    assert runs == ["native", "callback"]


def test_chains_beside_each_other_draw_what_they_draw_in_turn(monkeypatch, runs):
    name, options = "eight_schools_noncentered", {"chains": 3}
    together = drawn(name, **options)
    assert np.array_equal(together, by_callback(monkeypatch, name, **options))
    assert runs == ["native", "callback"]
    assert not np.array_equal(together[0], together[1])


@pytest.mark.parametrize("backend", ["inductor", "eager"])
@pytest.mark.parametrize("name", [TAME[0], pytest.param(TAME[1], marks=pytest.mark.exhaustive)])
def test_other_backends_take_the_same_way(name, backend, runs):
    """Backends round differently, and a trajectory magnifies that; these posteriors do so a little at a time."""
    wanted = drawn(name)
    found = drawn(name, backend)
    assert runs == ["native", "callback"]
    np.testing.assert_allclose(found, wanted, rtol=0.0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.exhaustive
@pytest.mark.statistical
def test_inductor_draws_from_the_same_posterior():
    """Where trajectories part, as here, means and standard deviations agree within their Monte Carlo errors."""
    options = {"chains": 2, "warmup": 200, "draws": 600}
    first, second = drawn("lynx_ar2", **options), drawn("lynx_ar2", "inductor", **options)
    assert not np.allclose(first[:, 0], second[:, 0])
    for one, other in zip(np.moveaxis(first, -1, 0), np.moveaxis(second, -1, 0), strict=True):
        for method, estimate in (("mean", np.mean), ("sd", np.std)):
            errors = [array_stats.mcse(draws, chain_axis=0, draw_axis=1, method=method) for draws in (one, other)]
            assert abs(estimate(one) - estimate(other)) < Z * np.hypot(*errors)
            assert max(errors) < 0.1 * np.std(one)
