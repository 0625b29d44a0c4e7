"""Likelihoods: log densities beside scipy's, means, draws, and what is refused."""

import numpy as np
import pyro.distributions as dist
import pytest
import scipy.special
import scipy.stats
import torch
from scipy.integrate import quad

from ppl_models.autoencoders import (
    LIKELIHOODS,
    Bernoulli,
    Categorical,
    ContinuousBernoulli,
    Gaussian,
    Likelihood,
    NegativeBinomial,
    Poisson,
    as_likelihood,
)
from ppl_models.autoencoders.likelihoods.continuous_bernoulli import SMALL, TiltedUniform
from ppl_models.errors import ModelError, OptionError, UnknownNameError
from tests.randomness import seeded

EXACT = {"rtol": 1e-10, "atol": 1e-13}
OUTPUTS = torch.tensor([[-30.0, -3.0, -0.2, 0.0, 1e-4, 0.7, 25.0]], dtype=torch.float64)
NUM_FEATURES = OUTPUTS.shape[-1]
OPTIONS = {"categorical": {"num_levels": 5}}


def made(name: str, num_features: int = NUM_FEATURES, **options) -> Likelihood:
    return as_likelihood(name, num_features, **{**OPTIONS.get(name, {}), **options}).double()


def log_density(likelihood: Likelihood, outputs: torch.Tensor, value: float) -> np.ndarray:
    """Of each feature alone, at the same value."""
    with torch.no_grad():
        return likelihood.distribution(outputs).log_prob(torch.tensor(value, dtype=outputs.dtype)).numpy()


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_bernoulli_is_scipys(value):
    logits = OUTPUTS.numpy()
    # scipy.stats.bernoulli rounds p to 1; its log masses are these logistic ones
    wanted = scipy.stats.logistic.logcdf(logits if value else -logits)
    np.testing.assert_allclose(log_density(made("bernoulli"), OUTPUTS, value), wanted, **EXACT)


@pytest.mark.parametrize("value", [0.0, 1e-9, 0.3, 0.5, 1.0])
def test_continuous_bernoulli_is_scipys_truncated_exponential(value):
    logits = torch.tensor([-800.0, -30.0, -2.0, -0.06, 0.06, 2.0, 30.0, 800.0], dtype=torch.float64)
    size = np.abs(logits.numpy())
    from_mode = np.where(logits.numpy() < 0, value, 1 - value)
    wanted = scipy.stats.truncexpon.logpdf(from_mode, size, scale=1 / size)
    likelihood = made("continuous_bernoulli", len(logits))
    np.testing.assert_allclose(log_density(likelihood, logits, value), wanted, **EXACT)


@pytest.mark.parametrize("logit", [0.0, 1e-12, 1e-6, -1e-3, 0.04999, 0.05001, -0.049, -0.051])
def test_continuous_bernoulli_near_the_uniform(logit):
    """Both sides of where the power series takes over; the closed form by expm1, which is exact there."""
    logits = torch.tensor([logit], dtype=torch.float64, requires_grad=True)
    constant = 0.0 if logit == 0 else np.log(np.expm1(logit) / logit)
    mean = 0.5 + logit / 12 - logit**3 / 720 + logit**5 / 30_240
    likelihood = made("continuous_bernoulli", 1)
    for value in (0.0, 0.25, 1.0):
        np.testing.assert_allclose(log_density(likelihood, logits, value), [logit * value - constant], atol=1e-13)
        found = likelihood(logits).log_prob(torch.tensor([value]).double())
        (slope,) = torch.autograd.grad(found, logits)
        np.testing.assert_allclose(slope.item(), value - mean, atol=1e-12)
    np.testing.assert_allclose(likelihood.mean(logits).item(), mean, atol=1e-12)


@pytest.mark.parametrize("logit", [-900.0, -7.0, 0.01, 4.0, 900.0])
def test_continuous_bernoulli_integrates_to_one_and_has_its_mean(logit):
    law = TiltedUniform(torch.tensor(logit, dtype=torch.float64))

    def density(x):
        return float(law.log_prob(torch.tensor(x, dtype=torch.float64)).exp())

    edge = min(1.0, 40 / abs(logit))
    where = {"points": sorted({edge, 1 - edge})} if edge < 1 else {}
    total, error = quad(density, 0, 1, **where, limit=200)
    np.testing.assert_allclose(total, 1.0, atol=max(1e-9, 10 * error))
    mean, error = quad(lambda x: x * density(x), 0, 1, **where, limit=200)
    np.testing.assert_allclose(float(law.mean), mean, atol=max(1e-9, 10 * error))


