"""The first look at a target: exact on normals of any scale and place, in no coordinates of its own, and bounded."""

import math

import numpy as np
import pytest
from scipy.special import gammaln

from ppl_models.inference.preconditioning import pilot
from ppl_models.inference.preconditioning.pilot import Normal, approximate, num_pairs


def generator(seed=0):
    return np.random.default_rng(seed)


def normal_target(mean, scale, correlation):
    precision = np.linalg.inv(correlation)

    def gradient(points):
        away = (points - mean) / scale
        pull = away @ precision
        return -0.5 * (pull * away).sum(axis=1), -pull / scale

    return gradient


def equicorrelated(dim, correlation):
    return np.full((dim, dim), correlation) + (1.0 - correlation) * np.eye(dim)


def scales(dim):
    return 10.0 ** np.linspace(-8.0, 8.0, dim) if dim > 1 else np.array([1e8])


def covariance(found):
    return np.diag(found.root**2) if found.root.ndim == 1 else found.root @ found.root.T


def funnel(points):
    """Neal's funnel: v ~ Normal(0, 3), the others Normal(0, exp(v / 2))."""
    v, others = points[:, 0], points[:, 1:]
    count, shrink, squares = others.shape[1], np.exp(-v), np.square(others).sum(axis=1)
    values = (
        -0.5 * (v / 3.0) ** 2 - 0.5 * squares * shrink - 0.5 * count * v - 0.5 * (count + 1) * math.log(2 * math.pi)
    )
    values -= math.log(3.0)
    return values, np.column_stack([-v / 9.0 + 0.5 * squares * shrink - 0.5 * count, -others * shrink[:, None]])


def log_gamma(shape):
    """Log of a gamma variable, per dim."""

    def gradient(points):
        values = (shape * points - np.exp(points) - gammaln(shape)).sum(axis=1)
        return values, shape - np.exp(points)

    return gradient


def log_gamma_elbo(shape, mean, root):
    """The ELBO of a normal in nats, in closed form: E exp(x) is exp(m + s²/2)."""
    variance = np.square(root).sum(axis=1)
    energy = (shape * mean - np.exp(mean + 0.5 * variance) - gammaln(shape)).sum()
    return energy + np.linalg.slogdet(root)[1] + 0.5 * len(mean) * math.log(2.0 * math.pi * math.e)


def cauchy(scale):
    def gradient(points):
        away = points / scale
        return -np.log1p(away**2).sum(axis=1), -2.0 * away / (1.0 + away**2) / scale

    return gradient


@pytest.mark.parametrize("away", [0.0, 1e6])
@pytest.mark.parametrize("correlation", [0.0, 0.999])
@pytest.mark.parametrize("dim", [1, 2, 10, 60])
def test_normal_targets_are_found_exactly(dim, correlation, away):
    scale, matrix = scales(dim), equicorrelated(dim, correlation)
    mean = 3.0 * scale * generator(1).normal(size=dim)
    start = mean + away * scale * np.where(generator(2).normal(size=dim) < 0.0, -1.0, 1.0)
    found = approximate(normal_target(mean, scale, matrix), start, np.full(dim, 0.1), generator())
    np.testing.assert_allclose((found.mean - mean) / scale, 0.0, atol=1e-10)
    np.testing.assert_allclose(covariance(found) / np.outer(scale, scale), matrix, rtol=1e-9, atol=1e-9)
    assert found.endless == ()
    assert found.num_steps < 40


def test_the_elbo_of_a_normal_target_is_its_log_normaliser():
    """E log p on the last draws: half a chi-squared of 4 dims, over 32 pairs of the same value each."""
    matrix = equicorrelated(4, 0.9)
    wanted = 0.5 * np.linalg.slogdet(2.0 * math.pi * matrix)[1]
    target = normal_target(np.ones(4), np.ones(4), matrix)
    found = [approximate(target, np.zeros(4), np.ones(4), generator(seed)).elbo for seed in range(20)]
    assert abs(np.mean(found) - wanted) < 4.0 * math.sqrt(0.5 * 4 / (num_pairs(4) * 20))


