"""Particle filters against Kalman's closed form: unbiased on the scale of p, whatever the resampling."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import norm

from ppl_models.errors import DataError, ModelError, OptionError, UnknownNameError
from ppl_models.inference.evidence import particle_filter as module
from ppl_models.inference.evidence.particle_filter import particle_filter
from ppl_models.inference.evidence.pyro_state_space import PyroStateSpace
from ppl_models.inference.evidence.resampling import RESAMPLERS, resample
from ppl_models.inference.evidence.state_space import StateSpace
from ppl_models.inference.evidence.weight_means import interval, log_mean

DECAY, DRIFT, NOISE = 0.9, 0.5, 0.7
LEVEL = StateSpace(
    lambda: dist.Normal(0.0, 1.0),
    lambda time, state: dist.Normal(DECAY * state, DRIFT),
    lambda time, state: dist.Normal(state, NOISE),
)
Y = np.random.default_rng(5).normal(0.0, 1.3, 12)


def optimal(time, state, observed):
    """The state given the one before and the observation: no particle is wasted on the noise."""
    mean, variance = (torch.zeros(1), 1.0) if time == 0 else (DECAY * state, DRIFT**2)
    precision = 1.0 / variance + 1.0 / NOISE**2
    return dist.Normal((mean / variance + observed / NOISE**2) / precision, precision**-0.5)


def kalman(y, skip_first=False):
    """Log evidence in nats, means and sds of the state given the past."""
    mean, variance, total, means, sds = 0.0, 1.0, 0.0, [], []
    for time, value in enumerate(y):
        if time or skip_first:
            mean, variance = DECAY * mean, DECAY**2 * variance + DRIFT**2
        if not np.isnan(value):
            spread = variance + NOISE**2
            total += norm.logpdf(value, mean, math.sqrt(spread))
            gain = variance / spread
            mean, variance = mean + gain * (value - mean), (1.0 - gain) * variance
        means.append(mean)
        sds.append(math.sqrt(variance))
    return total, np.array(means), np.array(sds)


def in_errors(found, truth):
    """How far the estimate of p lies from the truth, in standard errors of the mean of the runs' ratios."""
    ratio = np.exp(found.log_weights - truth)
    return float((ratio.mean() - 1.0) / (ratio.std(ddof=1) / math.sqrt(len(ratio))))


@pytest.mark.statistical
@pytest.mark.parametrize("resampling", RESAMPLERS)
@pytest.mark.parametrize("threshold", [0.5, 1.0])
def test_evidence_is_unbiased_on_the_scale_of_p(resampling, threshold):
    found = particle_filter(
        LEVEL, Y, num_particles=30, resampling=resampling, threshold=threshold, num_runs=4_000, seed=1
    )
    truth, means, sds = kalman(Y)
    assert abs(in_errors(found, truth)) < norm.isf(0.0005 / 8)
    assert np.abs((found.mean - means) / found.mean_error).max() < norm.isf(0.0005 / (8 * len(Y)))
    np.testing.assert_allclose(found.sd, sds, rtol=0.02)
    assert found.log_evidence == pytest.approx(truth, abs=5.0 * found.standard_error)


@pytest.mark.statistical
@pytest.mark.parametrize("proposal", [None, optimal])
def test_missing_observations_are_skipped(proposal):
    space = StateSpace(LEVEL.initial, LEVEL.transition, LEVEL.observation, proposal)
    y = Y.copy()
    y[[0, 4, 5, 11]] = np.nan
    truth, means, _ = kalman(y)
    found = particle_filter(space, y, num_particles=30, num_runs=2_000, seed=2)
    assert abs(in_errors(found, truth)) < 4.0
    assert np.abs((found.mean - means) / found.mean_error).max() < 4.5
    listed = [None if np.isnan(value) else value for value in y]
    assert particle_filter(space, listed, num_particles=30, num_runs=2_000, seed=2).log_evidence == found.log_evidence


