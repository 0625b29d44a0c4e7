"""One feature of each row, left out and predicted from the row's others."""

from typing import Any

import pyro.poutine as poutine
import torch
from pyro.distributions import MaskedDistribution
from torch.distributions import Independent

from ppl_models.diagnostics import FeaturePIT, feature_pit
from ppl_models.inference import Fit
from ppl_models.program import Rows, map_draws
from ppl_models.program.handlers import FromValues
from ppl_models.program.nodes import nodes_of
from ppl_models.seeds import child_seed
from ppl_models.workflow.audit.encoding import Encoded

DRAWN, DENSITY = "drawn", "density"


def left_out_features(fit: Fit, rows: Rows, encoded: Encoded, seed: int) -> FeaturePIT | str:
    """The PIT of one feature, chosen at random, of each row.

    Args:
        fit: at the rows, with no latents outside of their plate.
        rows: the plate over them.
        encoded: draws of q(z | x) at these rows.
        seed: of the choice and the draws.

    Returns:
        The values, or why they cannot be had: features that depend on each other given z. What the model masks was not
        observed, and is not chosen; rows of which nothing was are left out.
    """
    arguments, program = fit.program.arguments, fit.program
    site = rows.observed[-1]
    generator = torch.Generator(device="cpu").manual_seed(child_seed(seed, "feature"))

    def base_of(values: dict[str, torch.Tensor]) -> tuple[Any, torch.Tensor, int, torch.Tensor]:
        with FromValues(values):
            return _base(nodes_of(poutine.trace(program.model).get_trace(*arguments.args, **arguments.kwargs))[site])

    with program.isolated(seed=child_seed(seed, "features")), torch.no_grad():
        fn, value, inner, kept = base_of({name: each[0] for name, each in encoded.values.items()})
        if fn.event_dim:
            return f"the features of '{site}' depend on each other given the latents"
        axis = rows.dim - inner
        flat = _by_row(value.expand(fn.batch_shape), axis)
        kept = _by_row(kept.expand(fn.batch_shape), axis).cpu()
        luck = torch.rand(flat.shape, generator=generator)
        index = torch.where(kept, luck, -1.0).argmax(1, keepdim=True).to(flat.device)
        rows_kept = kept.any(1).numpy()
        if not rows_kept.any():
            return f"every value of '{site}' is masked"

        def one(values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            fn, observed, *_ = base_of(values)
            parts = {DRAWN: fn.sample(), DENSITY: fn.log_prob(observed)}
            return {name: _by_row(part, axis).gather(1, index)[:, 0] for name, part in parts.items()}

        found = map_draws(one, len(encoded.log_q), dict(encoded.values), size_hint=program.size_hint)
    drawn, density = (found[name].double().cpu().numpy()[:, rows_kept] for name in (DRAWN, DENSITY))
    chosen = flat.gather(1, index)[:, 0].double().cpu().numpy()[rows_kept]
    return feature_pit(chosen, drawn, density, encoded.log_weight[:, rows_kept], seed=child_seed(seed, "ties"))


def masked_features(fit: Fit, site: str) -> bool:
    """Whether the model masks some values of an observed site."""
    arguments = fit.program.arguments
    with fit.program.isolated(seed=0), torch.no_grad():
        trace = poutine.trace(fit.program.model).get_trace(*arguments.args, **arguments.kwargs)
        return not bool(_base(nodes_of(trace)[site])[-1].all())


def _base(node: Any) -> tuple[Any, torch.Tensor, int, torch.Tensor]:
    """The distribution of single features, the values, how many axes were made events of, and which are not masked."""
    fn, inner, masks = node["fn"], 0, [] if node["mask"] is None else [(0, node["mask"])]
    while isinstance(fn, (Independent, MaskedDistribution)):
        if isinstance(fn, Independent):
            inner += fn.reinterpreted_batch_ndims
        else:
            masks.append((inner, fn._mask))
        fn = fn.base_dist
    kept = torch.ones((), dtype=torch.bool)
    for outside, mask in masks:
        mask = torch.as_tensor(mask, dtype=torch.bool)
        kept = kept.to(mask.device) & mask.reshape(*mask.shape, *(1,) * (inner - outside))
    return fn, node["value"], inner, kept


def _by_row(values: torch.Tensor, axis: int) -> torch.Tensor:
    rows_first = values.movedim(axis, 0)
    return rows_first.reshape(len(rows_first), -1)
