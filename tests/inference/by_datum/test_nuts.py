"""Vectorised no-U-turn chains against closed forms, and a mode that a normal misses."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import norm

from ppl_models.inference.by_datum import nuts
from ppl_models.inference.by_datum.normals import Normals
from ppl_models.inference.by_datum.nuts import datum_nuts, effective_numbers
from ppl_models.inference.by_datum.target import DatumTarget
from ppl_models.inference.by_datum.trajectories import Trajectories
from ppl_models.program import build_program
from tests.inference.by_datum.linear_gaussian import Exact, model, rows

CHANCE = 0.001


def test_moments_of_a_normal_posterior_within_their_errors_and_from_a_wrong_metric():
    x = rows(40, seed=2)
    exact = Exact(x)
    program = build_program(model, {"x": x})
    wrong = Normals.diagonal(exact.mean + 0.5, torch.full_like(exact.mean, 0.4))
    with program.isolated(seed=0, num_threads=1), torch.no_grad():
        found = datum_nuts(DatumTarget(program), wrong, num_chains=8, num_warmup=30, num_draws=100, seed=5)
    sd = exact.covariance.diagonal().sqrt().numpy()
    scaled = (found.points - exact.mean.numpy()) / sd
    limit = norm.isf(CHANCE / (5 * 40))
    for values, wanted in (
        (scaled, 0.0),
        (scaled**2, 1.0),
        (scaled.prod(-1, keepdims=True), float(exact.covariance[0, 1]) / sd.prod()),
    ):
        error = values.std((0, 1)) / np.sqrt(effective_numbers(values))
        assert (np.abs(values.mean((0, 1)) - wanted) < limit * error).all()
    assert found.rhat.max() < 1.05
    assert found.bulk_ess.min() > 200
    assert found.divergences.sum() == 0


def folded(x):
    with pyro.plate("datum", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(len(x), dtype=x.dtype), 1.0))
        pyro.sample("x", dist.Normal(z.abs(), 0.4), obs=x)


def test_a_mode_that_the_normal_misses_is_found():
    x = torch.full((6,), 1.2, dtype=torch.float64)
    program = build_program(folded, {"x": x})
    one_mode = Normals.diagonal(torch.full((6, 1), 1.0, dtype=torch.float64), torch.full((6, 1), 0.35))
    one_mode = Normals(one_mode.mean, one_mode.factor.double())
    with program.isolated(seed=0, num_threads=1), torch.no_grad():
        found = datum_nuts(DatumTarget(program), one_mode, num_chains=8, num_warmup=30, num_draws=100, seed=1)
    share = (found.points < 0.0).mean((0, 1, 3))
    assert (share > 0.02).all()
    # where chains do not agree on the modes, R-hat says so
    away = np.abs(share - 0.5) > 0.1
    assert (found.rhat[away, 0] > 1.01).all()


def test_tree_bookkeeping_of_leaves():
    chains = Trajectories(lambda z: (-0.5 * z.square().sum(-1), -z), torch.zeros(1, 1, 1), torch.Generator(), 4)
    for leaf in range(16):
        assert int(chains._bits[leaf]) == bin(leaf).count("1")
        ones = len(bin(leaf)) - len(bin(leaf).rstrip("1"))
        assert int(chains._last_ones[leaf]) == ones
    assert torch.isfinite(chains.now.value).all()


def test_data_whose_chains_mix_slowly_go_on_by_themselves():
    """Fewer draws than the gates ask for: those that go on pass, and the draws of the others stay as they were."""
    x = rows(24, seed=4)
    exact = Exact(x)
    program = build_program(model, {"x": x})
    normals = Normals.diagonal(exact.mean, exact.covariance.diagonal().sqrt().expand_as(exact.mean))
    found = []
    for most in (0, nuts.MOST_DOUBLINGS):
        with pytest.MonkeyPatch.context() as patch, program.isolated(seed=0, num_threads=1), torch.no_grad():
            patch.setattr(nuts, "MOST_DOUBLINGS", most)
            found.append(datum_nuts(DatumTarget(program), normals, num_warmup=30, num_draws=150, seed=1))
    before, after = found
    failed = [(one.rhat.max(1) > 1.01) | (np.minimum(one.bulk_ess, one.tail_ess).min(1) < 400.0) for one in found]
    on = after.doublings > 0
    assert failed[0].sum() >= 3
    assert failed[1].sum() < 0.3 * failed[0].sum()
    assert not on[~failed[0]].any()
    assert np.array_equal(before.points[:, :, ~on], after.points[:, :, ~on])
    assert after.points.shape == before.points.shape
    sd = exact.covariance.diagonal().sqrt().numpy()
    scaled = ((after.points - exact.mean.numpy()) / sd)[:, :, on]
    error = scaled.std((0, 1)) / np.sqrt(effective_numbers(scaled))
    assert (np.abs(scaled.mean((0, 1))) < norm.isf(CHANCE / (2 * on.sum() * 2)) * error).all()
