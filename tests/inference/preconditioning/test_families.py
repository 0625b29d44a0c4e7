"""Coordinates of every automatic family: the guide they begin at is the approximation, and they are smooth."""

import importlib
import math
from contextlib import contextmanager

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.distributions import constraints
from pyro.infer.autoguide import (
    AutoDelta,
    AutoDiagonalNormal,
    AutoGuideList,
    AutoIAFNormal,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
    AutoStructured,
)
from torch.distributions import biject_to

import guides
from ppl_models.inference.preconditioning import Normal, Preconditioning, precondition
from ppl_models.inference.preconditioning.blocks import Scaled, Scales, joined, unconstrained
from ppl_models.inference.preconditioning.factors import factor_analysis
from ppl_models.inference.preconditioning.families import FAMILIES, blocks_of, is_flow, start_of
from ppl_models.program import build_program

DATA = {"y": torch.linspace(-1.0, 2.0, 5, dtype=torch.float64)}


def several(y):
    """Eight unconstrained latents: a vector, a positive one, a simplex of three, and three in a plate."""
    vector = pyro.sample("vector", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    scale = pyro.sample("scale", dist.Gamma(2.0, 2.0))
    shares = pyro.sample("shares", dist.Dirichlet(torch.ones(3)))
    with pyro.plate("group", 3):
        local = pyro.sample("local", dist.LogNormal(vector.sum(), 1.0))
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.Normal(vector[0] + shares[0] + local.mean(), scale), obs=y)


def backwards(y):
    """The same sites in another order; a guide's site order is its own model's."""
    with pyro.plate("group", 3):
        pyro.sample("local", dist.LogNormal(0.0, 1.0))
    pyro.sample("shares", dist.Dirichlet(torch.ones(3)))
    pyro.sample("scale", dist.Gamma(2.0, 2.0))
    pyro.sample("vector", dist.Normal(0.0, 1.0).expand([2]).to_event(1))


DIM = 8
NUM_DRAWS = 200
CLASSES = (AutoNormal, AutoDiagonalNormal, AutoMultivariateNormal, AutoLowRankMultivariateNormal, AutoStructured)
NAMES = [name for name in guides.names() if guides.FAMILIES[name].density]
"""Particles have no density, are not fitted by SVI, and have locations alone."""
MAKERS = {
    **{name: (lambda model, name=name: guides.make(name, model)) for name in NAMES},
    **{kind.__name__: kind for kind in (*CLASSES, AutoDelta)},
}
WITHOUT_SIMPLEX = {"delta", "AutoDelta"}
"""They hold a simplex otherwise than the program does, which leaves them alone."""


def normal_of(dim=DIM, spread=0.0, seed=0):
    """A dense normal whose standard deviations go from 10^-spread to 10^spread."""
    rng = np.random.default_rng(seed)
    root = (np.eye(dim) + 0.3 * rng.normal(size=(dim, dim))) * 10.0 ** np.linspace(-spread, spread, dim)[:, None]
    return Normal(10.0 ** np.linspace(-spread, spread, dim) * rng.normal(size=dim), root, 0.0, 1)


@contextmanager
def made(make, model=several, guide_model=None):
    """A program and a guide after its first run, in the program's world."""
    program = build_program(model, DATA)
    with program.isolated(seed=1):
        guide = make(program.model if guide_model is None else guide_model)
        guide(*program.arguments.args, **program.arguments.kwargs)
        yield program, guide


def held():
    return torch.cat([holder.detach().reshape(-1) for _, holder in pyro.get_param_store().named_parameters()])


def positions(guide, program):
    """Where each number of an AutoContinuous guide's vector stands in the program's."""
    return np.concatenate([np.r_[program.slices[name][0]] for name in guide._unconstrained_shapes])


def site_values(module, program):
    """One vector from a module that holds a tensor for each site."""
    return np.concatenate([getattr(module, name).detach().reshape(-1).numpy() for name in program.slices])


