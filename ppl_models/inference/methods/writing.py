"""Give a guide's parameters the values of an approximation."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from pyro.infer.autoguide import AutoGuide

from guides.mixture import AutoNormalMixture
from guides.particles import AutoParticles
from ppl_models.inference.methods.approximations import Approximation, Mixture, Normal
from ppl_models.inference.preconditioning.blocks import joined, unconstrained
from ppl_models.inference.preconditioning.families import blocks_of
from ppl_models.inference.preconditioning.layout import cholesky_of, held
from ppl_models.program import Program


def write(guide: Callable[..., Any], program: Program, approximation: Approximation) -> None:
    """Write an approximation into the parameters of a guide of its family, in the caller's param store.

    Args:
        guide: after its first run: of a family that a normal can be read into, `AutoNormalMixture` with as many
            components as the mixture has, or `AutoParticles` with as many particles as there are points.
        program: the model with its data, in whose order of latents the approximation is.
        approximation: what was found.
    """
    assert isinstance(guide, AutoGuide)
    if isinstance(approximation, Normal):
        blocks = blocks_of(guide, program, approximation)
        assert blocks is not None, type(guide)
        joined(blocks, program.dtype)
    elif isinstance(approximation, Mixture):
        assert isinstance(guide, AutoNormalMixture)
        _fill(guide, _mixture(guide, program, approximation))
    else:
        assert isinstance(guide, AutoParticles)
        index = _own_order(guide, program)
        _fill(guide, {"particles": _tensor(program, approximation.points)[:, index]})


def _mixture(guide: AutoNormalMixture, program: Program, mixture: Mixture) -> Mapping[str, torch.Tensor]:
    index = _own_order(guide, program)
    found = {
        "locs": torch.stack([_tensor(program, normal.mean)[index] for normal in mixture.normals]),
        "weights": _tensor(program, mixture.weights),
    }
    if "scale_trils" not in guide._pyro_params:
        scales = [_tensor(program, normal.conditional_scale)[index] for normal in mixture.normals]
        return {**found, "scales": torch.stack(scales)}
    trils = torch.stack([cholesky_of(_tensor(program, normal.scale_tril)[index]) for normal in mixture.normals])
    scales = trils.diagonal(dim1=-2, dim2=-1)
    # The diagonal is one but for rounding, which its constraint would not have.
    unit = (trils / scales[..., None]).tril(-1) + torch.eye(trils.shape[-1]).to(trils)
    return {**found, "scales": scales, "scale_trils": unit}


def _own_order(guide: AutoGuide, program: Program) -> torch.Tensor:
    """Which latent of the program each place of a guide's one vector holds."""
    places = program.slices
    return torch.cat([torch.arange(places[n][0].start, places[n][0].stop) for n in guide._unconstrained_shapes])


def _tensor(program: Program, values: np.ndarray) -> torch.Tensor:
    return torch.as_tensor(values, dtype=program.dtype, device=program.device)


def _fill(guide: AutoGuide, values: Mapping[str, torch.Tensor]) -> None:
    for name, value in values.items():
        holder, constraint = held(guide, name)
        assert holder.shape == value.shape, (name, holder.shape, value.shape)
        with torch.no_grad():
            holder.copy_(unconstrained(constraint, value))
