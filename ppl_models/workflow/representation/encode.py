"""`ppl.encode`: the latents of rows of data."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from ppl_models.inference import Fit
from ppl_models.options import check_count
from ppl_models.seeds import check_seed, child_seed
from ppl_models.workflow.representation.decoding import LOG_LIKELIHOOD, Decoded, decoded
from ppl_models.workflow.representation.drawing import Draws, local_draws, shared_draws
from ppl_models.workflow.representation.new_rows import rows_to_encode
from ppl_models.workflow.representation.representation import BATCH_SIZE, Representation, representation_of
from ppl_models.workflow.representation.results import Arrays, host, joined, made_by, moments, row_labels, tree_of


def encode(
    fit: Fit, data: Any = None, *, num_draws: int = 100, seed: int = 0, batch_size: int = BATCH_SIZE
) -> xr.DataTree:
    """Draw the latents of rows of data from the guide, q(z | x).

    Args:
        fit: what `ppl.fit` returned, with an amortised guide.
        data: rows, as `ppl.fit` takes them, of any number, or one array where the model has one argument with rows;
            None takes the fit's own.
        num_draws: number of draws.
        seed: of the draws; they also depend on `batch_size`.
        batch_size: rows that are worked on at once, which bounds memory.

    Returns:
        A tree with the groups
        posterior: latents of the rows, and those that all rows share, dims (chain = 1, draw, *event);
        mean, sd: of the rows' latents, dims (*event);
        sample_stats: `log_prior` = log p(z), `log_likelihood` = log p(x | z), and, where the guide has a density for
        each row, `log_q` = log q(z | x) and `log_weight` = log p(x, z) - log q(z | x), nats, dims (chain, draw, row).
        The mean of `log_weight` over the draws is a row's ELBO. A plate called "chain", "draw" or "sample" is the axis
        "chain_plate", ..., and a variable of ours has "_" after its name where a plate is called so.

    Raises:
        OptionError: `fit` is no fit, or an option is out of its range.
        DataError: the data do not fit the model, have no rows or hold NaN.
        ModelError: the model has no plate over the rows of its data with latents in it.
        GuideError: the guide is not amortised.
    """
    check_count("num_draws", num_draws)
    check_count("batch_size", batch_size)
    representation, new = rows_to_encode(representation_of(fit), data)
    shared = shared_draws(representation, num_draws, check_seed(seed))
    axes = {name: 1 + representation.axis(name) for name in representation.rows.latents}
    parts, summaries, stats, program = [], [], [], representation.program
    for block in encoded_blocks(representation, new.arguments, new.num_rows, shared, num_draws, seed, batch_size):
        program = block.fit.program
        latents = {name: host(value) for name, value in block.latents.items()}
        parts.append(latents)
        summaries.append(moments(latents))
        stats.append(block.statistics())
    labels = row_labels(representation, program, new.num_rows, own=new.own)
    draws = joined(parts, axes)
    outside = {name: host(shared[name]) for name in representation.rows.outside}
    flat_axes = {name: axis - 1 for name, axis in axes.items()}
    means, sds = (joined([summary[which] for summary in summaries], flat_axes) for which in (0, 1))
    per_row = joined(stats, dict.fromkeys(stats[0], 1))
    return tree_of(
        {"posterior": {**outside, **draws}, "sample_stats": per_row},
        {"mean": means, "sd": sds},
        labels.labels,
        made_by(representation, "encode", {"num_draws": num_draws, "seed": seed, "batch_size": batch_size}),
        own={"sample_stats": labels.of_rows(per_row)},
    )


@dataclass(frozen=True)
class Encoded:
    """Draws of the guide at a block of rows, and what the model says of them.

    Attributes:
        fit: at the rows.
        latents: of the rows by site, shape (draw, *event).
        log_q: log q(z | x) in nats, shape (draw, row); None where there is none.
        decoded: the model at these draws.
    """

    fit: Fit
    latents: Draws
    log_q: Any
    decoded: Decoded

    def statistics(self) -> Arrays:
        """Log densities in nats by name, shape (draw, row)."""
        likelihood = host(sum(self.decoded.log_likelihood.values(), start=self.decoded.log_prior * 0.0))
        prior = host(self.decoded.log_prior)
        found = {"log_prior": prior, "log_likelihood": likelihood}
        if self.log_q is None:
            return found
        log_q = host(self.log_q)
        return {**found, "log_q": log_q, "log_weight": np.asarray(prior + likelihood - log_q)}


def encoded_blocks(
    representation: Representation,
    arguments: Any,
    num_rows: int,
    shared: Draws,
    num_draws: int,
    seed: int,
    batch_size: int,
    wanted: tuple[str, ...] = (LOG_LIKELIHOOD,),
) -> Iterator[Encoded]:
    """Draws of the guide at all rows, block by block, with the model at these draws.

    Args:
        representation: of the fit.
        arguments: what the model is called with for these rows.
        num_rows: how many there are.
        shared: what all rows share, shape (draw, *event).
        num_draws: number of draws.
        seed: of the draws; each block has its own.
        batch_size: most rows in a block.
        wanted: what to find of the model, as `decoded` takes it.
    """
    rows = representation.rows
    for number, block in enumerate(representation.blocks(arguments, num_rows, batch_size)):
        own_seed = child_seed(seed, f"block {number}")
        latents, log_q = local_draws(block, rows, num_draws, own_seed, shared)
        found = decoded(block, rows, {**shared, **latents}, num_draws, own_seed, wanted=wanted)
        yield Encoded(block, latents, log_q, found)