def without_simplex(y):
    vector = pyro.sample("vector", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    scale = pyro.sample("scale", dist.Gamma(2.0, 2.0))
    with pyro.plate("group", 5):
        local = pyro.sample("local", dist.LogNormal(vector.sum(), 1.0))
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.Normal(vector[0] + local.mean(), scale), obs=y)


def model_for(name):
    return without_simplex if name in WITHOUT_SIMPLEX else several


def covariance(normal):
    return normal.root @ normal.root.T


def start(guide, program, normal, shrink=1.0):
    blocks = blocks_of(guide, program, normal, shrink)
    assert blocks is not None
    return joined(blocks, program.dtype)


@pytest.mark.parametrize("spread", [0.0, 4.0])
@pytest.mark.parametrize("name", ["full_rank", "AutoMultivariateNormal"])
def test_a_dense_guide_is_the_normal(name, spread):
    normal = normal_of(spread=spread)
    with made(MAKERS[name]) as (program, guide):
        start(guide, program, normal)
        order = positions(guide, program)
        found = guide.get_posterior()
        unit = normal.scale[order]
        np.testing.assert_allclose(found.loc.detach(), normal.mean[order], rtol=1e-14)
        np.testing.assert_allclose(
            found.covariance_matrix.detach().numpy() / np.outer(unit, unit),
            covariance(normal)[np.ix_(order, order)] / np.outer(unit, unit),
            atol=1e-10,
        )


@pytest.mark.parametrize("name", ["normal", "AutoNormal"])
def test_a_mean_field_guide_has_the_conditional_scales(name):
    normal = normal_of(spread=3.0)
    with made(MAKERS[name]) as (program, guide):
        start(guide, program, normal)
        np.testing.assert_allclose(site_values(guide.locs, program), normal.mean, rtol=1e-14)
        np.testing.assert_allclose(site_values(guide.scales, program), normal.conditional_scale, rtol=1e-9)


def test_a_diagonal_guide_has_them_too():
    normal = normal_of(spread=3.0)
    with made(AutoDiagonalNormal) as (program, guide):
        start(guide, program, normal)
        order = positions(guide, program)
        np.testing.assert_allclose(guide.loc.detach(), normal.mean[order], rtol=1e-14)
        np.testing.assert_allclose(guide.scale.detach(), normal.conditional_scale[order], rtol=1e-9)


@pytest.mark.parametrize("name", ["student_t", "full_rank_student_t"])
def test_a_student_t_has_the_normals_scales_and_its_own_tails(name):
    normal = normal_of(spread=3.0)
    with made(MAKERS[name]) as (program, guide):
        coordinates = start(guide, program, normal)
        if name == "student_t":
            np.testing.assert_allclose(site_values(guide.locs, program), normal.mean, rtol=1e-14)
            np.testing.assert_allclose(site_values(guide.scales, program), normal.conditional_scale, rtol=1e-9)
            np.testing.assert_allclose(site_values(guide.dfs, program), 10.0, rtol=1e-12)
            assert int((~coordinates.watched).sum()) == DIM
        else:
            order = positions(guide, program)
            factor = (guide.scale[:, None] * guide.scale_tril).detach().numpy() / normal.scale[order][:, None]
            wanted = covariance(normal)[np.ix_(order, order)] / np.outer(normal.scale[order], normal.scale[order])
            np.testing.assert_allclose(factor @ factor.T, wanted, atol=1e-10)
            assert guide.df.item() == pytest.approx(10.0, rel=1e-12)
            assert int((~coordinates.watched).sum()) == 1


