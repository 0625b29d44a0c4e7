"""An amortised q(z | x) as normals of each datum, where it is that."""

from typing import Any

import pyro.poutine as poutine
import torch
from torch.distributions import Independent, MultivariateNormal, Normal

from ppl_models.inference.by_datum.normals import DIAGONAL, FULL_RANK, Normals
from ppl_models.inference.by_datum.target import DatumTarget
from ppl_models.inference.draws import latent_draws
from ppl_models.inference.fit_result import Fit
from ppl_models.inference.sitewise_guide import UNCONSTRAINED
from ppl_models.program.estimators.drawing import draw
from ppl_models.program.estimators.weights import weights_of
from ppl_models.program.nodes import nodes_of
from ppl_models.seeds import child_seed

OTHER = "other"
AGREES = {torch.float64: 1e-6, torch.float32: 1e-5}
"""How far log weights may differ, relative to their size: rounding, and no weak dependence of one latent on another."""
PROOFS = 3


def amortised_normals(fit: Fit, target: DatumTarget, *, seed: int = 0) -> tuple[Normals | None, str]:
    """The guide at the fit's rows as normals over unconstrained latents; call it inside `program.isolated()`.

    Mean and factor are read off the distributions of one run of the guide, and proven on the log weights of other
    runs: they differ where a factor depends on what was drawn, as q(z_1 | z_2, x) does, and for every other family.

    Args:
        fit: whose guide gives each row's latents.
        target: log p(x, z) of each datum of the same fit.
        seed: of the runs.

    Returns:
        The normals, and "diagonal" or "full_rank"; None and "other" where the guide is something else.
    """
    with fit.program.isolated(seed=child_seed(seed, "read")), torch.no_grad():
        found = _read(fit, target)
    if found is None:
        return None, OTHER
    with fit.program.isolated(seed=child_seed(seed, "prove")), torch.no_grad():
        proven = all(_proven(fit, target, found[0]) for _ in range(PROOFS))
    return found if proven else (None, OTHER)


def _proven(fit: Fit, target: DatumTarget, normals: Normals) -> bool:
    """Whether the normals give a draw of the guide the log weights that the guide itself gives it."""
    trace = draw(fit.program, fit.guide)
    values = {name: nodes_of(trace)[name]["value"][None] for name in fit.program.slices}
    wanted = weights_of(fit.program, trace).log_weight.reshape(-1)
    points = target.blocks_of(values)
    log_p, _ = target(points)
    weights = (log_p - normals.log_prob_at(normals.noise_of(points)))[0]
    tolerance = AGREES.get(weights.dtype, 1e-2) * (1.0 + wanted.abs())
    return bool(((weights - wanted).abs() <= tolerance).all())


def amortised_points(fit: Fit, target: DatumTarget, num_draws: int, *, seed: int = 0) -> torch.Tensor:
    """Draws of any guide, unconstrained, shape (draw, datum, dim)."""
    with fit.program.isolated(seed=child_seed(seed, "points")), torch.no_grad():
        values, _ = latent_draws(fit.program, fit.guide, num_draws)
        return target.blocks_of(values)


def _read(fit: Fit, target: DatumTarget) -> tuple[Normals, str] | None:
    program = fit.program
    nodes = nodes_of(poutine.trace(fit.guide).get_trace(*program.arguments.args, **program.arguments.kwargs))
    means = torch.zeros(program.num_dims, dtype=program.dtype, device=program.device)
    scales, matrices, family = torch.zeros_like(means), {}, DIAGONAL
    for name, (where, shape) in program.slices.items():
        base = _base(nodes.get(name + UNCONSTRAINED, nodes.get(name)))
        if isinstance(base, Normal):
            means[where], scales[where] = base.loc.expand(shape).reshape(-1), base.scale.expand(shape).reshape(-1)
        elif isinstance(base, MultivariateNormal):
            if base.loc.shape != shape or shape[:-1].numel() != target.num_data:
                return None
            means[where], scales[where] = base.loc.reshape(-1), torch.nan
            matrices[name], family = base.scale_tril, FULL_RANK
        else:
            return None
    mean, scale = (target.prior.blocks(one[None])[0] for one in (means, scales))
    factor, start = torch.diag_embed(scale), 0
    for name, (_, shape) in program.slices.items():
        size = shape.numel() // target.num_data
        if name in matrices:
            factor[:, start : start + size, start : start + size] = matrices[name].reshape(-1, size, size)
        start += size
    return Normals(mean, factor.tril()), family


def _base(node: Any) -> Any:
    """The distribution of unconstrained numbers at a guide's site."""
    fn = None if node is None else node["fn"]
    while isinstance(fn, Independent):
        fn = fn.base_dist
    return fn
