"""How the parameters of each automatic family read in coordinates taken from a normal approximation of the target."""

import math
from collections.abc import Callable, Iterator
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
from pyro.nn import PyroModule
from torch.distributions import biject_to, constraints, transform_to
from torch.distributions.constraints import Constraint

from guides.inverse_autoregressive import AutoInverseAutoregressive
from ppl_models.inference.preconditioning.blocks import Block, Locations, Scaled, Scales, Triangle
from ppl_models.inference.preconditioning.factors import factor_analysis
from ppl_models.inference.preconditioning.pilot import Normal
from ppl_models.program import Program


class _Latents:
    """The normal approximation as tensors, and where each latent stands in the flat vector."""

    def __init__(self, program: Program, normal: Normal, shrink: float):
        self.program, self.normal, self.begin = program, normal, math.log(shrink)
        self.tril = self.tensor(normal.scale_tril) if normal.root.ndim == 2 else None
        self.root = self.tensor(normal.root) if self.tril is None else self.tril

    def tensor(self, values: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(values, dtype=self.program.dtype, device=self.program.device)

    def index(self, name: str) -> torch.Tensor:
        place, _ = self.program.slices[name]
        return torch.arange(place.start, place.stop)

    @property
    def mean(self) -> torch.Tensor:
        return self.tensor(self.normal.mean)

    @property
    def scale(self) -> torch.Tensor:
        return self.tensor(self.normal.scale)

    @property
    def conditional_scale(self) -> torch.Tensor:
        return self.tensor(self.normal.conditional_scale)


def blocks_of(guide: AutoGuide, program: Program, normal: Normal, shrink: float = 1.0) -> list[Block] | None:
    """Coordinates of an automatic guide's parameters; None where its family is not known or does not fit the latents.

    Args:
        guide: after its first run.
        program: the model with its data.
        normal: the target's approximation.
        shrink: factor of its scales at the start.
    """
    latents = _Latents(program, normal, shrink)
    for family, make in FAMILIES.items():
        if isinstance(guide, family):
            try:
                return make(guide, latents)
            except _UnknownLayoutError:
                return None
    return None


def start_of(guide: AutoGuide, program: Program) -> np.ndarray | None:
    """Where an automatic guide's locations are, as a flat unconstrained vector; None for families not known."""
    if not isinstance(guide, tuple(FAMILIES)):
        return None
    try:
        held = list(_locations(guide, program))
    except _UnknownLayoutError:
        return None
    flat = np.zeros(program.num_dims)
    for holder, index in held:
        flat[index.numpy()] = holder.detach().reshape(-1).cpu().numpy()
    return flat


class _UnknownLayoutError(Exception):
    """The guide's parameters are not laid out as its family's usually are."""


def _locations(guide: AutoGuide, program: Program) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Each tensor of locations, and which latents it holds."""
    slices = program.slices
    index = {name: torch.arange(place.start, place.stop) for name, (place, _) in slices.items()}
    if isinstance(guide, AutoContinuous):  # a site may be called `loc` in others
        names = list(guide._unconstrained_shapes)
        if set(names) != set(index):
            raise _UnknownLayoutError
        holder, _ = _held(guide, "loc")
        yield holder, torch.cat([index[name] for name in names])
        return
    for name in index:
        if isinstance(guide, AutoDelta):
            holder, constraint = _held(guide, name)
            trace: Any = guide.prototype_trace
            support = trace.nodes[name]["fn"].support
            if type(transform_to(constraint)) is not type(biject_to(support)):
                raise _UnknownLayoutError
        else:
            holder, _ = _held(guide.locs, name)
        if holder.numel() != len(index[name]):
            raise _UnknownLayoutError
        yield holder, index[name]


def _held(module: PyroModule, name: str) -> tuple[torch.Tensor, Constraint]:
    """The unconstrained tensor behind a (dotted) attribute, and its constraint."""
    *path, last = name.split(".")
    try:
        owner = attrgetter(".".join(path))(module) if path else module
    except AttributeError:
        raise _UnknownLayoutError from None
    constrained = getattr(owner, "_pyro_params", {}).get(last)
    if constrained is not None:
        last = last + "_unconstrained"
    held = owner._parameters.get(last)
    if held is None:
        raise _UnknownLayoutError
    return held, constrained[0] if constrained is not None else constraints.real


def _location_block(guide: AutoGuide, latents: _Latents, *, dense: bool = True) -> Locations:
    holders, indices = zip(*_locations(guide, latents.program), strict=True)
    return Locations(holders, indices, latents.mean, latents.root if dense else latents.scale)


def _point(guide: AutoGuide, latents: _Latents) -> list[Block]:
    return [_location_block(guide, latents)]


def _mean_field(guide: AutoGuide, latents: _Latents) -> list[Block]:
    blocks: list[Block] = [_location_block(guide, latents)]
    names = [None] if isinstance(guide, AutoContinuous) else list(latents.program.slices)
    for name in names:
        holder, constraint = _held(guide, "scale") if name is None else _held(guide.scales, name)
        index = _flat_index(guide, latents) if name is None else latents.index(name)
        blocks.append(Scales(holder, constraint, latents.conditional_scale[index].reshape(holder.shape), latents.begin))
    return blocks


def _flat_index(guide: AutoGuide, latents: _Latents) -> torch.Tensor:
    ((_, index),) = _locations(guide, latents.program)
    return index


def _dense(guide: AutoGuide, latents: _Latents) -> list[Block]:
    scale, constraint = _held(guide, "scale")
    tril, tril_constraint = _held(guide, "scale_tril")
    index = _flat_index(guide, latents)
    if latents.tril is None:
        return _diagonal(guide, latents)
    ordered = latents.tril if bool((index[1:] > index[:-1]).all()) else _cholesky_of(latents.tril[index])
    return [_location_block(guide, latents), Triangle(scale, constraint, tril, tril_constraint, ordered, latents.begin)]


def _cholesky_of(root: torch.Tensor) -> torch.Tensor:
    # By rotation, which a nearly singular covariance does not upset.
    upper = torch.linalg.qr(root.mT, mode="r").R
    return (upper * torch.where(upper.diagonal() < 0.0, -1.0, 1.0)[:, None]).mT.contiguous()


def _low_rank(guide: AutoGuide, latents: _Latents) -> list[Block]:
    scale, constraint = _held(guide, "scale")
    factor, _ = _held(guide, "cov_factor")
    index = _flat_index(guide, latents)
    if latents.tril is None:
        return _diagonal(guide, latents)
    ordered = latents.tril[index]
    covariance = (ordered @ ordered.mT).cpu().numpy()
    unique, loadings = factor_analysis(covariance, factor.shape[1])
    relative = latents.tensor(loadings / unique[:, None])
    unit = (1.0 + relative.square().sum(dim=1, keepdim=True)).sqrt().expand_as(relative).contiguous()
    return [
        _location_block(guide, latents),
        Scales(scale, constraint, latents.tensor(unique), latents.begin),
        Scaled(factor, relative, unit, identified=False),
    ]


def _structured(guide: AutoGuide, latents: _Latents) -> list[Block]:
    blocks: list[Block] = [_location_block(guide, latents, dense=False)]
    scale = latents.scale
    conditional = latents.conditional_scale
    for name in latents.program.slices:
        kind = guide.conditionals[name]
        if kind not in ("normal", "mvn"):
            continue
        holder, constraint = _held(guide.scales, name)
        index = latents.index(name)
        if kind == "mvn" and latents.tril is not None:
            tril, tril_constraint = _held(guide.scale_trils, name)
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


def _conditional_tril(latents: _Latents, index: torch.Tensor) -> torch.Tensor:
    """The Cholesky factor of some latents' covariance given all others."""
    assert latents.tril is not None
    eye = torch.eye(len(latents.tril)).to(latents.tril)
    columns = torch.linalg.solve_triangular(latents.tril, eye, upper=False)[:, index]
    # The precision is columns.T @ columns, so that inverse(R) is a root of the covariance.
    upper = torch.linalg.qr(columns, mode="r").R
    return _cholesky_of(torch.linalg.solve_triangular(upper, eye[: len(index), : len(index)], upper=True))


def _diagonal(guide: AutoGuide, latents: _Latents) -> list[Block]:
    """Locations and scales, each latent by its own standard deviation."""
    scale, constraint = _held(guide, "scale")
    return [
        _location_block(guide, latents, dense=False),
        Scales(scale, constraint, latents.scale[_flat_index(guide, latents)], latents.begin),
    ]


def is_flow(guide: AutoGuide) -> bool:
    """Whether the guide's other parameters are weights of networks."""
    return isinstance(guide, AutoInverseAutoregressive)


FAMILIES: dict[type, Callable[[AutoGuide, _Latents], list[Block]]] = {
    AutoNormal: _mean_field,
    AutoDiagonalNormal: _mean_field,
    AutoMultivariateNormal: _dense,
    AutoLowRankMultivariateNormal: _low_rank,
    AutoStructured: _structured,
    AutoInverseAutoregressive: _diagonal,
    AutoLaplaceApproximation: _point,
    AutoDelta: _point,
}
