"""Bridge sampling against evidences in closed form, and the coverage of its intervals."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from closed_forms import COVARIANCE, DATA, EVIDENCE, MEAN, MEAN_FIELD_SD, X, Y, regression
from scipy.stats import norm

import ppl_models as ppl
from ppl_models.errors import DataError, ModelError, OptionError, UnknownNameError
from ppl_models.inference.evidence.bridge import bridge
from ppl_models.inference.evidence.bridge_evidence import bridge_evidence
from ppl_models.program import build_program

PROGRAM = build_program(regression, DATA)
LENGTH = 500


def chains(rng, shape, decay):
    """Standard normal chains with a lag-one autocorrelation, shape (..., draw)."""
    noise = rng.standard_normal(shape)
    found = np.empty(shape)
    found[..., 0] = noise[..., 0]
    for place in range(1, shape[-1]):
        found[..., place] = decay * found[..., place - 1] + math.sqrt(1.0 - decay**2) * noise[..., place]
    return found


def tree_of(values, data=None):
    """Draws (chain, draw, *event) as `ppl.sample` gives them."""
    variables = {name: xr.DataArray(v, dims=("chain", "draw", *"abc"[: v.ndim - 2])) for name, v in values.items()}
    groups = {"posterior": xr.Dataset(variables)}
    if data is not None:
        groups["observed_data"] = xr.Dataset({name: xr.DataArray(value) for name, value in data.items()})
    return xr.DataTree.from_dict(groups)


def exact_draws(seed=0, decay=0.5, shift=0.0):
    noise = chains(np.random.default_rng(seed), (4, 2, LENGTH), decay).transpose(0, 2, 1)
    return noise @ np.linalg.cholesky(COVARIANCE.numpy()).T + MEAN.numpy() + shift


def log_ratio(points, mean, sd, constant):
    """Of a standard normal times exp(constant) to another."""
    return norm.logpdf(points) + constant - norm.logpdf(points, mean, sd)


@pytest.mark.statistical
@pytest.mark.parametrize(("mean", "sd", "decay"), [(0.0, 1.4, 0.0), (1.0, 0.8, 0.6)])
def test_intervals_cover(mean, sd, decay):
    rng, repeats, reach = np.random.default_rng(1), 600, norm.isf(0.025)
    posterior = log_ratio(chains(rng, (repeats, 4, 200), decay), mean, sd, 3.0)
    proposed = log_ratio(mean + sd * rng.standard_normal((repeats, 800)), mean, sd, 3.0)
    found = [bridge(*sides) for sides in zip(posterior, proposed, strict=True)]
    away = np.array([(one.log_evidence - 3.0) / one.standard_error for one in found])
    cover = (np.abs(away) <= reach).mean()
    assert 0.93 < cover < 0.97, cover  # of 600: the share has a standard error of 0.009
    assert abs(away.mean()) < 4.0 / math.sqrt(repeats)


@pytest.mark.statistical
def test_the_error_counts_autocorrelation():
    """Taking a chain for independent draws promises too much, and the coverage shows it."""
    rng, repeats = np.random.default_rng(2), 120
    posterior = log_ratio(chains(rng, (repeats, 4, 250), 0.9), 1.0, 1.0, 0.0)
    proposed = log_ratio(1.0 + rng.standard_normal((repeats, 2_000)), 1.0, 1.0, 0.0)
    shuffled = rng.permuted(posterior.reshape(repeats, -1), axis=1).reshape(posterior.shape)
    blind = [bridge(*sides) for sides in zip(shuffled, proposed, strict=True)]
    assert np.mean([abs(one.log_evidence) <= 1.96 * one.standard_error for one in blind]) < 0.8


def test_the_fixed_point_is_one():
    """r = mean_q[l / (s l + (1 - s) r)] / mean_p[1 / (s l + (1 - s) r)], checked as it is written."""
    rng = np.random.default_rng(3)
    posterior = log_ratio(rng.standard_normal((4, 200)), 0.3, 1.5, 2.0)
    proposed = log_ratio(0.3 + 1.5 * rng.standard_normal(300), 0.3, 1.5, 2.0)
    found = bridge(posterior, proposed)
    # the share is that of the effective draws of the first round, near enough to those of the second
    share = found.effective_posterior / (found.effective_posterior + 300)
    r = math.exp(found.log_evidence)
    above = (np.exp(proposed) / (share * np.exp(proposed) + (1 - share) * r)).mean()
    below = (1.0 / (share * np.exp(posterior) + (1 - share) * r)).mean()
    assert above / below == pytest.approx(r, rel=1e-4)
    assert found.moved <= 1e-10


def test_the_same_density_on_both_sides_has_no_error():
    found = bridge(np.full((4, 50), 1.7), np.full(100, 1.7))
    assert found.log_evidence == pytest.approx(1.7, rel=1e-12)
    assert found.standard_error == pytest.approx(0.0, abs=1e-12)
    assert found.overlap == pytest.approx(1.0, rel=1e-12)


@pytest.mark.statistical
@pytest.mark.parametrize("proposal", ["normal", "t"])
def test_conjugate_regression(proposal):
    found = bridge_evidence(PROGRAM, tree_of({"weights": exact_draws()}), proposal=proposal, seed=1)
    assert abs(found.log_evidence - EVIDENCE) < 4.0 * found.standard_error
    assert found.standard_error < 0.05
    assert found.passed, found
    assert found.num_draws == 4 * LENGTH


def mean_field(x, y):
    pyro.sample("weights", dist.Normal(MEAN, MEAN_FIELD_SD).to_event(1))


@pytest.mark.statistical
def test_a_fit_as_the_other_end():
    fit = ppl.fit(regression, DATA, guide=mean_field, max_steps=2, seed=1, backend="eager")
    found = bridge_evidence(fit.program, tree_of({"weights": exact_draws()}), proposal=fit, num_proposals=2_000, seed=3)
    assert abs(found.log_evidence - EVIDENCE) < 4.0 * found.standard_error
    assert found.config["proposal"] == "mean_field"
    assert found.num_draws == 4 * LENGTH + 2_000
    assert found.passed, found


@pytest.mark.exhaustive
def test_a_fit_and_chains_of_its_model():
    fit = ppl.fit(regression, DATA, guide="normal", seed=1)
    draws = ppl.sample(regression, DATA, seed=2)
    for proposal in (fit, "normal", "t"):
        found = bridge_evidence(fit.program, draws, proposal=proposal, seed=3)
        assert abs(found.log_evidence - EVIDENCE) < 4.0 * found.standard_error
        assert found.passed, found


def ppca(loadings, y):
    with pyro.plate("image", len(y)):
        z = pyro.sample("z", dist.Normal(torch.zeros(loadings.shape[1]), 1.0).to_event(1))
        pyro.sample("y", dist.Normal(z @ loadings.mT, 0.5).to_event(1), obs=y)


@pytest.mark.statistical
def test_probabilistic_pca():
    """Twelve images of six pixels, two components: y ~ Normal(0, W W' + I / 4)."""
    rng = np.random.default_rng(4)
    loadings = torch.tensor(rng.normal(size=(6, 2)))
    covariance = loadings @ loadings.mT + 0.25 * torch.eye(6, dtype=torch.float64)
    y = dist.MultivariateNormal(torch.zeros(6, dtype=torch.float64), covariance)
    data = torch.tensor(rng.normal(size=(12, 6)) @ np.linalg.cholesky(covariance.numpy()).T)
    precision = torch.eye(2, dtype=torch.float64) + 4.0 * loadings.mT @ loadings
    means = 4.0 * torch.linalg.solve(precision, loadings.mT @ data.mT).mT.numpy()
    root = np.linalg.cholesky(np.linalg.inv(precision.numpy()))
    draws = rng.standard_normal((4, LENGTH, 12, 2)) @ root.T + means
    program = build_program(ppca, {"loadings": loadings, "y": data})
    found = bridge_evidence(program, tree_of({"z": draws}, {"y": data.numpy()}), seed=5)
    assert abs(found.log_evidence - float(y.log_prob(data).sum())) < 4.0 * found.standard_error
    assert found.standard_error < 0.1


def test_constrained_latents_are_bridged_without_their_bounds():
    """A rate with a gamma posterior: its evidence has a closed form, and its unconstrained density a Jacobian."""

    def counts(y):
        rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
        with pyro.plate("day", len(y)):
            pyro.sample("y", dist.Poisson(rate), obs=y)

    y = torch.tensor([3.0, 1.0, 4.0, 2.0])
    draws = np.random.default_rng(6).gamma(2.0 + 10.0, 1.0 / 5.0, (4, LENGTH))
    truth = math.lgamma(12.0) - 12.0 * math.log(5.0) - math.log(6 * 1 * 24 * 2)
    found = bridge_evidence(build_program(counts, {"y": y}), tree_of({"rate": draws}), seed=7)
    assert abs(found.log_evidence - truth) < 4.0 * found.standard_error
    assert found.standard_error < 0.02
    assert found.passed, found


def test_sides_that_never_meet_are_said():
    apart = bridge(np.full((4, 50), 900.0) + np.arange(50), -900.0 + np.arange(100.0))
    assert apart.overlap < 1e-6
    assert not apart.standard_error < 1.0
    none = bridge(np.zeros((4, 50)), np.full(100, -np.inf))
    assert none.log_evidence == -math.inf
    assert math.isnan(none.standard_error)


def far_away(x, y):
    pyro.sample("weights", dist.Normal(torch.tensor([4.0, -4.0]), 0.05).to_event(1))


@pytest.mark.statistical
def test_a_proposal_far_away_fails_its_checks():
    fit = ppl.fit(regression, DATA, guide=far_away, max_steps=2, seed=1, backend="eager")
    found = bridge_evidence(fit.program, tree_of({"weights": exact_draws()}), proposal=fit, seed=1)
    assert not found.passed
    assert "overlap" in {check.name for check in found.checks if check.passed is False}
    assert "richer guide" in found.advice


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"slope": exact_draws()}, "no latent 'weights' among 'slope'"),
        ({"weights": exact_draws()[..., :1]}, r"draws of 'weights': shape \(1,\), wanted \(2,\)"),
        ({"weights": exact_draws()[:, :5]}, "found 5 in each chain"),
        ({"weights": np.zeros((4, 50, 2))}, "do not vary"),
    ],
)
def test_draws_of_other_parameters_are_refused(values, message):
    with pytest.raises(DataError, match=message):
        bridge_evidence(PROGRAM, tree_of(values))