def test_a_target_that_is_met_exactly_is_left_alone():
    """Where a step changes nothing but rounding, the scale must not be halved for want of a gain."""
    for seed in range(5):
        found = approximate(normal_target(np.zeros(1), np.ones(1), np.eye(1)), np.zeros(1), np.ones(1), generator(seed))
        assert found.num_steps <= pilot.QUIET_STEPS + 1
        np.testing.assert_allclose(found.scale, 1.0, rtol=1e-12)


@pytest.mark.parametrize("target", [log_gamma(1.0), funnel, cauchy(1.0)], ids=["log gamma", "funnel", "cauchy"])
def test_units_of_the_latents_change_nothing(target):
    """Same noise, target in other units and elsewhere: the result in those units."""
    dim = 5
    unit, shift = 2.0 ** np.array([-30.0, -3.0, 0.0, 11.0, 40.0]), np.array([3.0, 0.0, 5.0, 0.0, 0.0]) * 2.0**-30

    def transformed(points):
        values, gradients = target((points - shift) / unit)
        return values, gradients / unit

    start, scale = np.full(dim, 0.5), np.full(dim, 0.1)
    one = approximate(target, start, scale, generator(3))
    other = approximate(transformed, shift + unit * start, unit * scale, generator(3))
    assert other.num_steps == one.num_steps
    # Powers of two are exact, but for the shift.
    np.testing.assert_allclose(other.root, unit[:, None] * one.root, rtol=1e-5)
    np.testing.assert_allclose((other.mean - shift) / unit, one.mean, rtol=1e-5, atol=1e-6)
    assert other.elbo == pytest.approx(one.elbo + np.log(unit).sum(), abs=1e-5)


def test_scales_in_the_start_do_not_matter_for_a_normal():
    target = normal_target(np.array([1.0, -2.0]), np.array([1.0, 5.0]), equicorrelated(2, 0.5))
    for start in (1e-6, 1.0, 1e6):
        found = approximate(target, np.zeros(2), np.full(2, start), generator())
        np.testing.assert_allclose(covariance(found), [[1.0, 2.5], [2.5, 25.0]], rtol=1e-9)


def test_many_dims_have_conditional_scales():
    """The best normal with a diagonal covariance has sd 1 / sqrt(precision) in each dim.

    The precision is that of a chain, where each curvature is a ratio estimate over 64 pairs, whose noise is that of the
    two neighbours: 0.4 sqrt(2 / 64) = 0.07, half of it in the log sd.
    """
    dim = pilot.MAX_DENSE + 20
    scale, neighbours = 10.0 ** np.linspace(-4.0, 4.0, dim), np.eye(dim, k=1) + np.eye(dim, k=-1)
    precision = np.eye(dim) - 0.4 * neighbours
    target = normal_target(scale, scale, np.linalg.inv(precision))
    found = approximate(target, np.zeros(dim), np.full(dim, 0.1), generator())
    assert found.root.shape == (dim,)
    assert np.array_equal(found.conditional_scale, found.root)
    assert np.abs(np.log(found.root / scale)).max() < 5.0 * 0.5 * 0.4 * math.sqrt(2.0 / num_pairs(dim))
    away = found.mean / scale - 1.0
    assert 0.5 * away @ precision @ away < 0.3


def test_independent_dims_beyond_the_dense_are_exact():
    dim = pilot.MAX_DENSE + 1
    scale = 10.0 ** np.linspace(-8.0, 8.0, dim)
    found = approximate(normal_target(-scale, scale, np.eye(dim)), np.zeros(dim), np.full(dim, 0.1), generator())
    np.testing.assert_allclose(found.mean, -scale, rtol=1e-9)
    np.testing.assert_allclose(found.root, scale, rtol=1e-9)
    assert found.endless == ()


@pytest.mark.parametrize("dim", [1, 2, 31, 32, 33, 100, pilot.MAX_DENSE])
def test_there_are_always_as_many_pairs_as_dims(dim):
    assert max(dim, pilot.MIN_PAIRS) <= num_pairs(dim) <= 2 * max(dim, pilot.MIN_PAIRS)


def test_the_points_of_a_call_are_what_was_promised():
    sizes = []

    def watched(points):
        sizes.append(points.shape)
        return funnel(points)

    approximate(watched, np.zeros(3), np.ones(3), generator())
    assert set(sizes) == {(2 * num_pairs(3), 3)}


