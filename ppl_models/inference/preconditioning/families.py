"""How the parameters of each automatic family read in coordinates taken from a normal approximation of the target."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from pyro.infer.autoguide import (
    AutoContinuous,
    AutoDelta,
    AutoDiagonalNormal,
    AutoGuide,
    AutoLaplaceApproximation,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
    AutoStructured,
)

from guides.dais import AutoAnnealed
from guides.full_rank_student_t import AutoMultivariateStudentT
from guides.hierarchical import AutoHierarchical
from guides.inverse_autoregressive import AutoInverseAutoregressive
from guides.mixture import AutoNormalMixture
from guides.particles import AutoParticles
from guides.student_t import AutoStudentT
from guides.zuko_flow import AutoZukoFlow
from ppl_models.inference.preconditioning.blocks import Block, Scaled, Scales, Triangle
from ppl_models.inference.preconditioning.elements import annealed, hierarchical
from ppl_models.inference.preconditioning.factors import factor_analysis
from ppl_models.inference.preconditioning.layout import (
    Latents,
    UnknownLayoutError,
    cholesky_of,
    flat_index,
    held,
    location_block,
    locations,
)
from ppl_models.inference.preconditioning.mixtures import mixture
from ppl_models.inference.preconditioning.pilot import Normal
from ppl_models.program import Program


def blocks_of(guide: AutoGuide, program: Program, normal: Normal, shrink: float = 1.0) -> list[Block] | None:
    """Coordinates of an automatic guide's parameters; None where its family is not known or does not fit the latents.

    Args:
        guide: after its first run.
        program: the model with its data.
        normal: the target's approximation.
        shrink: factor of its scales at the start.
    """
    latents = Latents(program, normal, shrink)
    for family, make in FAMILIES.items():
        if isinstance(guide, family):
            try:
                return make(guide, latents)
            except UnknownLayoutError:
                return None
    return None


def start_of(guide: AutoGuide, program: Program) -> np.ndarray | None:
    """Where an automatic guide's locations are, as a flat unconstrained vector; None for families not known."""
    if not isinstance(guide, tuple(FAMILIES)):
        return None
    try:
        places = list(locations(guide, program))
    except UnknownLayoutError:
        return None
    flat = np.zeros(program.num_dims)
    for holder, index in places:
        flat[index.numpy()] = holder.detach().reshape(-1).cpu().numpy()
    return flat


def _point(guide: AutoGuide, latents: Latents) -> list[Block]:
    return [location_block(guide, latents)]


def _mean_field(guide: AutoGuide, latents: Latents) -> list[Block]:
    blocks: list[Block] = [location_block(guide, latents)]
    names = [None] if isinstance(guide, AutoContinuous) else list(latents.program.slices)
    for name in names:
        holder, constraint = held(guide, "scale") if name is None else held(guide.scales, name)
        index = flat_index(guide, latents) if name is None else latents.index(name)
        blocks.append(Scales(holder, constraint, latents.conditional_scale[index].reshape(holder.shape), latents.begin))
    return blocks


def _dense(guide: AutoGuide, latents: Latents) -> list[Block]:
    scale, constraint = held(guide, "scale")
    tril, tril_constraint = held(guide, "scale_tril")
    index = flat_index(guide, latents)
    if latents.tril is None:
        return _diagonal(guide, latents)
    ordered = latents.tril if bool((index[1:] > index[:-1]).all()) else cholesky_of(latents.tril[index])
    return [location_block(guide, latents), Triangle(scale, constraint, tril, tril_constraint, ordered, latents.begin)]


def _low_rank(guide: AutoGuide, latents: Latents) -> list[Block]:
    scale, constraint = held(guide, "scale")
    factor, _ = held(guide, "cov_factor")
    index = flat_index(guide, latents)
    if latents.tril is None:
        return _diagonal(guide, latents)
    ordered = latents.tril[index]
    covariance = (ordered @ ordered.mT).cpu().numpy()
    unique, loadings = factor_analysis(covariance, factor.shape[1])
    relative = latents.tensor(loadings / unique[:, None])
    unit = (1.0 + relative.square().sum(dim=1, keepdim=True)).sqrt().expand_as(relative).contiguous()
    return [
        location_block(guide, latents),
        Scales(scale, constraint, latents.tensor(unique), latents.begin),
        Scaled(factor, relative, unit, identified=False),
    ]