def test_draws_of_other_data_are_refused():
    with pytest.raises(DataError, match="other data: 'y' differs"):
        bridge_evidence(PROGRAM, tree_of({"weights": exact_draws()}, {"y": Y.numpy() + 1.0}))
    with pytest.raises(DataError, match="found ndarray, wanted a DataTree"):
        bridge_evidence(PROGRAM, exact_draws())


def test_proposals_that_cannot_serve_are_refused():
    tree = tree_of({"weights": exact_draws()})
    with pytest.raises(UnknownNameError, match="proposal 'gauss'"):
        bridge_evidence(PROGRAM, tree, proposal="gauss")
    with pytest.raises(OptionError, match="proposal: found int"):
        bridge_evidence(PROGRAM, tree, proposal=3)
    point = ppl.fit(regression, DATA, guide="delta", max_steps=2, seed=1, backend="eager")
    with pytest.raises(OptionError, match="guide 'delta' has no density"):
        bridge_evidence(point.program, tree, proposal=point)
    wider = ppl.fit(regression, {"x": X[:, [0, 1, 1]], "y": Y}, guide="normal", max_steps=2, seed=1, backend="eager")
    with pytest.raises(OptionError, match="a fit of a model with latents"):
        bridge_evidence(PROGRAM, tree, proposal=wider)


def test_discrete_latents_are_refused():
    def mixture(y):
        with pyro.plate("row", len(y)):
            kind = pyro.sample("kind", dist.Bernoulli(0.5))
            pyro.sample("y", dist.Normal(kind, 1.0), obs=y)

    with pytest.raises(ModelError, match="'kind'"):
        bridge_evidence(build_program(mixture, {"y": Y}), tree_of({"kind": np.zeros((4, 50, 4))}))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_on_cuda():
    fit = ppl.fit(regression, DATA, guide=mean_field, max_steps=2, seed=1, backend="eager", device="cuda")
    for proposal in (fit, "normal"):
        found = bridge_evidence(fit.program, tree_of({"weights": exact_draws()}), proposal=proposal, seed=1)
        assert abs(found.log_evidence - EVIDENCE) < 4.5 * found.standard_error
