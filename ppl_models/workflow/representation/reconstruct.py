"""`ppl.reconstruct`: rows of data through the guide and back."""

from typing import Any

import numpy as np
import xarray as xr

from ppl_models.inference import Fit
from ppl_models.options import check_count
from ppl_models.seeds import check_seed
from ppl_models.workflow.representation.decoding import DRAW, LOG_LIKELIHOOD, MEAN
from ppl_models.workflow.representation.drawing import shared_draws
from ppl_models.workflow.representation.encode import encoded_blocks
from ppl_models.workflow.representation.gathering import Gathered
from ppl_models.workflow.representation.new_rows import rows_to_encode
from ppl_models.workflow.representation.representation import BATCH_SIZE, representation_of
from ppl_models.workflow.representation.results import Arrays, host, joined, made_by, moments, row_labels, tree_of


def reconstruct(
    fit: Fit,
    data: Any = None,
    *,
    num_draws: int = 100,
    seed: int = 0,
    keep_draws: bool = True,
    batch_size: int = BATCH_SIZE,
) -> xr.DataTree:
    """Encode rows of data and decode them again: what the model keeps of each, with its uncertainty.

    Args:
        fit: what `ppl.fit` returned, with an amortised guide.
        data: rows, as `ppl.fit` takes them, of any number; None takes the fit's own.
        num_draws: number of draws of the latents.
        seed: of the draws; they also depend on `batch_size`.
        keep_draws: whether to return draws of the data and of their mean, or mean and sd only.
        batch_size: rows that are worked on at once, which bounds memory.

    Returns:
        A tree with the groups
        mean: the reconstruction, E[x | z] averaged over q(z | x), dims (*event), and `log_likelihood`, the mean of
        log p(x | z) in nats, dims (row) (`log_likelihood_` where the model calls a site so);
        sd: of both over the draws of z;
        posterior: draws of the latents; log_likelihood: log p(x | z) in nats by site, dims (chain = 1, draw, row);
        likelihood_mean: E[x | z] at each draw; posterior_predictive: draws of the data, dims (chain, draw, *event);
        observed_data: the rows.

    Raises:
        OptionError, DataError, ModelError, GuideError: as `ppl.encode`.
    """
    check_count("num_draws", num_draws)
    check_count("batch_size", batch_size)
    representation, new = rows_to_encode(representation_of(fit), data)
    rows = representation.rows
    shared = shared_draws(representation, num_draws, check_seed(seed))
    gathered = Gathered(representation, keep_draws=keep_draws)
    latents: list[Arrays] = []
    likelihoods: list[Arrays] = []
    observed: list[Arrays] = []
    wanted = (MEAN, DRAW, LOG_LIKELIHOOD)
    for block in encoded_blocks(
        representation, new.arguments, new.num_rows, shared, num_draws, seed, batch_size, wanted
    ):
        gathered.add(block.fit.program, block.decoded)
        latents.append({name: host(value) for name, value in block.latents.items()})
        likelihoods.append({name: host(value) for name, value in block.decoded.log_likelihood.items()})
        observed.append(_observed(block.fit))
    groups, flat = gathered.groups(varies=True)
    log_likelihood = joined(likelihoods, dict.fromkeys(likelihoods[0], 1))
    labels = row_labels(representation, gathered.program, new.num_rows, own=new.own)
    total = {labels.free("log_likelihood"): np.asarray(sum(log_likelihood.values()))}
    for group, found in zip(("mean", "sd"), moments(total), strict=True):
        flat[group] = {**flat[group], **found}
    draws = joined(latents, {name: 1 + representation.axis(name) for name in rows.latents})
    outside = {name: host(shared[name]) for name in rows.outside}
    flat["observed_data"] = joined(observed, {name: representation.axis(name) for name in observed[0]})
    groups |= {"posterior": {**outside, **draws}, "log_likelihood": log_likelihood}
    options = {"num_draws": num_draws, "seed": seed, "batch_size": batch_size}
    by_row = {"log_likelihood": labels.of_rows(log_likelihood), **dict.fromkeys(("mean", "sd"), labels.of_rows(total))}
    return tree_of(groups, flat, labels.labels, made_by(representation, "reconstruct", options), own=by_row)


def _observed(fit: Fit) -> Arrays:
    program = fit.program
    return {name: host(value.expand(program.sites[name].shape)) for name, value in program.observed_values.items()}
