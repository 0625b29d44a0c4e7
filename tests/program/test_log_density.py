"""Log densities and gradients against closed forms."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from closed_forms import DATA, EVIDENCE, MEAN, PRECISION, log_normal_density, log_posterior, regression
from scipy.integrate import quad
from scipy.special import betaln, expit, gammaln
from scipy.stats import betabinom

from ppl_models.program import build_program

from .evaluation import points, value_and_gradient

EXACT = {"rel": 1e-10, "abs": 1e-12}
Y = np.array([0.3, -1.2, 2.5])


def normal_mean(y):
    mu = pyro.sample("mu", dist.Normal(1.0, 2.0))
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.Normal(mu, 0.5), obs=y)


def normal_scale(y):
    sigma = pyro.sample("sigma", dist.HalfNormal(2.0))
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.Normal(0.0, sigma), obs=y)


def counts_of_categories(counts):
    shares = pyro.sample("shares", dist.Dirichlet(torch.tensor([0.5, 2.0, 1.5, 3.0])))
    pyro.sample("counts", dist.Multinomial(probs=shares, validate_args=False), obs=counts)


def correlation():
    pyro.sample("L", dist.LKJCholesky(2, 1.7))


def coin(k):
    share = pyro.sample("share", dist.Beta(2.0, 3.5))
    pyro.sample("k", dist.Binomial(10, share), obs=k)


def test_conjugate_normal():
    program = build_program(normal_mean, (Y,))
    for (mu,) in points(program).tolist():
        value, gradient = value_and_gradient(program, [mu])
        assert value == pytest.approx(log_normal_density(mu, 1.0, 2.0) + log_normal_density(Y, mu, 0.5).sum(), **EXACT)
        assert gradient.tolist() == pytest.approx([-(mu - 1.0) / 4.0 + (Y - mu).sum() / 0.25], **EXACT)


def test_linear_gaussian_is_evidence_times_posterior():
    program = build_program(regression, DATA)
    for flat in points(program):
        value, gradient = value_and_gradient(program, flat)
        assert value == pytest.approx(EVIDENCE + float(log_posterior(flat)), **EXACT)
        torch.testing.assert_close(gradient, -PRECISION @ (flat - MEAN), rtol=1e-10, atol=1e-12)


def test_half_normal_scale_has_its_jacobian():
    program = build_program(normal_scale, (Y,))
    for (log_sigma,) in points(program).tolist():
        sigma = np.exp(log_sigma)
        prior = np.log(2) + log_normal_density(sigma, 0.0, 2.0)
        value, gradient = value_and_gradient(program, [log_sigma])
        assert value == pytest.approx(prior + log_sigma + log_normal_density(Y, 0.0, sigma).sum(), **EXACT)
        assert gradient.tolist() == pytest.approx([-(sigma**2) / 4 + 1 - len(Y) + (Y**2).sum() / sigma**2], **EXACT)


def test_dirichlet_is_independent_betas_of_the_broken_stick():
    counts, prior = np.array([3.0, 0.0, 4.0, 1.0]), np.array([0.5, 2.0, 1.5, 3.0])
    program = build_program(counts_of_categories, (counts,))
    posterior = prior + counts
    first, rest = posterior[:-1], posterior[::-1].cumsum()[::-1][1:]
    constant = gammaln(prior.sum()) - gammaln(prior).sum() + gammaln(counts.sum() + 1) - gammaln(counts + 1).sum()
    for flat in points(program):
        share = expit(flat.numpy() - np.log(np.arange(3, 0, -1)))
        value, gradient = value_and_gradient(program, flat)
        wanted = constant + (first * np.log(share) + rest * np.log1p(-share)).sum()
        assert value == pytest.approx(wanted, **EXACT)
        assert gradient.tolist() == pytest.approx(first * (1 - share) - rest * share, **EXACT)


def test_lkj_of_two_is_a_beta_of_the_correlation():
    program = build_program(correlation, ())
    for (u,) in points(program).tolist():
        r, eta = np.tanh(u), 1.7
        value, gradient = value_and_gradient(program, [u])
        normaliser = (2 * eta - 1) * np.log(2) + betaln(eta, eta)
        assert value == pytest.approx((eta - 1) * np.log1p(-r * r) - normaliser + np.log1p(-r * r), **EXACT)
        assert gradient.tolist() == pytest.approx([-2 * r * eta], **EXACT)


def test_beta_binomial():
    program = build_program(coin, (torch.tensor(7.0),))
    choose = gammaln(11) - gammaln(8) - gammaln(4)
    for (u,) in points(program).tolist():
        share = expit(u)
        value, gradient = value_and_gradient(program, [u])
        wanted = choose - betaln(2.0, 3.5) + (2 + 7) * np.log(share) + (3.5 + 3) * np.log1p(-share)
        assert value == pytest.approx(wanted, **EXACT)
        assert gradient.tolist() == pytest.approx([9 * (1 - share) - 6.5 * share], **EXACT)
    area, error = quad(lambda u: np.exp(value_and_gradient(program, [u])[0]), -20, 20, points=[0.0], limit=20)
    assert abs(area - betabinom.pmf(7, 10, 2.0, 3.5)) < 10 * error + 1e-8


def test_log_joint_has_no_jacobian():
    program = build_program(normal_scale, (Y,))
    with program.isolated():
        found = float(program.log_joint({"sigma": torch.tensor(1.3, dtype=torch.float64)}))
    assert found == pytest.approx(
        np.log(2) + log_normal_density(1.3, 0.0, 2.0) + log_normal_density(Y, 0.0, 1.3).sum(), **EXACT
    )


def test_log_likelihood_is_one_term_per_observation():
    program = build_program(normal_mean, (Y,))
    with program.isolated():
        found = program.log_likelihood({"mu": torch.tensor(0.4, dtype=torch.float64)})
    assert found["y"].tolist() == pytest.approx(log_normal_density(Y, 0.4, 0.5), **EXACT)


def test_observation_that_broadcasts_has_a_term_each():
    def model(y):
        pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("row", 3):
            pyro.sample("y", dist.Normal(0.0, 1.0), obs=y)

    program = build_program(model, (torch.tensor(0.5),))
    with program.isolated():
        values = {"mu": torch.tensor(0.0, dtype=torch.float64)}
        terms, prior = program.log_likelihood(values)["y"], log_normal_density(0.0, 0.0, 1.0)
        assert terms.shape == (3,)
        assert float(terms.sum()) + prior == pytest.approx(float(program.log_joint(values)), **EXACT)
