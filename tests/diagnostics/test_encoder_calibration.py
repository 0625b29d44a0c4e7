import numpy as np
import pytest
from scipy.stats import binom

from ppl_models.diagnostics import encoder_ranks
from ppl_models.errors import DataError

LOADINGS = np.array([[1.0, 0.5], [0.0, 2.0], [-1.0, 0.3]])
COVARIANCE = np.linalg.inv(np.eye(2) + LOADINGS.T @ LOADINGS)


def ranks(seed, *, narrower=1.0, shift=0.0, independent=False, num_simulations=200, num_draws=99):
    """z ~ N(0, I), x ~ N(L z, I): the exact posterior of z, or a faulty q in its place."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(num_simulations, 2))
    x = z @ LOADINGS.T + rng.normal(size=(num_simulations, 3))
    mean = x @ LOADINGS @ COVARIANCE + shift * np.sqrt(np.diag(COVARIANCE))
    factor = np.diag(np.sqrt(np.diag(COVARIANCE))) if independent else np.linalg.cholesky(COVARIANCE)
    draws = mean + narrower * rng.normal(size=(num_draws, num_simulations, 2)) @ factor.T

    def joint(values):
        return -0.5 * (values**2).sum(-1) - 0.5 * ((x - values @ LOADINGS.T) ** 2).sum(-1)

    return encoder_ranks(z, draws, ["z[0]", "z[1]"], scores={"log p(x, z)": (joint(z), joint(draws))}, seed=seed)


def test_exact_posterior_fails_no_more_often_than_stated():
    number = 200
    failed = sum(ranks(seed, num_simulations=100, num_draws=49).check.passed is False for seed in range(number))
    assert failed <= binom.ppf(1.0 - 1e-4, number, 0.05)


@pytest.mark.parametrize(
    ("fault", "words"),
    [({"narrower": 0.5}, "too narrow"), ({"narrower": 2.0}, "too wide"), ({"shift": 0.5}, "biased high")],
)
def test_faults_are_found_and_named(fault, words):
    check = ranks(1, **fault).check
    assert check.passed is False
    assert words in check.detail
    assert ("of the units worst" in check.detail) == ("worst: `log p(x, z)`" in check.detail)  # no unit is named twice
    assert check.name == "SBC of the encoder"
    assert check.advice


def test_lost_correlation_is_seen_by_the_joint_density_alone():
    """Both marginals are right; only the density of the pair is not."""
    strong = np.array([[2.0, 1.9]])
    covariance = np.linalg.inv(np.eye(2) + strong.T @ strong)
    rng = np.random.default_rng(2)
    z = rng.normal(size=(500, 2))
    x = z @ strong.T + rng.normal(size=(500, 1))
    draws = x @ strong @ covariance + rng.normal(size=(99, 500, 2)) * np.sqrt(np.diag(covariance))

    def joint(values):
        return -0.5 * (values**2).sum(-1) - 0.5 * ((x - values @ strong.T) ** 2).sum(-1)

    assert encoder_ranks(z, draws, ["a", "b"]).check.passed is True
    found = encoder_ranks(z, draws, ["a", "b"], scores={"log p(x, z)": (joint(z), joint(draws))})
    assert found.check.passed is False
    assert "`log p(x, z)`" in found.check.detail


def test_few_simulations_are_no_pass():
    assert ranks(3, num_simulations=10).check.passed is None


def test_coverage_has_a_row_for_each_level():
    assert set(ranks(4).coverage["quantity"]) == {"z[0]", "z[1]", "log p(x, z)"}


def test_wrong_shapes_are_refused():
    with pytest.raises(DataError, match="needs"):
        encoder_ranks(np.zeros(3), np.zeros((2, 3)), ["a"])
