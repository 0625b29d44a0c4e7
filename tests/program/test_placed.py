"""A program in other coordinates is the same posterior."""

import numpy as np
import pytest
import torch
from closed_forms import COVARIANCE, DATA, MEAN, regression

from ppl_models.engine import Target
from ppl_models.program import build_program, placed


@pytest.mark.parametrize("dense", [True, False])
def test_density_values_and_inverse(dense):
    program = build_program(regression, DATA)
    root = torch.linalg.cholesky(COVARIANCE) if dense else COVARIANCE.diagonal().sqrt()
    other = placed(program, MEAN, root)
    point = torch.tensor([0.3, -1.2], dtype=torch.float64)
    original = MEAN + (root @ point if dense else root * point)
    with program.isolated(seed=0):
        wanted, values = program.log_density_and_values(original)
        found, others = other.log_density_and_values(point)
        back = other.unconstrain(others)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(others["weights"], values["weights"])
    torch.testing.assert_close(back, point)
    if dense:
        with program.isolated(seed=0):
            curvature = Target(other).hessian(point.numpy())
        np.testing.assert_allclose(curvature, -np.eye(2), atol=1e-12)


def test_prior_draws_are_those_of_the_program():
    program = build_program(regression, DATA)
    other = placed(program, MEAN, torch.linalg.cholesky(COVARIANCE))
    with program.isolated(seed=3):
        wanted = program.prior_draw()
    with program.isolated(seed=3):
        torch.testing.assert_close(other.original(other.prior_draw()), wanted)
