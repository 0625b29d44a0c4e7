"""`ppl.decode`: what the model expects at given latents."""

from collections.abc import Iterator
from typing import Any

import torch
import xarray as xr

from ppl_models.errors import OptionError
from ppl_models.inference import Fit
from ppl_models.options import check_count
from ppl_models.seeds import check_seed, child_seed
from ppl_models.workflow.representation.decoding import DRAW, MEAN, Decoded, decoded
from ppl_models.workflow.representation.drawing import Draws, shared_draws
from ppl_models.workflow.representation.gathering import Gathered
from ppl_models.workflow.representation.given_latents import GivenLatents, latents_given
from ppl_models.workflow.representation.new_rows import NewRows, rows_to_decode
from ppl_models.workflow.representation.representation import BATCH_SIZE, Representation, representation_of
from ppl_models.workflow.representation.results import host, made_by, row_labels, tree_of

NUM_DRAWS = 100


def decode(
    fit: Fit,
    latents: Any,
    *,
    num_draws: int | None = None,
    seed: int = 0,
    data: Any = None,
    keep_draws: bool = True,
    batch_size: int = BATCH_SIZE,
) -> xr.DataTree:
    """What the model expects of data at given latents, p(x | z), and draws of it.

    Args:
        fit: what `ppl.fit` returned, with an amortised guide.
        latents: of the rows: an array, as the latent's site has it with any number of rows, with an axis of draws
            before it or without; a mapping by site; or the tree of `ppl.encode`. The model draws latents that are
            not given from their prior given those that are.
        num_draws: number of draws; None takes as many as the latents have, and 100 where they have none.
        seed: of the draws; they also depend on `batch_size`.
        data: covariates of the rows, for models that have any; observations among them are held to, where others
            depend on them.
        keep_draws: whether to return draws, or their mean and sd only, which need little memory.
        batch_size: rows that are worked on at once, which bounds memory.

    Returns:
        A tree with the groups
        mean: mean of the data, dims (*event);
        sd: of the likelihood's mean over the draws of the latents, where they have any: the uncertainty of the mean;
        likelihood_mean: mean of the data at each draw of the latents, dims (chain = 1, draw, *event);
        posterior_predictive: draws of the data;
        posterior: the draws of the latents; or latents: those given without draws.
        Where a likelihood has no mean in closed form, mean and sd are those of draws of the data.

    Raises:
        OptionError: `fit` is no fit, or an option is out of its range.
        DataError: the latents have a wrong shape, or covariates are missing or misshapen.
        ModelError, GuideError: the model has no latents of rows, or the guide is not amortised.
    """
    representation = representation_of(fit)
    check_count("batch_size", batch_size)
    given = latents_given(representation, latents)
    number = _num_draws(num_draws, given)
    new = rows_to_decode(representation, data, given.num_rows)
    values = {**shared_draws(representation, number, check_seed(seed)), **given.repeated(number)}
    gathered = Gathered(representation, keep_draws=keep_draws)
    for block, found in decoded_blocks(representation, new, values, number, seed, batch_size):
        gathered.add(block, found)
    varies = given.drawn or bool(representation.rows.outside) or bool(gathered.latents)
    latent_group = {name: host(value) for name, value in values.items() if name in _names(representation)}
    labels = row_labels(representation, gathered.program, new.num_rows, own=False)
    groups, flat = gathered.groups(varies=varies)
    if varies:
        groups["posterior"] = {**latent_group, **gathered.joined_latents()}
    else:
        flat["latents"] = {name: value[0] for name, value in latent_group.items()}
    options = {"num_draws": number, "seed": seed, "batch_size": batch_size}
    return tree_of(groups, flat, labels.labels, made_by(representation, "decode", options))


def decoded_blocks(
    representation: Representation, new: NewRows, values: Draws, num_draws: int, seed: int, batch_size: int
) -> Iterator[tuple[Any, Decoded]]:
    """The model at draws of the latents, block by block of rows.

    Args:
        representation: of the fit.
        new: the rows; observations that were not given are drawn.
        values: latents, of all rows and shared, shape (draw, *event); the model draws those that are missing.
        num_draws: number of draws.
        seed: of the draws; each block has its own.
        batch_size: most rows in a block.
    """
    rows = representation.rows
    unknown = [name for name in rows.observed if representation.observing.get(name) not in new.given]
    for number, block in enumerate(representation.blocks(new.arguments, new.num_rows, batch_size)):
        start = number * batch_size
        index = torch.arange(start, min(start + batch_size, new.num_rows))
        part = {name: _rows_of(representation, name, value, index) for name, value in values.items()}
        own_seed = child_seed(seed, f"block {number}")
        yield block.program, decoded(block, rows, part, num_draws, own_seed, unknown=unknown, wanted=(MEAN, DRAW))


def _rows_of(representation: Representation, name: str, value: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    if name not in representation.rows.latents:
        return value
    return value.index_select(1 + representation.axis(name), index.to(value.device))


def _names(representation: Representation) -> tuple[str, ...]:
    return representation.rows.latents + representation.rows.outside


def _num_draws(num_draws: int | None, given: GivenLatents) -> int:
    if num_draws is None:
        return given.num_draws if given.drawn else NUM_DRAWS
    check_count("num_draws", num_draws)
    if given.drawn and num_draws > given.num_draws:
        raise OptionError(f"num_draws: found {num_draws}, wanted at most {given.num_draws}, the draws of the latents.")
    return num_draws
