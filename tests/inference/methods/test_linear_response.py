from types import SimpleNamespace

import numpy as np
import pytest

from ppl_models.errors import OptionError
from ppl_models.inference.methods import METHODS, Normal
from ppl_models.inference.methods.linear_response import _root
from tests.inference.methods.doubles import Double, normal_density, run
from tests.inference.methods.test_dadvi import bent, gaussian

DADVI, LINEAR_RESPONSE = METHODS["dadvi"], METHODS["linear_response"]


@pytest.mark.parametrize("num_dims", [1, 2, 20])
def test_on_a_normal_mean_and_covariance_are_exact(num_dims):
    mean, root = gaussian(num_dims)
    found = run(Double(normal_density(mean, root), num_dims), LINEAR_RESPONSE)
    assert found.status == "converged"
    white = np.linalg.solve(root, found.approximation.root)
    np.testing.assert_allclose(white @ white.T, np.eye(num_dims), atol=1e-6)
    np.testing.assert_allclose(np.linalg.solve(root, found.approximation.mean - mean), 0.0, atol=1e-6)


def test_covariance_is_how_the_means_answer_a_tilted_posterior():
    begin = Normal(np.array([1.0, 0.5]), np.array([0.6, 1.0]), 0.0, 0)
    root = run(Double(bent, 2), LINEAR_RESPONSE, begin=begin, tolerance=1e6).approximation.root
    step, answers = 1e-4, []
    for axis in range(2):
        ends = [
            run(
                Double(lambda x, t=side * step, axis=axis: bent(x) + t * x[:, axis], 2),
                DADVI,
                begin=begin,
                tolerance=1e6,
            )
            for side in (1.0, -1.0)
        ]
        answers.append((ends[0].approximation.mean - ends[1].approximation.mean) / (2.0 * step))
    # central differences err by the step squared, and by the optima's rounding over the step
    np.testing.assert_allclose(root @ root.T, np.array(answers), atol=1e-6)


def test_more_latents_than_a_dense_solve_serves_are_refused():
    with pytest.raises(OptionError, match=r"found 1,001 latents, wanted at most 1,000\. Use method='dadvi'"):
        run(Double(lambda x: -x.square().sum(-1), 1_001), LINEAR_RESPONSE)


def test_what_is_no_covariance_is_seen():
    objective = SimpleNamespace(num_dims=2, out=lambda a: a)
    assert _root(objective, SimpleNamespace(dense=np.diag([1.0, -1.0, 1.0, 1.0]))) is None
    assert _root(objective, SimpleNamespace(dense=np.diag([1.0, 1.0, 1.0, -1.0]))) is None
    np.testing.assert_allclose(_root(objective, SimpleNamespace(dense=np.eye(4))), np.eye(2))


def test_no_convergence_gives_the_scales_of_independent_normals():
    found = run(Double(lambda x: 0.0 * x.sum(-1), 2), LINEAR_RESPONSE)
    assert found.status == "diverged"
    assert found.approximation.root.shape == (2, 2)
