"""`ppl.generate`: new rows from the model."""

from typing import Any

import xarray as xr

from ppl_models.inference import Fit
from ppl_models.options import check_count
from ppl_models.seeds import check_seed
from ppl_models.workflow.representation.decode import decoded_blocks
from ppl_models.workflow.representation.drawing import shared_draws
from ppl_models.workflow.representation.gathering import Gathered
from ppl_models.workflow.representation.new_rows import num_rows_given, rows_to_decode
from ppl_models.workflow.representation.representation import BATCH_SIZE, representation_of
from ppl_models.workflow.representation.results import host, made_by, row_labels, tree_of


def generate(
    fit: Fit,
    num_rows: int | None = None,
    *,
    data: Any = None,
    num_draws: int = 1,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
) -> xr.DataTree:
    """Draw new rows: latents from the prior, and data at them.

    Args:
        fit: what `ppl.fit` returned, with an amortised guide.
        num_rows: how many rows; None takes as many as `data` has, and 16 without.
        data: covariates of the rows, for models that have any.
        num_draws: draws of each row, latents and data.
        seed: of the draws; they also depend on `batch_size`.
        batch_size: rows that are worked on at once, which bounds memory.

    Returns:
        A tree with the groups
        prior: draws of the latents of each row from the prior, and of latents that all rows share from the guide;
        likelihood_mean: E[x | z] at each draw; prior_predictive: draws of the data, dims (chain = 1, draw, *event);
        mean: the likelihood's mean averaged over the draws, dims (*event); sd: over the draws, where there are several.

    Raises:
        OptionError: `fit` is no fit, or an option is out of its range.
        DataError: covariates are missing or misshapen.
        ModelError, GuideError: the model has no latents of rows, or the guide is not amortised.
    """
    representation = representation_of(fit)
    check_count("num_draws", num_draws)
    check_count("batch_size", batch_size)
    count = num_rows_given(representation, data, num_rows)
    new = rows_to_decode(representation, data, count)
    shared = shared_draws(representation, num_draws, check_seed(seed))
    gathered = Gathered(representation, keep_draws=True)
    for block, found in decoded_blocks(representation, new, shared, num_draws, seed, batch_size):
        gathered.add(block, found)
    groups, flat = gathered.groups(varies=True)
    if num_draws == 1:
        flat.pop("sd")
    groups["prior_predictive"] = groups.pop("posterior_predictive")
    outside = {name: host(shared[name]) for name in representation.rows.outside}
    groups["prior"] = {**outside, **gathered.joined_latents()}
    labels = row_labels(representation, gathered.program, count, own=False)
    options = {"num_rows": count, "num_draws": num_draws, "seed": seed, "batch_size": batch_size}
    return tree_of(groups, flat, labels.labels, made_by(representation, "generate", options))
