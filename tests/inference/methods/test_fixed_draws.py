import numpy as np
import pytest

from ppl_models.inference.methods.fixed_draws import MAX_WHITENED, enough_pairs, fixed_draws


@pytest.mark.parametrize("num_dims", [1, 3, 40])
def test_draws_have_all_moments_of_a_standard_normal_up_to_the_third(num_dims):
    draws = fixed_draws(enough_pairs(8, num_dims), num_dims, np.random.default_rng(0))
    np.testing.assert_allclose(draws.T @ draws / len(draws), np.eye(num_dims), atol=1e-12)
    np.testing.assert_array_equal(draws[len(draws) // 2 :], -draws[: len(draws) // 2])
    thirds = np.einsum("mi,mj,mk->ijk", draws, draws, draws) / len(draws)
    np.testing.assert_allclose(thirds, 0.0, atol=1e-12)


def test_with_many_dims_each_has_variance_one():
    draws = fixed_draws(enough_pairs(64, MAX_WHITENED + 1), MAX_WHITENED + 1, np.random.default_rng(0))
    assert draws.shape == (128, MAX_WHITENED + 1)
    np.testing.assert_allclose(np.square(draws).mean(axis=0), 1.0, rtol=1e-12)


@pytest.mark.statistical
def test_fourth_moments_are_a_normals_within_their_error():
    """Whitening moves them by a share of one over the pairs only."""
    pairs = 512
    rng = np.random.default_rng(0)
    fourth = np.array([(fixed_draws(pairs, 2, rng) ** 4).mean() for _ in range(200)])
    assert abs(fourth.mean() - 3.0) < 4.0 * fourth.std(ddof=1) / np.sqrt(len(fourth)) + 6.0 / pairs