@pytest.mark.parametrize("bad", [math.nan, -math.inf, math.inf])
def test_points_without_a_finite_density_are_avoided(bad):
    """A normal of sd 1, cut off at 6 sds: the first draws, of sd 100, fall outside."""

    def cut(points):
        inside = np.abs(points).max(axis=1) < 6.0
        values, gradients = normal_target(np.zeros(2), np.ones(2), np.eye(2))(points)
        return np.where(inside, values, bad), np.where(inside[:, None], gradients, math.nan)

    found = approximate(cut, np.ones(2), np.full(2, 100.0), generator())
    np.testing.assert_allclose(found.mean, 0.0, atol=1e-10)
    np.testing.assert_allclose(covariance(found), np.eye(2), atol=1e-10)


def test_a_target_that_is_finite_nowhere_says_so():
    found = approximate(lambda points: (np.full(len(points), math.nan), points), np.ones(2), np.ones(2), generator())
    assert found.elbo == -math.inf
    assert np.array_equal(found.mean, np.ones(2))
    assert np.isfinite(found.root).all()


@pytest.mark.parametrize("size", [1e200, 1e300])
def test_huge_gradients_do_no_harm(size):
    def steep(points):
        return -size * np.abs(points).sum(axis=1), -size * np.sign(points)

    found = approximate(steep, np.full(2, 1e5), np.full(2, 1e9), generator())
    assert np.isfinite(found.mean).all()
    assert np.isfinite(found.root).all()


@pytest.mark.parametrize("dim", [2, 10, 50])
def test_a_funnel_neither_runs_away_nor_collapses(dim):
    """The density is normalised, so that no ELBO is above 0, but for the noise of its estimate."""
    for seed in range(4):
        found = approximate(funnel, np.full(dim, 0.5), np.full(dim, 0.1), generator(seed))
        noise = math.sqrt(0.5 * dim / num_pairs(dim))
        assert -5.0 * math.sqrt(dim) < found.elbo < 5.0 * noise
        assert (found.scale > 0.05).all()
        assert (found.scale < 5.0).all()
        assert found.endless == ()


def test_an_improper_direction_is_reported():
    """Only the sum of dims 0 and 1 is known, dim 2 is proper, dim 3 is not."""

    def gradient(points):
        total = points[:, 0] + points[:, 1]
        slope = np.column_stack([-total, -total, -points[:, 2], np.zeros(len(points))])
        return -0.5 * total**2 - 0.5 * points[:, 2] ** 2, slope

    for seed in range(4):
        found = approximate(gradient, np.zeros(4), np.full(4, 0.1), generator(seed))
        assert found.endless == (0, 1, 3)


def test_an_improper_dim_among_many_is_reported():
    dim = pilot.MAX_DENSE + 1

    def gradient(points):
        slope = -points
        slope[:, 7] = 0.0
        return 0.5 * (slope * points).sum(axis=1), slope

    assert approximate(gradient, np.zeros(dim), np.full(dim, 0.1), generator()).endless == (7,)


def with_funnel(wide):
    """A target that never is quiet beside a wide normal."""

    def gradient(points):
        values, slopes = funnel(points[:, 1:])
        noise = 30.0 * np.sin(1e6 * points[:, 1])  # no step is like another
        return values + noise - 0.5 * (points[:, 0] / wide) ** 2, np.column_stack([-points[:, 0] / wide**2, slopes])

    return gradient


PROPER = {
    "cauchy": (cauchy(1.0), 2),
    "wide cauchy": (cauchy(1e6), 2),
    "far too wide cauchy": (cauchy(1e10), 2),
    "wide normal": (normal_target(np.zeros(2), np.array([1e6, 1e-3]), np.eye(2)), 2),
    "far too wide normal": (normal_target(np.zeros(2), np.array([1e11, 1e-3]), np.eye(2)), 2),
    "beside one without rest": (with_funnel(1e9), 4),
}


@pytest.mark.parametrize("name", PROPER)
def test_a_proper_direction_never_is(name):
    target, dim = PROPER[name]
    for seed in range(5):
        assert approximate(target, np.zeros(dim), np.full(dim, 0.1), generator(seed)).endless == ()