def _structured(guide: AutoGuide, latents: Latents) -> list[Block]:
    blocks: list[Block] = [location_block(guide, latents, dense=False)]
    scale = latents.scale
    conditional = latents.conditional_scale
    for name in latents.program.slices:
        kind = guide.conditionals[name]
        if kind not in ("normal", "mvn"):
            continue
        holder, constraint = held(guide.scales, name)
        index = latents.index(name)
        if kind == "mvn" and latents.tril is not None:
            tril, tril_constraint = held(guide.scale_trils, name)
            root = _conditional_tril(latents, index)
            blocks.append(Triangle(holder, constraint, tril, tril_constraint, root, latents.begin))
        else:
            blocks.append(Scales(holder, constraint, conditional[index].reshape(holder.shape), latents.begin))
        for upstream in guide.dependencies.get(name, {}):
            layer = attrgetter(upstream)(attrgetter(name)(guide.deps))
            if isinstance(layer, torch.nn.Linear):
                unit = scale[index][:, None] / scale[latents.index(upstream)][None, :]
                blocks.append(Scaled(layer.weight, layer.weight.detach().clone(), unit))
    return blocks


def _conditional_tril(latents: Latents, index: torch.Tensor) -> torch.Tensor:
    """The Cholesky factor of some latents' covariance given all others."""
    assert latents.tril is not None
    eye = torch.eye(len(latents.tril)).to(latents.tril)
    columns = torch.linalg.solve_triangular(latents.tril, eye, upper=False)[:, index]
    # The precision is columns.T @ columns, so that inverse(R) is a root of the covariance.
    upper = torch.linalg.qr(columns, mode="r").R
    return cholesky_of(torch.linalg.solve_triangular(upper, eye[: len(index), : len(index)], upper=True))


def _diagonal(guide: AutoGuide, latents: Latents) -> list[Block]:
    """Locations and scales, each latent by its own standard deviation."""
    scale, constraint = held(guide, "scale")
    return [
        location_block(guide, latents, dense=False),
        Scales(scale, constraint, latents.scale[flat_index(guide, latents)], latents.begin),
    ]


def _student_t(guide: AutoGuide, latents: Latents) -> list[Block]:
    tails = [_tails(*held(guide.dfs, name)) for name in latents.program.slices]
    return [*_mean_field(guide, latents), *tails]


def _dense_student_t(guide: AutoGuide, latents: Latents) -> list[Block]:
    return [*_dense(guide, latents), _tails(*held(guide, "df"))]


def _tails(holder: torch.Tensor, _: Any) -> Block:
    # Where the target's tails are a normal's, degrees of freedom grow without end.
    return Scaled(holder, holder.detach().clone(), torch.ones_like(holder), identified=False)


def _own(guide: AutoGuide, latents: Latents) -> list[Block]:
    # Particles are no normal's parameters: they are moved in their own coordinates.
    raise UnknownLayoutError


def is_flow(guide: AutoGuide) -> bool:
    """Whether the guide's other parameters are weights of networks."""
    return isinstance(guide, (AutoInverseAutoregressive, AutoZukoFlow))


FAMILIES: dict[type, Callable[[Any, Latents], list[Block]]] = {
    AutoStudentT: _student_t,
    AutoMultivariateStudentT: _dense_student_t,
    AutoNormalMixture: mixture,
    AutoParticles: _own,
    AutoZukoFlow: _diagonal,
    AutoNormal: _mean_field,
    AutoDiagonalNormal: _mean_field,
    AutoMultivariateNormal: _dense,
    AutoLowRankMultivariateNormal: _low_rank,
    AutoStructured: _structured,
    AutoInverseAutoregressive: _diagonal,
    AutoAnnealed: annealed,
    AutoHierarchical: hierarchical,
    AutoLaplaceApproximation: _point,
    AutoDelta: _point,
}
"""The first that a guide is an instance of counts."""