def test_torchs_continuous_bernoulli_is_wrong_at_strong_logits_and_ours_is_not():
    """What ours is for: by way of probabilities the normaliser stops growing, and the density is too low."""
    logit, x = torch.tensor(40.0), torch.tensor(1.0)
    exact = np.log(40.0) - np.log(-np.expm1(-40.0))
    assert abs(float(TiltedUniform(logit).log_prob(x)) - exact) < 1e-6
    assert abs(float(dist.ContinuousBernoulli(logits=logit).log_prob(x)) - exact) > 0.5


def test_continuous_bernoulli_draws_follow_their_law():
    """Of 20,000 draws at each logit: the distribution function at the draws is uniform (Kolmogorov and Smirnov)."""
    logits = torch.tensor([-20.0, -1.0, SMALL / 2, -SMALL / 2, 0.0, 3.0, 200.0], dtype=torch.float64)
    with seeded(3):
        draws = TiltedUniform(logits).sample((20_000,))
    assert bool(((draws >= 0) & (draws <= 1)).all())
    for logit, column in zip(logits.tolist(), draws.T.numpy(), strict=True):
        uniform = column if logit == 0 else np.expm1(logit * column) / np.expm1(logit)
        assert scipy.stats.kstest(uniform, "uniform").pvalue > 1e-4 / len(logits)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 3e-4), (torch.float64, 1e-11)])
@pytest.mark.parametrize("theta", [0.05, 99.9, 100.1, 1e4, 1e7])
def test_negative_binomial_keeps_its_digits_at_any_dispersion(dtype, error, theta):
    """Torch's is off by nats in float32 at a large θ. Against the product that the rising factorial is."""
    outputs, counts = torch.tensor([-8.0, 0.5, 2.0, 4.0], dtype=dtype), torch.tensor([0.0, 1.0, 5.0, 60.0], dtype=dtype)
    likelihood = NegativeBinomial(4, rate="exp", init_inverse_dispersion=theta).to(dtype)
    exact = float(likelihood.inverse_dispersion[0].detach())
    odds = np.exp(outputs.double().numpy()) / exact
    rising = [np.log1p(np.arange(int(x)) / exact).sum() + x * np.log(exact) for x in counts.tolist()]
    wanted = rising - scipy.special.gammaln(counts.numpy() + 1.0) - exact * np.log1p(odds)
    wanted = wanted + counts.double().numpy() * (np.log(odds) - np.log1p(odds))
    law = likelihood.distribution(outputs.requires_grad_())
    found = law.log_prob(counts)
    np.testing.assert_allclose(found.detach(), wanted, atol=error)
    torchs = dist.NegativeBinomial(law.total_count, logits=law.logits).log_prob(counts).detach()
    if theta == 1e7 and dtype == torch.float32:
        assert np.abs(torchs.numpy() - wanted).max() > 0.5
    slopes = torch.autograd.grad(found.sum(), [outputs, likelihood.log_inverse_dispersion])
    mean = np.exp(outputs.detach().double().numpy())
    np.testing.assert_allclose(slopes[0], (counts.numpy() - mean) / (1 + odds), rtol=1e-3, atol=1e-5)
    harmonic = [(1 / (exact + np.arange(int(x)))).sum() for x in counts.tolist()]
    of_theta = exact * (np.array(harmonic) - np.log1p(odds) + odds / (1 + odds)) - counts.numpy() / (1 + odds)
    np.testing.assert_allclose(slopes[1], of_theta, atol=1e-2 if dtype == torch.float32 else 1e-7)


@pytest.mark.parametrize("value", [-3.0, 0.0, 1e6])
@pytest.mark.parametrize("scale", ["shared", "feature", "output", 0.3])
def test_gaussian_is_scipys(scale, value):
    likelihood = made("gaussian", scale=scale, min_scale=1e-3)
    outputs, scales = OUTPUTS, np.full(NUM_FEATURES, 0.3)
    if scale == "output":
        raw = np.linspace(-40, 5, NUM_FEATURES)
        outputs, scales = torch.cat([OUTPUTS, torch.tensor(raw)[None]], -1), 1e-3 + np.logaddexp(0, raw)
    elif scale != 0.3:
        scales = np.array([0.3]) if scale == "shared" else np.linspace(0.1, 2, NUM_FEATURES)
        likelihood.set_scale(torch.tensor(scales))
        np.testing.assert_allclose(likelihood.scale.detach().numpy(), scales, rtol=1e-12)
    wanted = scipy.stats.norm.logpdf(value, OUTPUTS.numpy(), scales)
    np.testing.assert_allclose(log_density(likelihood, outputs, value), wanted, **EXACT)
    assert likelihood.mean(outputs).tolist() == OUTPUTS.tolist()