@pytest.mark.statistical
def test_a_proposal_that_looks_at_the_observation_has_less_noise():
    guided = StateSpace(LEVEL.initial, LEVEL.transition, LEVEL.observation, optimal)
    truth, _, _ = kalman(Y)
    blind, seeing = (particle_filter(space, Y, num_particles=50, num_runs=1_000, seed=3) for space in (LEVEL, guided))
    assert abs(in_errors(seeing, truth)) < 4.0
    assert seeing.standard_error < 0.7 * blind.standard_error


@pytest.mark.statistical
def test_intervals_cover():
    truth, _, _ = kalman(Y[:8])
    runs = particle_filter(LEVEL, Y[:8], num_particles=40, num_runs=40_000, seed=4).log_weights.reshape(-1, 40).T
    low, high = interval(*log_mean(runs), len(runs), 0.95)
    cover = ((low <= truth) & (truth <= high)).mean()
    assert 0.93 < cover < 0.97, cover  # of 1,000 intervals: the share has a standard error of 0.007


@pytest.mark.parametrize(
    ("proposal", "passes"),
    [
        (
            lambda time, state, observed: dist.Uniform((m := torch.zeros(1) if time == 0 else state) - 1.0, m + 1.0),
            False,
        ),
        (lambda time, state, observed: dist.Normal(torch.zeros(1) if time == 0 else DECAY * state, 0.05), False),
        (lambda time, state, observed: dist.Normal(torch.zeros(1) if time == 0 else DECAY * state, 1.5), True),
        (optimal, True),
    ],
)
def test_a_proposal_that_misses_a_part_of_the_model_fails_its_check(proposal, passes):
    space = StateSpace(LEVEL.initial, LEVEL.transition, LEVEL.observation, proposal)
    found = particle_filter(space, Y, num_particles=200, num_runs=100, seed=3)
    check = found.checks[-1]
    assert check.name == "evidence that the proposal misses"
    assert check.passed is passes, check
    assert ("whatever the model can draw" in found.advice) is not passes


@pytest.mark.statistical
def test_the_check_says_how_much_a_proposal_misses():
    def uniform(time, state, observed):
        return dist.Normal(torch.zeros(1), 1.0) if time == 0 else dist.Uniform(state - 1.0, state + 1.0)

    found = particle_filter(
        StateSpace(LEVEL.initial, LEVEL.transition, LEVEL.observation, uniform), Y, num_particles=1_000, seed=3
    )
    lost = kalman(Y)[0] - float(found.log_evidence)
    assert lost > 8.0 * found.standard_error
    assert 0.5 * lost < found.checks[-1].value < 2.0 * lost


def test_a_sharp_proposal_where_the_model_seldom_draws_passes():
    """The observation's noise is 1e-4: no draw of the model is near it, and none tells against the proposal."""

    def sharp(time, state, observed):
        mean, variance = (torch.zeros(1), 1.0) if time == 0 else (DECAY * state, DRIFT**2)
        precision = 1.0 / variance + 1e8
        return dist.Normal((mean / variance + observed * 1e8) / precision, precision**-0.5)

    space = StateSpace(LEVEL.initial, LEVEL.transition, lambda time, state: dist.Normal(state, 1e-4), sharp)
    found = particle_filter(space, Y, num_particles=100, num_runs=100, seed=3)
    assert found.checks[-1].passed, found


def inherited(log_weights, ancestors):
    children = log_weights.gather(1, ancestors)
    return children - children.logsumexp(1, keepdim=True)


@pytest.mark.statistical
@pytest.mark.parametrize("kept", [inherited, lambda log_weights, ancestors: log_weights])
def test_forgetting_to_reset_the_weights_is_seen(kept, monkeypatch):
    def forgetful(log_weights, needed, resampler):
        ancestors, _ = resample(log_weights, needed, resampler)
        return ancestors, kept(log_weights, ancestors)

    monkeypatch.setattr(module, "resample", forgetful)
    found = particle_filter(LEVEL, Y, num_particles=30, num_runs=4_000, seed=1)
    truth, means, _ = kalman(Y)
    assert np.abs((found.mean - means) / found.mean_error).max() > 8.0
    if kept is inherited:
        assert abs(in_errors(found, truth)) > 8.0


