"""Coordinates of the hierarchical family, and of the base of annealing: they begin at the approximation."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import guides
from ppl_models.inference.preconditioning import Normal
from ppl_models.inference.preconditioning.blocks import joined
from ppl_models.inference.preconditioning.families import blocks_of, start_of
from ppl_models.program import build_program

DIM = 3 + 2 * 3 + 2 * 4  # globals, two latents in each of three groups, one in each of two teams' four members


def model():
    vector = pyro.sample("vector", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("group", 3):
        pyro.sample("first", dist.Normal(vector[0], 1.0))
        pyro.sample("second", dist.LogNormal(vector[1], 1.0))
    with pyro.plate("team", 2, dim=-2), pyro.plate("member", 4, dim=-1):
        pyro.sample("inner", dist.Normal(0.0, 1.0))
    pyro.sample("scale", dist.Gamma(2.0, 2.0))


def normal(spread, dense=True):
    rng = np.random.default_rng(0)
    sds = 10.0 ** np.linspace(-spread, spread, DIM)
    root = (np.eye(DIM) + 0.3 * rng.normal(size=(DIM, DIM))) * sds[:, None]
    return Normal(sds * rng.normal(size=DIM), root if dense else sds, 0.0, 1)


def factor(part):
    scale = part.scale.detach()
    unit = getattr(part, "scale_tril", None)
    return torch.diag_embed(scale) if unit is None else scale[..., None] * unit.detach()


@pytest.mark.parametrize("spread", [0.0, 4.0])
def test_each_elements_covariance_with_the_globals_is_the_normals(spread):
    program, look = build_program(model, ()), normal(spread)
    with program.isolated(seed=1):
        guide = guides.make("hierarchical", program.model)
        guide()
        joined(blocks_of(guide, program, look), program.dtype)
        np.testing.assert_allclose(start_of(guide, program), look.mean, rtol=1e-12)
        unit = 1.0 / look.scale
        wanted = (look.root @ look.root.T) * np.outer(unit, unit)
        at = {name: np.r_[place] for name, (place, _) in program.slices.items()}
        above = np.r_[at["vector"], at["scale"]]
        rows = factor(guide.parts.globals).numpy() * unit[above][:, None]
        np.testing.assert_allclose(rows @ rows.T, wanted[np.ix_(above, above)], atol=1e-10)
        elements = {"plate_group": [[at["first"][i], at["second"][i]] for i in range(3)]}
        elements["plate_team__member"] = [[i] for i in at["inner"]]
        for key, places in elements.items():
            part = getattr(guide.parts, key)
            slopes = part.on_globals.detach().reshape(len(places), -1, 3).numpy()
            roots = factor(part).reshape(len(places), slopes.shape[1], -1).numpy()
            for place, slope, root in zip(places, slopes, roots, strict=True):
                a, b = slope * unit[place][:, None], root * unit[place][:, None]
                np.testing.assert_allclose(a @ rows.T, wanted[np.ix_(place, above)], atol=1e-10)
                np.testing.assert_allclose(a @ a.T + b @ b.T, wanted[np.ix_(place, place)], atol=1e-10)


def test_without_correlations_nothing_depends_on_the_globals():
    program, look = build_program(model, ()), normal(1.0, dense=False)
    with program.isolated(seed=1):
        guide = guides.make("hierarchical", program.model)
        guide()
        joined(blocks_of(guide, program, look), program.dtype)
        assert not guide.parts.plate_group.on_globals.any()
        found = torch.cat([factor(guide.parts.plate_group).diagonal(dim1=-2, dim2=-1)[:, i] for i in range(2)])
        at = [np.r_[program.slices[name][0]] for name in ("first", "second")]
        np.testing.assert_allclose(found, look.scale[np.concatenate(at)], rtol=1e-9)


@pytest.mark.parametrize("base", ["dense", "diagonal"])
def test_annealing_begins_at_the_normal(base):
    program, look = build_program(model, ()), normal(2.0)
    with program.isolated(seed=1):
        guide = guides.make("dais", program.model, base=base)
        guide()
        joined(blocks_of(guide, program, look), program.dtype)
        order = np.concatenate([np.r_[program.slices[name][0]] for name in guide._unconstrained_shapes])
        np.testing.assert_allclose(guide.loc.detach(), look.mean[order], rtol=1e-12)
        if base == "diagonal":
            np.testing.assert_allclose(guide.scale.detach(), look.scale[order], rtol=1e-9)
        else:
            unit = np.outer(look.scale[order], look.scale[order])
            wanted = (look.root @ look.root.T)[np.ix_(order, order)] / unit
            found = guide.get_posterior().covariance_matrix.detach().numpy() / unit
            np.testing.assert_allclose(found, wanted, atol=1e-10)


def test_rows_in_an_order_of_the_models_own_are_left_alone():
    def permuted():
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("row", 3, subsample=torch.tensor([2, 0, 1])):
            pyro.sample("effect", dist.Normal(mean, 1.0))

    program = build_program(permuted, ())
    with program.isolated(seed=1):
        guide = guides.make("hierarchical", program.model)
        guide()
        assert start_of(guide, program) is None
        assert blocks_of(guide, program, Normal(np.zeros(4), np.eye(4), 0.0, 1)) is None