@pytest.mark.parametrize("kind", ["full", "diagonal"])
def test_a_mixtures_components_are_spread_over_the_normal(kind):
    normal = normal_of(spread=3.0)
    with made(lambda model: guides.make("mixture", model, num_components=4, covariance=kind)) as (program, guide):
        coordinates = start(guide, program, normal)
        order = positions(guide, program)
        unit = normal.scale[order]
        locs = guide.locs.detach().numpy()
        np.testing.assert_allclose(start_of(guide, program), normal.mean, rtol=1e-10)
        away = np.linalg.solve(normal.root, (locs[:, np.argsort(order)] - normal.mean).T)
        assert 0.3 < away.std() < 1.5
        assert np.abs(locs[0] - locs[1]).max() > 0.0
        if kind == "full":
            factors = (guide.scales[..., None] * guide.scale_trils).detach().numpy() / unit[:, None]
            wanted = covariance(normal)[np.ix_(order, order)] / np.outer(unit, unit)
            for factor in factors:
                np.testing.assert_allclose(factor @ factor.T, wanted, atol=1e-10)
        else:
            np.testing.assert_allclose(
                guide.scales.detach(), np.tile(normal.conditional_scale[order], (4, 1)), rtol=1e-9
            )
        np.testing.assert_allclose(guide.weights.detach(), 0.25, rtol=1e-12)
        assert not coordinates.watched.any()


@pytest.mark.parametrize("rank", [1, 3, DIM])
def test_a_low_rank_guide_has_the_factors(rank):
    normal = normal_of(spread=3.0)
    with made(lambda model: AutoLowRankMultivariateNormal(model, rank=rank)) as (program, guide):
        start(guide, program, normal)
        order = positions(guide, program)
        matrix = covariance(normal)[np.ix_(order, order)]
        unit = normal.scale[order]
        unique, loadings = factor_analysis(matrix, rank)
        found = guide.get_posterior()
        np.testing.assert_allclose(found.loc.detach(), normal.mean[order], rtol=1e-14)
        relative = found.covariance_matrix.detach().numpy() / np.outer(unit, unit)
        np.testing.assert_allclose(
            relative, (np.diag(unique**2) + loadings @ loadings.T) / np.outer(unit, unit), atol=1e-9
        )
        if rank == DIM:
            np.testing.assert_allclose(relative, matrix / np.outer(unit, unit), atol=0.01)


@pytest.mark.parametrize("name", ["iaf", "realnvp", "neural_spline", "laplace"])
def test_flows_and_laplace_have_location_and_marginal_scale(name):
    normal = normal_of(spread=3.0)
    with made(MAKERS[name]) as (program, guide):
        before = held()
        start(guide, program, normal)
        order = positions(guide, program)
        np.testing.assert_allclose(guide.loc.detach(), normal.mean[order], rtol=1e-14)
        if name != "laplace":
            np.testing.assert_allclose(guide.scale.detach(), normal.scale[order], rtol=1e-9)
            assert torch.equal(held()[2 * DIM :], before[2 * DIM :])
        assert is_flow(guide) == (name != "laplace")