@pytest.mark.statistical
def test_resampling_without_a_choice_by_weight_is_seen(monkeypatch):
    monkeypatch.setitem(RESAMPLERS, "systematic", lambda weights: RESAMPLERS["stratified"](torch.ones_like(weights)))
    found = particle_filter(LEVEL, Y, num_particles=30, num_runs=4_000, seed=1)
    assert abs(in_errors(found, kalman(Y)[0])) > 8.0


def test_one_particle_filter_step_by_step():
    """Without resampling the estimate is a mean of products of densities, at the very particles that were kept."""
    found = particle_filter(LEVEL, Y, num_particles=7, num_runs=3, threshold=0.0, keep_history=True, seed=6)
    log_likelihood = norm.logpdf(Y[None, :, None], found.particles, NOISE).cumsum(axis=1)
    expected = np.log(np.exp(log_likelihood).mean(axis=2))
    np.testing.assert_allclose(found.run_log_evidence, expected, rtol=1e-10)
    weights = np.exp(log_likelihood - log_likelihood.max(axis=2, keepdims=True))
    weights /= weights.sum(axis=2, keepdims=True)
    np.testing.assert_allclose(np.exp(found.particle_log_weights), weights, rtol=1e-9)
    np.testing.assert_allclose(found.effective, 1.0 / (weights**2).sum(axis=2), rtol=1e-9)
    assert (found.unique == 1.0).all()
    assert found.ancestors.shape == (3, 12, 7)


def test_state_of_parts_and_vectors():
    """Two independent levels, as a dict and as a vector, have the sum of their evidences."""
    space = StateSpace(
        lambda: {"a": dist.Normal(0.0, 1.0), "b": dist.Normal(torch.zeros(1), 1.0).to_event(1)},
        lambda time, state: {
            "a": dist.Normal(DECAY * state["a"], DRIFT),
            "b": dist.Normal(DECAY * state["b"], DRIFT).to_event(1),
        },
        lambda time, state: dist.Normal(torch.cat([state["a"][:, None], state["b"]], 1), NOISE).to_event(1),
    )
    y = np.stack([Y, Y[::-1]], axis=1)
    found = particle_filter(space, y, num_particles=200, num_runs=100, seed=7)
    truth = kalman(y[:, 0])[0] + kalman(y[:, 1])[0]
    assert abs(found.log_evidence - truth) < 4.0 * found.standard_error
    assert found.mean["b"].shape == (12, 1)
    assert found.passed, found
    draws = found.draws(50, seed=1)
    assert draws["a"].shape == (50,)
    assert draws["b"].shape == (50, 1)
    states, observed = space.simulate(4, seed=1)
    assert states["b"].shape == (4, 1)
    assert observed.shape == (4, 2)


def test_draws_follow_the_filter():
    found = particle_filter(LEVEL, Y, num_particles=200, num_runs=100, keep_history=True, seed=8)
    _, means, sds = kalman(Y)
    for time in (0, 6, -1):
        draws = found.draws(4_000, time=time, seed=time + 9)
        assert abs(draws.mean() - means[time]) < 4.0 * sds[time] / math.sqrt(4_000)
    with pytest.raises(OptionError, match="keep_history"):
        particle_filter(LEVEL, Y, num_particles=9, num_runs=2).draws(5, time=3)


class PyroLevel:
    """The same model in the protocol of Pyro's SMCFilter; its first observation comes one step later."""

    def init(self, state):
        self.time = 0
        state["x"] = pyro.sample("x_0", dist.Normal(0.0, 1.0))

    def step(self, state, y=None):
        self.time += 1
        state["x"] = pyro.sample(f"x_{self.time}", dist.Normal(DECAY * state["x"], DRIFT))
        pyro.sample(f"y_{self.time}", dist.Normal(state["x"], NOISE), obs=y)


