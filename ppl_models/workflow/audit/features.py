"""One feature of each row, left out and predicted from the row's others."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
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

DRAWN, DENSITY, OTHERS = "drawn", "density", "others"


@dataclass(frozen=True)
class LeftOut:
    """Which feature of each row is left out.

    Attributes:
        index: its place among the features, shape (row, 1); of what the model masks none is chosen.
        observed: its value, shape (row,).
        kept: rows of which anything was observed, shape (row,).
        alone: whether no row has another feature to predict it from.
    """

    index: torch.Tensor
    observed: np.ndarray
    kept: np.ndarray
    alone: bool

    def of_rows(self, rows: np.ndarray) -> "LeftOut":
        """Those of some rows."""
        return LeftOut(self.index[torch.from_numpy(rows)], self.observed[rows], self.kept[rows], self.alone)


def left_out(fit: Fit, rows: Rows, seed: int) -> LeftOut | str:
    """Choose one feature of each row at random.

    Args:
        fit: at the rows, with no latents outside of their plate.
        rows: the plate over them.
        seed: of the choice.

    Returns:
        The choice, or why there is none: features that depend on each other given z, or that are all masked.
    """
    site = rows.observed[-1]
    with fit.program.isolated(seed=child_seed(seed, "look")), torch.no_grad():
        fn, value, inner, kept = _base(_traced(fit)[site])
        if fn.event_dim:
            return f"the features of '{site}' depend on each other given the latents"
        axis = rows.dim - inner
        flat = _by_row(value.expand(fn.batch_shape), axis)
        kept = _by_row(kept.expand(fn.batch_shape), axis).cpu()
    generator = torch.Generator(device="cpu").manual_seed(child_seed(seed, "feature"))
    index = torch.where(kept, torch.rand(flat.shape, generator=generator), -1.0).argmax(1, keepdim=True)
    rows_kept = kept.any(1).numpy()
    if not rows_kept.any():
        return f"every value of '{site}' is masked"
    alone = len(rows.observed) == 1 and bool((kept.sum(1) <= 1).all())
    chosen = flat.cpu().gather(1, index)[:, 0].double().numpy()
    return LeftOut(index, chosen, rows_kept, alone)


def pit_of_encoded(fit: Fit, rows: Rows, chosen: LeftOut, encoded: Encoded, seed: int) -> FeaturePIT:
    """The PIT of the chosen features, from draws of q(z | x).

    Args:
        fit: at the rows.
        rows: the plate over them.
        chosen: what is left out; rows of which nothing was observed are not among the values returned.
        encoded: draws of q(z | x) at these rows.
        seed: of what is drawn.
    """

    def one(values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        with FromValues(values):
            return _parts(_traced(fit), rows, chosen)

    found = _mapped(fit, one, len(encoded.log_q), seed, dict(encoded.values))
    return _pit(chosen, found, encoded.log_weight, seed)


def pit_of_prior(fit: Fit, rows: Rows, chosen: LeftOut, num_draws: int, seed: int) -> FeaturePIT:
    """The same from draws of p(z), weighted by what the other features say.

    With few features these weights are even where those of draws of q(z | x) are not: q is narrower than what remains
    when the feature it has seen is left out. Without another feature they are equal, and this is the prior predictive.
    """

    def one() -> dict[str, torch.Tensor]:
        nodes = _traced(fit)
        others = [_by_row(_log_prob(nodes[site]), rows.dim).sum(1) for site in rows.observed[:-1]]
        return {**_parts(nodes, rows, chosen), OTHERS: sum(others, start=_others(nodes, rows, chosen))}

    found = _mapped(fit, one, num_draws, seed)
    return _pit(chosen, {**found, DENSITY: np.zeros_like(found[OTHERS])}, found[OTHERS], seed)


def masked_features(fit: Fit, site: str) -> bool:
    """Whether the model masks some values of an observed site."""
    with fit.program.isolated(seed=0), torch.no_grad():
        return not bool(_base(_traced(fit)[site])[-1].all())


def _traced(fit: Fit) -> Mapping[str, Any]:
    """The model's sites at the fit's own rows, its latents drawn from the prior where no handler gives them."""
    arguments = fit.program.arguments
    return nodes_of(poutine.trace(fit.program.model).get_trace(*arguments.args, **arguments.kwargs))


def _mapped(fit: Fit, one: Callable[..., Any], num_draws: int, seed: int, *batches: Any) -> dict[str, np.ndarray]:
    program = fit.program
    with program.isolated(seed=child_seed(seed, "features")), torch.no_grad():
        found = map_draws(one, num_draws, *batches, size_hint=program.size_hint)
    return {name: value.double().cpu().numpy() for name, value in found.items()}


def _parts(nodes: Mapping[str, Any], rows: Rows, chosen: LeftOut) -> dict[str, torch.Tensor]:
    """A draw of each row's chosen feature, and the log density of what was observed."""
    fn, observed, inner, _ = _base(nodes[rows.observed[-1]])
    index = chosen.index.to(observed.device)
    parts = {DRAWN: fn.sample(), DENSITY: fn.log_prob(observed)}
    return {name: _by_row(part, rows.dim - inner).gather(1, index)[:, 0] for name, part in parts.items()}


def _others(nodes: Mapping[str, Any], rows: Rows, chosen: LeftOut) -> torch.Tensor:
    """Log density of what was observed at the site but for the chosen feature, one number a row."""
    fn, observed, inner, kept = _base(nodes[rows.observed[-1]])
    axis = rows.dim - inner
    density = _by_row(fn.log_prob(observed), axis)
    seen = _by_row(kept.expand(fn.batch_shape), axis).to(density.device)
    places = torch.arange(density.shape[1], device=density.device)
    return torch.where(seen & (places != chosen.index.to(density.device)), density, 0.0).sum(1)


def _pit(chosen: LeftOut, found: dict[str, np.ndarray], log_weight: np.ndarray, seed: int) -> FeaturePIT:
    kept, ties = chosen.kept, child_seed(seed, "ties")
    drawn, density = (found[name][:, kept] for name in (DRAWN, DENSITY))
    return feature_pit(chosen.observed[kept], drawn, density, log_weight[:, kept], seed=ties, alone=chosen.alone)


def _log_prob(node: Any) -> torch.Tensor:
    value = node["fn"].log_prob(node["value"])
    return value if node["mask"] is None else torch.where(torch.as_tensor(node["mask"]), value, 0.0)


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
