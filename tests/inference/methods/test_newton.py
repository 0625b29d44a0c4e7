"""Newton's method: exact on normals of any scale, at a mode or honest about there being none."""

import numpy as np
import pytest
import torch

import ppl_models as ppl
from ppl_models.errors import GuideError
from ppl_models.inference.methods.newton import NEWTON
from tests import closed_forms
from tests.inference.methods import densities
from tests.inference.methods.doubles import Double, run

EXACT = 1e-6


@pytest.mark.parametrize("condition", [1.0, 1e6])
@pytest.mark.parametrize("dim", [1, 2, 20, 100])
def test_normal_targets_are_exact(dim, condition):
    target, mean, root = densities.normal(dim, condition)
    found = run(target, NEWTON)
    assert found.status == "converged"
    assert found.arrival.arrived
    assert max(densities.errors(found.approximation, mean, root)) < EXACT


def test_it_does_not_depend_on_the_latents_scales():
    target, mean, root = densities.unscaled()
    found = run(target, NEWTON)
    assert found.status == "converged"
    assert max(densities.errors(found.approximation, mean, root)) < EXACT


def test_the_banana_s_mode_is_reached_from_afar():
    found = run(Double(densities.banana, 2), NEWTON, start=[-30.0, 50.0])
    assert found.status == "converged"
    np.testing.assert_allclose(found.approximation.mean, [1.0, 1.0], rtol=1e-6)


def test_a_skewed_target_ends_where_its_gradient_is_zero():
    shape = torch.tensor([0.05, 0.5, 1.0, 5.0, 50.0], dtype=torch.float64)
    found = run(Double(lambda x: (shape * x - torch.exp(x)).sum(1), 5), NEWTON)
    assert found.status == "converged"
    np.testing.assert_allclose(found.approximation.mean, shape.log().numpy(), atol=1e-6)
    np.testing.assert_allclose(found.approximation.scale, shape.numpy() ** -0.5, rtol=1e-6)


@pytest.mark.parametrize("name", densities.IMPROPER)
def test_improper_posteriors_are_no_convergence_and_named(name):
    dim, density, latent = densities.IMPROPER[name]
    found = run(Double(density, dim), NEWTON, start=np.full(dim, 0.3))
    assert found.status == "diverged"
    assert not found.arrival.arrived
    assert f"'{latent}'" in found.note


def test_a_funnel_without_mode_is_no_convergence():
    found = run(Double(densities.no_mode, 9), NEWTON, start=np.full(9, 0.3))
    assert found.status == "diverged"
    assert "'z0'" in found.note
    assert "no mode" in found.note


def test_a_saddle_is_left():
    density = lambda x: -0.5 * x[:, 0] ** 2 + 0.5 * x[:, 1] ** 2 - 0.25 * x[:, 1] ** 4  # noqa: E731
    found = run(Double(density, 2), NEWTON, start=[0.5, 0.0])
    assert found.status == "converged"
    np.testing.assert_allclose(np.abs(found.approximation.mean), [0.0, 1.0], atol=1e-6)


def test_a_start_without_density_is_said():
    found = run(Double(lambda x: torch.log(x).sum(1), 2), NEWTON, start=[-1.0, 1.0])
    assert found.status == "diverged"
    assert "not finite" in found.note


def test_many_latents_are_led_up_by_quasi_newton_steps():
    scale = torch.logspace(-2, 2, 600, dtype=torch.float64)
    found = run(Double(lambda x: -torch.log(torch.cosh((x - 1.0) / scale)).sum(1), 600), NEWTON)
    assert found.status == "converged"
    np.testing.assert_allclose((found.approximation.mean - 1.0) / scale.numpy(), 0.0, atol=1e-6)


def test_too_many_latents_are_refused():
    with pytest.raises(GuideError, match=r"5,001 latents.*'low_rank'"):
        run(Double(lambda x: -x.square().sum(1), 5_001), NEWTON)


@pytest.mark.parametrize(("limits", "status"), [({"max_steps": 2}, "max_steps"), ({"seconds": -1.0}, "out_of_time")])
def test_limits_are_obeyed(limits, status):
    found = run(Double(densities.banana, 2), NEWTON, start=[-30.0, 50.0], **limits)
    assert found.status == status
    assert not found.arrival.arrived
    assert len(found.losses) <= 3


def test_a_pyro_model_gets_its_laplace_approximation():
    fit = ppl.fit(closed_forms.regression, closed_forms.DATA, guide="newton", seed=1)
    assert fit.status == "converged"
    np.testing.assert_allclose(fit.guide.loc, closed_forms.MEAN, rtol=1e-6)
    covariance = (fit.guide.scale[:, None] * fit.guide.scale_tril).detach()
    np.testing.assert_allclose(covariance @ covariance.mT, closed_forms.COVARIANCE, rtol=1e-6)