class PyroLevelGuide:
    def init(self, state):
        self.time = 0
        pyro.sample("x_0", dist.Normal(0.0, 1.2))

    def step(self, state, y=None):
        self.time += 1
        pyro.sample(f"x_{self.time}", dist.Normal(DECAY * state["x"], 1.2 * DRIFT))


@pytest.mark.statistical
@pytest.mark.parametrize("model", [PyroLevel(), PyroStateSpace(PyroLevel(), PyroLevelGuide())])
def test_models_of_pyros_filter(model):
    found = particle_filter(model, Y, num_particles=50, num_runs=1_000, seed=9)
    truth, means, _ = kalman(Y, skip_first=True)
    assert abs(in_errors(found, truth)) < 4.0
    assert np.abs((found.mean["x"][1:] - means) / found.mean_error["x"][1:]).max() < 4.5


def test_faults_of_models_of_pyros_filter_are_named():
    class Counts(PyroLevel):
        def step(self, state, y=None):
            super().step(state)
            pyro.sample(f"n_{self.time}", dist.Poisson(state["x"].exp()), obs=y)

    class Forgetful(PyroLevel):
        def init(self, state):
            pass

    with pytest.raises(DataError, match=r"step at time 2, 'n_2': -1.0 is outside the support of Poisson"):
        particle_filter(Counts(), [1.0, -1.0], num_particles=20, num_runs=5)
    with pytest.raises(ModelError, match="init: the state is empty"):
        particle_filter(Forgetful(), Y, num_particles=20, num_runs=5)


def test_nothing_depends_on_how_runs_are_grouped(monkeypatch):
    monkeypatch.setattr(module, "NUMBERS_AT_ONCE", 64)
    found = particle_filter(LEVEL, Y, num_particles=30, num_runs=7, seed=1)
    assert found.run_log_evidence.shape == (7, 12)
    assert len(set(found.log_weights)) == 7


def test_the_step_without_particles_is_named():
    space = StateSpace(
        LEVEL.initial,
        LEVEL.transition,
        lambda time, state: dist.Uniform(state.abs(), state.abs() + (1e-9 if time == 3 else 10.0)),
    )
    found = particle_filter(space, [4.0, 4.0, 4.0, 5.0, 4.0], num_particles=40, num_runs=100, seed=1)
    assert found.log_evidence == -math.inf
    assert math.isnan(found.standard_error)
    (alive, *_) = found.checks
    assert alive.passed is False
    assert "first at time 3" in alive.detail
    assert not found.passed
    assert np.isfinite(found.mean[:3]).all()
    assert np.isnan(found.mean[3:]).all()


def test_few_particles_fail_their_checks():
    surprising = np.full(12, 9.0)
    found = particle_filter(LEVEL, surprising, num_particles=30, num_runs=200, seed=1)
    failed = {check.name for check in found.checks if check.passed is False}
    assert "smallest ESS" in failed
    assert "sd of log estimates between runs" in failed
    assert "more particles" in found.advice
    assert found.advice.count("more particles") == 1
    text = repr(found)
    assert "NO (" in text
    assert any(line.split() == ["runs", "200"] for line in text.splitlines())
    few = particle_filter(LEVEL, surprising, num_particles=30, num_runs=20, seed=1)
    assert few.advice.count("more particles") == 1
    assert "num_runs=100" in few.advice
    assert "<table>" in found._repr_html_()