@pytest.mark.parametrize("name", sorted(WITHOUT_SIMPLEX))
def test_a_point_is_the_mean_in_its_support(name):
    normal = normal_of()
    with made(MAKERS[name], without_simplex) as (program, guide):
        start(guide, program, normal)
        values = guide(*program.arguments.args, **program.arguments.kwargs)
        for site, (place, shape) in program.slices.items():
            support = guide.prototype_trace.nodes[site]["fn"].support
            wanted = biject_to(support)(torch.as_tensor(normal.mean[place]).reshape(shape))
            torch.testing.assert_close(values[site].detach(), wanted, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("conditional", ["normal", "mvn"])
def test_a_structured_guide_has_conditional_blocks(conditional):
    """No dependency at first: each site's block has its covariance given all other latents."""
    normal = normal_of(spread=2.0)
    precision = np.linalg.inv(covariance(normal))
    with made(lambda model: AutoStructured(model, conditionals=conditional)) as (program, guide):
        start(guide, program, normal)
        np.testing.assert_allclose(site_values(guide.locs, program), normal.mean, rtol=1e-14)
        for name, (place, _) in program.slices.items():
            unit = normal.conditional_scale[place]
            wanted = np.linalg.inv(precision[place, place] * np.outer(unit, unit))
            scale = getattr(guide.scales, name).detach()
            factor = torch.diag(scale)
            if conditional == "mvn":
                factor = scale[:, None] * getattr(guide.scale_trils, name).detach()
            else:
                wanted = np.eye(len(unit))
            found = (factor @ factor.T).numpy() / np.outer(unit, unit)
            np.testing.assert_allclose(found, wanted, atol=1e-8)


def test_draws_of_a_structured_guide_have_the_moments():
    """Through the guide's own code: mean and sd of unconstrained draws, mean-field as there is no dependency."""
    normal = normal_of()
    with made(lambda model: AutoStructured(model, conditionals="normal")) as (program, guide):
        start(guide, program, normal)
        draws = []
        with torch.no_grad():
            for _ in range(NUM_DRAWS):
                trace = poutine.trace(guide).get_trace(*program.arguments.args, **program.arguments.kwargs)
                values = {name: trace.nodes[name]["value"] for name in program.slices}
                draws.append(program.unconstrain(values).numpy())
    away = (np.asarray(draws) - normal.mean) / normal.conditional_scale
    assert np.abs(away.mean(axis=0)).max() < 4.5 / math.sqrt(NUM_DRAWS)
    assert np.abs(np.log(away.std(axis=0))).max() < 4.5 / math.sqrt(2 * NUM_DRAWS)


@pytest.mark.parametrize("shrink", [1.0, 0.1])
@pytest.mark.parametrize("name", MAKERS)
def test_holders_have_the_values_of_the_start(name, shrink):
    with made(MAKERS[name], model_for(name)) as (program, guide):
        coordinates = start(guide, program, normal_of(spread=2.0), shrink)
        assert torch.equal(coordinates.to_parameters(coordinates.start), held())
        assert coordinates.watched.shape == coordinates.start.shape
        assert coordinates.start.dtype == program.dtype
        assert torch.isfinite(held()).all()


@pytest.mark.parametrize("name", ["full_rank", "normal", "AutoDiagonalNormal", "low_rank", "iaf"])
def test_shrunk_scales_begin_at_a_share(name):
    scales = []
    for shrink in (1.0, 0.1):
        with made(MAKERS[name]) as (program, guide):
            start(guide, program, normal_of(), shrink)
            scales.append(site_values(guide.scales, program) if name == "normal" else guide.scale.detach().numpy())
    np.testing.assert_allclose(scales[1], 0.1 * scales[0], rtol=1e-10)


@pytest.mark.parametrize("name", MAKERS)
def test_the_gradient_is_that_of_finite_differences(name):
    with made(MAKERS[name], model_for(name)) as (program, guide):
        coordinates = start(guide, program, normal_of())
        generator = torch.Generator().manual_seed(2)
        weights = torch.randn(len(held()), generator=generator, dtype=torch.float64)
        flat = coordinates.start + 0.3 * torch.randn(len(coordinates.start), generator=generator, dtype=torch.float64)
        direction = torch.randn(len(flat), generator=generator, dtype=torch.float64)
        slope = weights * coordinates.to_parameters(flat).cos()

        def value(step):
            return float((weights * coordinates.to_parameters(flat + step * direction).sin()).sum())

        wanted = (8.0 * (value(1e-4) - value(-1e-4)) - (value(2e-4) - value(-2e-4))) / 1.2e-3
        found = float(coordinates.gradient(flat, slope) @ direction)
        assert found == pytest.approx(wanted, rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("name", MAKERS)
def test_every_coordinate_counts(name):
    """No coordinate is without effect, but for the part over the diagonal of a triangular factor."""
    with made(MAKERS[name], model_for(name)) as (program, guide):
        coordinates = start(guide, program, normal_of())
        ones = torch.zeros_like(coordinates.start)
        for weights in (held().cos(), torch.ones_like(held())):
            ones += coordinates.gradient(coordinates.start + 0.1, weights).abs()
        idle = int((ones == 0).sum())
    over = {"full_rank": 28, "AutoMultivariateNormal": 28, "AutoStructured": 1 + 1 + 3, "structured": 1 + 1}
    over |= {"full_rank_student_t": 28, "mixture": 3 * 28}
    assert idle <= over.get(name, 0)


@pytest.mark.parametrize("size", [1e-9, 1e9])
@pytest.mark.parametrize("name", [n for n in MAKERS if n not in {"delta", "laplace", "AutoDelta"}])
def test_tiny_and_huge_scales_survive(name, size):
    normal = normal_of()
    normal = Normal(normal.mean, size * normal.root, 0.0, 1)
    with made(MAKERS[name]) as (program, guide):
        coordinates = start(guide, program, normal)
        assert torch.isfinite(held()).all()
        slope = coordinates.gradient(coordinates.start, torch.ones_like(held()))
        assert torch.isfinite(slope).all()
        if isinstance(guide, AutoMultivariateNormal):
            order = positions(guide, program)
            matrix = guide.get_posterior().covariance_matrix.detach() / size**2
            np.testing.assert_allclose(matrix, covariance(normal)[np.ix_(order, order)] / size**2, rtol=1e-8, atol=1e-8)
        elif isinstance(guide, AutoNormal):
            np.testing.assert_allclose(site_values(guide.scales, program), normal.conditional_scale, rtol=1e-8)


@pytest.mark.parametrize("constraint", [constraints.positive, constraints.softplus_positive], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_scales_survive_their_constraint(constraint, dtype):
    wanted = torch.logspace(-9, 9, 37, dtype=dtype)
    block = Scales(torch.zeros(37, dtype=dtype), constraint, wanted)
    (kept,) = block.values(block.start)
    found = torch.distributions.transform_to(constraint)(kept)
    # Where softplus is taken for the identity, beyond 20, it lacks exp(-20).
    torch.testing.assert_close(found, wanted, rtol=1e-8 if dtype == torch.float64 else 2e-5, atol=0.0)
    assert torch.isfinite(kept).all()
    slope = torch.func.vjp(lambda part: block.values(part)[0], block.start)[1](torch.ones_like(kept))[0]
    assert torch.isfinite(slope).all()
    assert (slope > 0.0).all()
    torch.testing.assert_close(unconstrained(constraint, wanted), kept)


@pytest.mark.parametrize("correlation", [0.0, 0.999999, 1.0 - 1e-12])
@pytest.mark.parametrize("spread", [0.0, 8.0])
@pytest.mark.parametrize("name", ["full_rank", "structured", "AutoStructured", "low_rank", "normal"])
def test_nearly_singular_normals_are_no_obstacle(name, spread, correlation):
    scale = 10.0 ** np.linspace(-spread, spread, DIM)
    matrix = correlation * np.ones((DIM, DIM)) + (1.0 - correlation) * np.eye(DIM)
    normal = Normal(np.zeros(DIM), scale[:, None] * np.linalg.cholesky(matrix), 0.0, 1)
    for guide_model in (None, backwards):
        if guide_model is not None and name != "full_rank":
            continue
        with made(MAKERS[name], guide_model=guide_model) as (program, guide):
            start(guide, program, normal)
            assert torch.isfinite(held()).all()


def test_the_guides_own_order_of_sites_counts():
    normal = normal_of(spread=2.0)
    with made(AutoMultivariateNormal, guide_model=backwards) as (program, guide):
        order = positions(guide, program)
        assert order.tolist() == [5, 6, 7, 3, 4, 2, 0, 1]
        start(guide, program, normal)
        found = guide.get_posterior()
        unit = normal.scale[order]
        np.testing.assert_allclose(found.loc.detach(), normal.mean[order], rtol=1e-14)
        np.testing.assert_allclose(
            found.covariance_matrix.detach().numpy() / np.outer(unit, unit),
            covariance(normal)[np.ix_(order, order)] / np.outer(unit, unit),
            atol=1e-10,
        )


@pytest.mark.parametrize("name", [n for n in MAKERS if n not in {"AutoStructured", "structured"}])
def test_normals_without_correlations_serve_every_family(name):
    """As of targets with many dims. A low-rank guide keeps its loadings, so that it begins wider."""
    sds = 10.0 ** np.linspace(-2.0, 2.0, DIM)
    normal = Normal(np.arange(DIM, dtype=float), sds, 0.0, 1)
    with made(MAKERS[name], model_for(name)) as (program, guide):
        coordinates = start(guide, program, normal)
        np.testing.assert_allclose(start_of(guide, program), normal.mean, rtol=1e-14)
        assert torch.equal(coordinates.to_parameters(coordinates.start), held())
        if isinstance(guide, AutoMultivariateNormal):
            order = positions(guide, program)
            np.testing.assert_allclose(
                guide.get_posterior().covariance_matrix.detach(), np.diag(sds[order] ** 2), rtol=1e-9, atol=1e-12
            )


@pytest.mark.parametrize(
    "name", [n for n in MAKERS if n not in {"iaf", "realnvp", "neural_spline", "laplace", "mixture", "dais"}]
)
def test_the_start_is_where_the_guide_is(name):
    with made(MAKERS[name], model_for(name)) as (program, guide):
        found = start_of(guide, program)
        with torch.no_grad():
            values = guide.median(*program.arguments.args, **program.arguments.kwargs)
            wanted = program.unconstrain({name: values[name].detach() for name in program.slices})
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)


def test_families_by_name_are_all_known():
    for name in NAMES:
        with made(MAKERS[name]) as (_, guide):
            assert isinstance(guide, tuple(FAMILIES))


def called_loc(y):
    """Sites with the names that guides give to their own parts."""
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    scale = pyro.sample("scale", dist.Gamma(2.0, 2.0))
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.Normal(loc, scale), obs=y)


def called_parts(y):
    loc = pyro.sample("loc.inner", dist.Normal(0.0, 1.0))
    scale = pyro.sample("scale.inner", dist.Gamma(2.0, 2.0))
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.Normal(loc, scale), obs=y)


