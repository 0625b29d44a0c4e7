"""Student's t from standard normals: Bailey's form to the last digit, the right distribution, the right slope in df."""

import math

import pytest
import torch
from scipy import stats
from scipy.integrate import quad

from guides.full_rank_student_t import PolarMultivariateStudentT
from guides.polar_t import polar_t, t_log_density
from guides.student_t import PolarStudentT

DOUBLE = torch.float64


def normals(*shape, seed=0):
    return torch.randn(*shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("df", [2.001, 4.0, 30.0, 1e6])
def test_a_pair_is_baileys_polar_form(df):
    noise = normals(1000, 2)
    squared = noise.square().sum(-1)
    uniform = (-0.5 * squared).exp()
    radius = (df * torch.expm1(-2.0 / df * uniform.log())).sqrt()
    angle = torch.atan2(noise[:, 1], noise[:, 0])
    wanted = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1)
    torch.testing.assert_close(polar_t(noise, torch.tensor(df, dtype=DOUBLE)), wanted, rtol=1e-9, atol=1e-12)


def test_noise_of_zero_and_endless_df_are_no_obstacle():
    for df in (2.1, 1e30):
        parameter = torch.tensor(df, dtype=DOUBLE, requires_grad=True)
        drawn = polar_t(torch.zeros(4, dtype=DOUBLE), parameter)
        drawn.sum().backward()
        assert (drawn == 0.0).all()
        assert parameter.grad.isfinite()
    noise = normals(50, 6)
    torch.testing.assert_close(polar_t(noise, torch.tensor(1e30, dtype=DOUBLE)), noise, rtol=1e-12, atol=0.0)


@pytest.mark.statistical
@pytest.mark.parametrize("df", [2.2, 5.0, 40.0])
def test_draws_are_multivariate_t(df):
    """Each coordinate is a t, and |t|² / dim an F; Kolmogorov-Smirnov at one in a thousand over all comparisons."""
    drawn = polar_t(normals(50_000, 6), torch.tensor(df, dtype=DOUBLE)).numpy()
    found = [stats.kstest(drawn[:, k], "t", args=(df,)).pvalue for k in range(6)]
    found += [stats.kstest((drawn[:, :d] ** 2).sum(-1) / d, "f", args=(d, df)).pvalue for d in range(2, 7)]
    assert min(found) > 1e-3 / (3 * len(found))


@pytest.mark.statistical
def test_the_comparison_sees_other_degrees_of_freedom():
    drawn = polar_t(normals(50_000, 6), torch.tensor(5.0, dtype=DOUBLE)).numpy()
    assert stats.kstest(drawn[:, 0], "t", args=(7.5,)).pvalue < 1e-5


@pytest.mark.parametrize("dim", [1, 2, 3, 8])
@pytest.mark.parametrize("df", [2.1, 7.0, 49.9, 50.1, 1e4])
def test_the_density_is_scipys(df, dim):
    points = 3.0 * normals(20, dim)
    wanted = stats.multivariate_t(df=df, shape=torch.eye(dim).numpy()).logpdf(points.numpy())
    found = t_log_density(points.square().sum(-1), torch.tensor(df, dtype=DOUBLE), dim)
    torch.testing.assert_close(found, torch.as_tensor(wanted).reshape(-1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("df", [3.0, 200.0])
def test_the_densitys_slope_in_df_is_that_of_torchs_own(df):
    points, slopes = normals(10), []
    for density in (lambda nu: t_log_density(points.square(), nu, 1), lambda nu: own_density(points, nu)):
        parameter = torch.tensor(df, dtype=DOUBLE, requires_grad=True)
        (slope,) = torch.autograd.grad(density(parameter).sum(), parameter)
        slopes.append(slope)
    torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-8, atol=1e-10)


def own_density(points, df):
    return torch.distributions.StudentT(df).log_prob(points)


@pytest.mark.statistical
def test_draws_move_with_df_as_their_distribution_does():
    """The derivative in df of E log(1 + t²), by quadrature and along the draws' paths."""

    def mean(df):
        return quad(lambda t: math.log1p(t * t) * stats.t.pdf(t, df), -math.inf, math.inf, epsabs=1e-12, limit=500)[0]

    wanted = (mean(4.001) - mean(3.999)) / 0.002
    df = torch.full((100_000,), 4.0, dtype=DOUBLE, requires_grad=True)
    polar_t(normals(100_000, 2), df)[:, 0].square().log1p().sum().backward()
    error = float(df.grad.std()) / math.sqrt(len(df))
    assert abs(float(df.grad.mean()) - wanted) < 4.0 * error
    assert abs(wanted) > 20.0 * error


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_a_remembered_draw_has_the_density_of_any_value(dim):
    torch.manual_seed(0)
    df = torch.tensor(3.5, dtype=DOUBLE)
    factor = torch.eye(dim, dtype=DOUBLE) + normals(dim, dim).tril(-1)
    found = PolarMultivariateStudentT(df, normals(dim), factor).expand((5,))
    value = found.rsample()
    assert value.shape == (5, dim)
    torch.testing.assert_close(found.log_prob(value), found.log_prob(value.clone()), rtol=1e-10, atol=1e-10)
    single = PolarStudentT(df, normals(dim), 0.5 + normals(dim).square())
    value = single.rsample((4,))
    torch.testing.assert_close(single.log_prob(value), single.log_prob(value.clone()), rtol=1e-10, atol=1e-10)
    wanted = torch.distributions.StudentT(df, single.loc, single.scale).log_prob(value)
    torch.testing.assert_close(single.log_prob(value), wanted, rtol=1e-10, atol=1e-10)