@pytest.mark.parametrize(
    ("part", "replacement", "message"),
    [
        ("initial", lambda: dist.Normal(torch.zeros(2), 1.0), r"initial: batch shape \(2,\), wanted \(\)"),
        ("initial", lambda: 0.0, "initial: found float"),
        (
            "transition",
            lambda time, state: dist.Normal(state[:, None], 1.0),
            r"transition at time 1: batch shape \(\d+, 1\), wanted \(\d+,\), one for each particle.*to_event",
        ),
        (
            "transition",
            lambda time, state: dist.Normal(state[:, None], 1.0).to_event(1),
            r"transition at time 1: event shape \(1,\), wanted that of the state, \(\)",
        ),
        ("transition", lambda time, state: {"x": dist.Normal(state, 1.0)}, r"parts \['x'\], wanted"),
        ("transition", lambda time, state: state @ torch.ones(3), "transition at time 1: RuntimeError"),
        (
            "observation",
            lambda time, state: dist.Normal(state, -1.0),
            "observation at time 0: the log density of Normal is NaN",
        ),
        ("observation", lambda time, state: dist.Normal(state[:5], 1.0), r"observation at time 0: batch shape \(5,\)"),
        ("proposal", lambda time, state, observed: {"x": dist.Normal(0.0, 1.0)}, r"proposal at time 0: parts \['x'\]"),
    ],
)
def test_faults_of_the_model_are_named(part, replacement, message):
    parts = {"initial": LEVEL.initial, "transition": LEVEL.transition, "observation": LEVEL.observation}
    with pytest.raises(ModelError, match=message):
        particle_filter(StateSpace(**{**parts, part: replacement}), Y, num_particles=20, num_runs=5)


def test_faults_of_the_data_are_named():
    counts = StateSpace(LEVEL.initial, LEVEL.transition, lambda time, state: dist.Poisson(state.exp()))
    with pytest.raises(DataError, match=r"observation at time 2: -1.0 is outside the support of Poisson"):
        particle_filter(counts, [1, 0, -1], num_particles=20, num_runs=5)
    with pytest.raises(DataError, match=r"observation at time 0: shape \(2,\), wanted"):
        particle_filter(LEVEL, np.zeros((3, 2)), num_particles=20, num_runs=5)
    with pytest.raises(DataError, match="NaN in 1 of its 2 elements"):
        particle_filter(LEVEL, np.array([[0.0, np.nan]]), num_particles=20, num_runs=5)
    with pytest.raises(DataError, match="found none"):
        particle_filter(LEVEL, [], num_particles=20, num_runs=5)
    with pytest.raises(DataError, match="found str"):
        particle_filter(LEVEL, "series", num_particles=20, num_runs=5)


def test_faults_of_the_options_are_named():
    with pytest.raises(OptionError, match=r"found function, wanted a ppl\.StateSpace"):
        particle_filter(optimal, Y, num_particles=20)
    with pytest.raises(UnknownNameError, match="resampling 'systemic'"):
        particle_filter(LEVEL, Y, num_particles=20, resampling="systemic")
    with pytest.raises(OptionError, match="threshold"):
        particle_filter(LEVEL, Y, num_particles=20, threshold=2)
    with pytest.raises(OptionError, match="num_runs"):
        particle_filter(LEVEL, Y, num_particles=20, num_runs=1)
    with pytest.raises(ModelError, match="StateSpace transition: found float"):
        StateSpace(LEVEL.initial, 0.5, LEVEL.observation)
    with pytest.raises(ModelError, match=r"initial: found Normal, wanted a function that returns one: lambda: \.\.\."):
        StateSpace(dist.Normal(0.0, 1.0), LEVEL.transition, LEVEL.observation)


def test_single_precision_is_kept():
    found = particle_filter(LEVEL, torch.tensor(Y, dtype=torch.float32), num_particles=50, num_runs=20, seed=1)
    assert found.particles.dtype == np.float32
    assert abs(found.log_evidence - kalman(Y)[0]) < 5.0 * found.standard_error


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("resampling", RESAMPLERS)
def test_on_cuda(resampling):
    """Particles stand where the observations do; numbers in the model's functions follow them."""
    y = torch.tensor(Y, device="cuda")
    found = particle_filter(LEVEL, y, num_particles=200, num_runs=500, resampling=resampling, seed=1)
    assert abs(in_errors(found, kalman(Y)[0])) < 4.5
    listed = particle_filter(LEVEL, [*y[:3], 0.5, None], num_particles=20, num_runs=5, seed=1)
    assert listed.run_log_evidence.shape == (5, 5)