def test_cauchy_tails_have_the_normal_of_the_closed_form():
    """The ELBO of a normal around zero, but for a constant, by quadrature on a fine grid."""
    nodes = np.linspace(-10.0, 10.0, 4_001)
    weights = np.exp(-0.5 * nodes**2)
    weights /= weights.sum()

    def elbo(sd):
        return math.log(sd) - (weights * np.log1p((sd * nodes) ** 2)).sum()

    best = max(elbo(sd) for sd in np.linspace(1.0, 2.5, 1501))
    gaps = [best - elbo(approximate(cauchy(1.0), np.zeros(1), np.ones(1), generator(s)).scale[0]) for s in range(20)]
    assert np.mean(gaps) < 0.02
    assert max(gaps) < 0.1


@pytest.mark.parametrize(("shape", "limit"), [(5.0, 0.01), (1.0, 0.1), (0.5, 0.4)])
def test_skewed_targets_are_met_within_tenths_of_a_nat(shape, limit):
    """The best normal has mean log a - 1/(2a) and variance 1/a: E exp(x) = a, and so is the curvature."""
    best = log_gamma_elbo(shape, np.array([math.log(shape) - 0.5 / shape]), np.array([[shape**-0.5]]))
    gaps = []
    for seed in range(50):
        found = approximate(log_gamma(shape), np.zeros(1), np.full(1, 0.1), generator(seed))
        gaps.append(best - log_gamma_elbo(shape, found.mean, found.root))
    assert min(gaps) > 0.0
    assert np.mean(gaps) < limit


@pytest.mark.parametrize("start", [-30.0, 30.0])
def test_a_skewed_target_is_found_from_far_away(start):
    """Right of it the gradient is e³⁰ times too large, left of it there is no curvature."""
    best = log_gamma_elbo(1.0, np.array([-0.5]), np.eye(1))
    for seed in range(5):
        found = approximate(log_gamma(1.0), np.array([start]), np.full(1, 0.1), generator(seed))
        assert best - log_gamma_elbo(1.0, found.mean, found.root) < 2.0


def test_a_saddle_between_two_modes_is_left():
    """Where the target bends upwards the normal must widen; from the middle of ±5 it ends nats above a narrow one."""

    def gradient(points):
        x = points[:, 0]
        left = 1.0 / (1.0 + np.exp(np.clip(10.0 * x, -700.0, 700.0)))
        values = np.logaddexp(-0.5 * (x - 5.0) ** 2, -0.5 * (x + 5.0) ** 2)
        return values, (-(x - 5.0) * (1.0 - left) - (x + 5.0) * left)[:, None]

    for seed in range(8):
        found = approximate(gradient, np.zeros(1), np.full(1, 0.1), generator(seed))
        assert found.scale[0] > 0.9
        assert found.elbo > -5.0  # -10.6 for the best narrow one at the saddle


def test_the_seed_decides():
    one, two, other = (approximate(funnel, np.zeros(3), np.ones(3), generator(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one.mean, two.mean)
    assert np.array_equal(one.root, two.root)
    assert not np.array_equal(one.mean, other.mean)


def test_scales_of_a_dense_normal():
    root = generator(5).normal(size=(6, 6)) * 10.0 ** np.linspace(-5.0, 5.0, 6)[:, None]
    normal = Normal(np.zeros(6), root, 0.0, 1)
    matrix = root @ root.T
    tril = normal.scale_tril
    unit = normal.scale
    np.testing.assert_allclose(unit, np.sqrt(matrix.diagonal()), rtol=1e-12)
    np.testing.assert_array_equal(np.triu(tril, 1), 0.0)
    assert (tril.diagonal() > 0.0).all()
    np.testing.assert_allclose(tril @ tril.T / np.outer(unit, unit), matrix / np.outer(unit, unit), atol=1e-12)
    precision = np.linalg.inv(matrix / np.outer(unit, unit))
    np.testing.assert_allclose(normal.conditional_scale / unit, precision.diagonal() ** -0.5, rtol=1e-9)
    assert (normal.conditional_scale <= unit).all()


def test_scales_of_a_diagonal_normal():
    normal = Normal(np.zeros(3), np.array([1.0, 2.0, 3.0]), 0.0, 1)
    assert np.array_equal(normal.scale_tril, np.diag([1.0, 2.0, 3.0]))
    assert np.array_equal(normal.scale, [1.0, 2.0, 3.0])
    assert np.array_equal(normal.conditional_scale, [1.0, 2.0, 3.0])