@pytest.mark.parametrize("level", range(5))
def test_categorical_is_a_softmax_of_each_features_logits(level):
    logits = np.random.default_rng(0).normal(0, 8, (3, NUM_FEATURES, 5))
    likelihood = made("categorical")
    outputs = torch.tensor(logits.reshape(3, -1))
    wanted = logits - scipy.special.logsumexp(logits, -1, keepdims=True)
    np.testing.assert_allclose(log_density(likelihood, outputs, level), wanted[..., level], **EXACT)
    np.testing.assert_allclose(likelihood.mean(outputs).numpy(), np.exp(wanted) @ np.arange(5), **EXACT)


@pytest.mark.parametrize("value", [0.0, 1.0, 7.0, 1_000.0])
@pytest.mark.parametrize("rate", ["exp", "softplus"])
def test_poisson_is_scipys(rate, value):
    log_means = OUTPUTS.numpy() if rate == "exp" else np.log(np.logaddexp(0, OUTPUTS.numpy()))
    wanted = scipy.stats.poisson.logpmf(value, np.exp(log_means))
    likelihood = made("poisson", rate=rate)
    np.testing.assert_allclose(log_density(likelihood, OUTPUTS, value), wanted, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(likelihood.mean(OUTPUTS).numpy(), np.exp(log_means), rtol=1e-12)


@pytest.mark.parametrize("value", [0.0, 1.0, 7.0, 1_000.0])
@pytest.mark.parametrize("rate", ["exp", "softplus"])
def test_negative_binomial_is_scipys(rate, value):
    outputs = OUTPUTS.clamp(-12.0, 12.0)  # scipy's takes a probability, which rounds to one beyond
    means = np.exp(outputs.numpy()) if rate == "exp" else np.logaddexp(0, outputs.numpy())
    inverse = np.linspace(0.1, 30, NUM_FEATURES)
    likelihood = made("negative_binomial", rate=rate)
    with torch.no_grad():
        likelihood.log_inverse_dispersion.copy_(torch.tensor(inverse).log())
    wanted = scipy.stats.nbinom.logpmf(value, inverse, inverse / (inverse + means))
    np.testing.assert_allclose(log_density(likelihood, outputs, value), wanted, rtol=1e-10, atol=1e-9)
    law = likelihood.distribution(outputs)
    np.testing.assert_allclose(likelihood.mean(outputs).detach().numpy(), means, rtol=1e-10)
    np.testing.assert_allclose(law.variance.detach().numpy(), means + means**2 / inverse, rtol=1e-10)


def test_a_negative_binomial_with_little_dispersion_is_nearly_poisson():
    """Their difference falls as one over the inverse dispersion: here at most (x - μ)² + x over twice it."""
    outputs = torch.tensor([-1.0, 0.5, 2.0], dtype=torch.float64)
    likelihood = made("negative_binomial", 3, rate="exp", init_inverse_dispersion=1e6)
    for value in (0.0, 3.0, 12.0):
        gap = log_density(likelihood, outputs, value) - log_density(made("poisson", 3, rate="exp"), outputs, value)
        assert (np.abs(gap) <= 1e-6 * ((value - np.exp(outputs.numpy())) ** 2 + value + 1)).all()


@pytest.mark.parametrize("rate", ["exp", "softplus"])
@pytest.mark.parametrize("name", ["poisson", "negative_binomial"])
def test_count_densities_and_slopes_stay_finite_where_rates_are_extreme(name, rate):
    outputs = torch.tensor([-200.0, -90.0, -20.5, 0.0, 85.0 if rate == "exp" else 1e30], requires_grad=True)
    likelihood = as_likelihood(name, 5, rate=rate)
    found = likelihood(outputs).log_prob(torch.tensor([1.0, 0.0, 2.0, 3.0, 4.0]))
    (slope,) = torch.autograd.grad(found, outputs)
    assert bool(found.isfinite())
    assert bool(slope.isfinite().all())
    assert abs(float(slope[0]) - 1.0) < 1e-5  # d log p / d log rate = x - rate


def test_continuous_bernoullis_stay_finite_at_extreme_logits():
    logits = torch.tensor([-1e30, -1e5, 0.0, 1e5, 1e30], requires_grad=True)
    law = ContinuousBernoulli(5)(logits)
    for value in (law.log_prob(torch.tensor([0.0, 0.1, 0.3, 0.9, 1.0])), law.mean.sum(), law.rsample().sum()):
        (slope,) = torch.autograd.grad(value, logits)
        assert bool(value.isfinite())
        assert bool(slope.isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_every_likelihood_keeps_the_protocol(name, dtype):
    """Shapes with leading axes, draws in the support with finite densities, means, gradients, vmap."""
    likelihood = as_likelihood(name, 4, **OPTIONS.get(name, {})).to(dtype)
    with seeded(1):
        outputs = torch.randn(2, 3, likelihood.num_outputs, dtype=dtype, requires_grad=True)
        law = likelihood(outputs)
        draw = law.sample()
    assert (law.batch_shape, law.event_shape) == ((2, 3), (4,))
    assert likelihood.mean(outputs).shape == draw.shape == (2, 3, 4)
    assert draw.dtype == dtype or name == "categorical"
    assert bool(law.support.check(draw).all())
    found = law.log_prob(draw.to(dtype))
    assert (found.shape, found.dtype) == ((2, 3), dtype)
    found.sum().backward()
    for tensor in (outputs, *likelihood.parameters()):
        assert bool(tensor.grad.isfinite().all())
        assert bool((tensor.grad != 0).any())
    mapped = torch.func.vmap(lambda o, x: likelihood(o).log_prob(x))(outputs, draw.to(dtype))
    torch.testing.assert_close(mapped, found)
    expanded = likelihood(outputs[0, 0]).expand([5])
    torch.testing.assert_close(expanded.log_prob(draw[0, 0].to(dtype)), found[0, 0].expand(5))


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_means_are_those_of_draws(name):
    """The mean of 20,000 draws is within z standard errors, z for one error in 10,000 over all features and cases."""
    likelihood = made(name, 4)
    with seeded(2), torch.no_grad():
        outputs = torch.randn(likelihood.num_outputs, dtype=torch.float64)
        draws = likelihood(outputs).sample((20_000,)).double()
        error = draws.std(0) / len(draws) ** 0.5
        z = scipy.stats.norm.isf(0.5e-4 / (4 * len(LIKELIHOODS)))
        assert bool(((draws.mean(0) - likelihood.mean(outputs)).abs() <= z * error).all())


@pytest.mark.parametrize(
    ("name", "bad"),
    [("bernoulli", 0.5), ("continuous_bernoulli", 1.01), ("categorical", 5.0), ("poisson", -1.0),
     ("negative_binomial", 0.5), ("gaussian", float("nan"))],
)  # fmt: skip
def test_validation_refuses_values_outside_the_support(name, bad):
    likelihood = made(name, 2)
    law = likelihood(torch.zeros(likelihood.num_outputs, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"to be within the support|boolean|support"):
        law.log_prob(torch.tensor([0.0, bad], dtype=torch.float64))


def test_a_likelihood_is_known_by_name_or_is_an_instance():
    assert isinstance(as_likelihood("poisson", 3, rate="softplus"), Poisson)
    own = Gaussian(3, scale="feature")
    assert as_likelihood(own) is own
    assert {type(made(name)) for name in LIKELIHOODS} == {
        Bernoulli, Categorical, ContinuousBernoulli, Gaussian, NegativeBinomial, Poisson
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "options", "error", "says"),
    [
        (("poison", 3), {}, UnknownNameError, "poisson"),
        (("poisson",), {}, OptionError, "num_features: missing"),
        (("poisson", 3), {"rates": "exp"}, OptionError, "rates"),
        (("poisson", 3), {"rate": "log"}, UnknownNameError, "softplus"),
        (("categorical", 3), {}, OptionError, "num_levels"),
        (("gaussian", 3), {"scale": "row"}, OptionError, "'feature'"),
        (("gaussian", 3), {"scale": -1.0}, OptionError, "above 0"),
        (("gaussian", 3), {"init_scale": 1e-3}, OptionError, "min_scale"),
        (("bernoulli", 0), {}, OptionError, "num_features"),
        ((Bernoulli(4), 3), {}, OptionError, "has 4"),
        ((Bernoulli(4),), {"rate": "exp"}, OptionError, "instance"),
    ],
)
def test_wrong_likelihoods_are_refused(arguments, options, error, says):
    with pytest.raises(error, match=says):
        as_likelihood(*arguments, **options)


def test_a_decoder_of_the_wrong_width_is_named():
    with pytest.raises(ModelError, match=r"needs 20 numbers"):
        made("categorical", 4)(torch.zeros(3, 4))
    with pytest.raises(OptionError, match="stddev"):
        _ = Gaussian(3, scale="output").scale
    with pytest.raises(OptionError, match="set_scale"):
        Gaussian(3, scale=0.1).set_scale(1.0)