@pytest.mark.parametrize("model", [called_loc, called_parts])
@pytest.mark.parametrize("name", MAKERS)
def test_sites_may_have_any_name(name, model):
    normal = Normal(np.array([0.5, -0.5]), np.array([[1.0, 0.0], [0.5, 1.0]]), 0.0, 1)
    with made(MAKERS[name], model) as (program, guide):
        start(guide, program, normal)
        np.testing.assert_allclose(start_of(guide, program), normal.mean, rtol=1e-12)


def listed(model):
    guide = AutoGuideList(model)
    guide.append(AutoNormal(poutine.block(model, expose=["loc.inner"])))
    guide.append(AutoDelta(poutine.block(model, expose=["scale.inner"])))
    return guide


UNKNOWN = {
    "another family": AutoIAFNormal,
    "several": listed,
    "part of the sites": lambda model: AutoNormal(poutine.block(model, hide=["loc.inner"])),
    "a point of part": lambda model: AutoDelta(poutine.block(model, hide=["loc.inner"])),
    "a dense one of part": lambda model: AutoMultivariateNormal(poutine.block(model, hide=["scale.inner"])),
    "a structured one of part": lambda model: AutoStructured(poutine.block(model, hide=["loc.inner"])),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_an_unknown_layout_is_left_alone(kind):
    with made(UNKNOWN[kind], called_parts) as (program, guide):
        before = held()
        assert start_of(guide, program) is None
        assert blocks_of(guide, program, normal_of(2)) is None
        assert precondition(guide, program, 0, init_scale=0.1).coordinates is None
        assert torch.equal(held(), before)


def test_a_point_of_a_simplex_is_left_alone():
    """Softmax holds three numbers where the program has two."""
    with made(AutoDelta) as (program, guide):
        assert start_of(guide, program) is None
        assert blocks_of(guide, program, normal_of()) is None


def test_a_hand_written_guide_is_left_alone():
    own = torch.zeros(2)

    def by_hand(y):
        loc = pyro.param("own", own)
        pyro.sample("loc", dist.Normal(loc[0], 1.0))
        pyro.sample("scale", dist.LogNormal(loc[1], 1.0))

    with made(lambda _: by_hand, called_loc) as (program, guide):
        found = precondition(guide, program, 0, init_scale=0.1)
        assert found == Preconditioning()
        assert torch.equal(held(), torch.zeros(2, dtype=torch.float64))
    assert own.tolist() == [0.0, 0.0]
    assert not own.requires_grad


def test_parameters_in_no_block_are_their_own_coordinates():
    with made(lambda _: lambda y: (pyro.param("a", torch.arange(3.0)), pyro.param("b", torch.tensor(5.0)))):
        holders = dict(pyro.get_param_store().named_parameters())
        coordinates = joined([], torch.float64, identified=False)
        assert coordinates.start.tolist() == [0.0] * 4
        assert not coordinates.watched.any()
        step = torch.tensor([0.0, 1.0, 2.0, 3.0], dtype=torch.float64)
        assert coordinates.to_parameters(step).tolist() == [0.0, 2.0, 4.0, 8.0]
        block = Scaled(holders["a"], torch.ones(3), torch.tensor([1.0, 10.0, 100.0]))
        coordinates = joined([block], torch.float64)
        assert holders["a"].tolist() == [1.0, 1.0, 1.0]
        assert coordinates.to_parameters(step).tolist() == [1.0, 11.0, 201.0, 8.0]


@pytest.mark.parametrize("name", NAMES)
def test_a_look_ends_with_its_normal_in_the_guide(name):
    with made(MAKERS[name], model_for(name)) as (program, guide):
        found = precondition(guide, program, 0, init_scale=0.1)
        assert (found.note, found.endless) == ("", ())
        assert found.normal.num_steps < 80
        np.testing.assert_allclose(start_of(guide, program), found.normal.mean, rtol=1e-12)
        assert torch.equal(found.coordinates.to_parameters(found.coordinates.start), held())


def test_models_parameters_and_random_states_are_left_alone():
    weight = torch.tensor(2.0)

    def model(y):
        factor = pyro.param("factor", weight)
        pyro.sample(
            "y", dist.Normal(factor * pyro.sample("loc", dist.Normal(0.0, 1.0)), 1.0).expand([5]).to_event(1), obs=y
        )

    with made(AutoNormal, model) as (program, guide):
        program.model(**DATA)
        before = torch.get_rng_state()
        found = precondition(guide, program, 0, init_scale=0.1)
        assert torch.equal(torch.get_rng_state(), before)
        assert pyro.param("factor").item() == 2.0
        # 1 + 5 * 2² is the precision
        np.testing.assert_allclose(found.normal.scale, [21**-0.5], rtol=1e-9)
        np.testing.assert_allclose(found.normal.mean, [2.0 * float(DATA["y"].sum()) / 21.0], rtol=1e-9)
        assert len(found.coordinates.start) == 3
    assert weight.item() == 2.0
    assert not weight.requires_grad


def test_a_latent_without_scale_is_named():
    def model(y):
        pyro.sample("known", dist.Normal(0.0, 1.0))
        pyro.sample("unknown", dist.ImproperUniform(constraints.real, (), ()))
        pyro.sample("y", dist.Normal(0.0, 1.0).expand([5]).to_event(1), obs=y)

    with made(AutoNormal, model) as (program, guide):
        assert precondition(guide, program, 0, init_scale=0.1).endless == ("unknown",)


def test_a_target_that_holds_too_much_is_not_looked_at(monkeypatch):
    monkeypatch.setattr(importlib.import_module(precondition.__module__), "MOST_NUMBERS", 3)
    with made(AutoNormal) as (program, guide):
        before = held()
        found = precondition(guide, program, 0, init_scale=0.1)
        assert found.coordinates is None
        assert "more than 3 numbers" in found.note
        assert torch.equal(held(), before)


@pytest.mark.parametrize(("bound", "note"), [(-1.0, "begun elsewhere"), (-100.0, "not finite at")])
def test_a_start_that_is_not_finite_is_replaced(bound, note):
    """The density is -inf above a bound."""

    def model(y):
        loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
        pyro.factor("cut", torch.where(loc > bound, -torch.inf, 0.0))
        pyro.sample("y", dist.Normal(loc, 1.0).expand([5]).to_event(1), obs=y)

    with made(lambda model: AutoNormal(model, init_loc_fn=lambda site: torch.zeros(())), model) as (program, guide):
        found = precondition(guide, program, 0, init_scale=0.01)
        assert note in found.note
        assert (found.coordinates is None) == (bound == -100.0)
        if found.coordinates is not None:
            assert start_of(guide, program)[0] < bound
