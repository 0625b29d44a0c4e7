"""`ppl.impute`: missing values of rows, drawn from their distribution given the observed ones."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr

from ppl_models.errors import GuideError
from ppl_models.inference import Fit
from ppl_models.options import check_count
from ppl_models.program import Program
from ppl_models.seeds import check_seed, child_seed
from ppl_models.workflow.representation.chains import run_chains
from ppl_models.workflow.representation.conditional import Conditional
from ppl_models.workflow.representation.coordinates import RowCoordinates
from ppl_models.workflow.representation.drawing import Draws, has_row_density, shared_draws
from ppl_models.workflow.representation.imputed_rows import ImputedRows, health_checks, imputed_rows
from ppl_models.workflow.representation.missing import Missing, read_missing
from ppl_models.workflow.representation.new_rows import NewRows
from ppl_models.workflow.representation.representation import BATCH_SIZE, Representation, representation_of
from ppl_models.workflow.representation.results import Arrays, check_attrs, host, joined, made_by, row_labels, tree_of

STRIDE = 7919
"""Step from one donor of starting values to the next, a prime, so that the chains of a row have different ones."""
SUMMARIES = {"mean": "mean", "sd": "sd", "mean_error": "error"}


def impute(
    fit: Fit,
    data: Any,
    *,
    missing: Any = "nan",
    num_draws: int = 100,
    num_chains: int = 4,
    num_steps: int = 1_000,
    walk: bool = True,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
) -> xr.DataTree:
    """Draw what is missing of rows of data given what is observed, p(x_missing | x_observed).

    Latents and missing values are drawn by Markov chains whose target is exact, whatever the guide: Metropolis within
    Gibbs with the guide's proposals, and steps on p(z) p(x_observed | z) that adapt to the row. A poor guide makes
    them slow, and then the checks fail.

    Args:
        fit: what `ppl.fit` returned, with an amortised guide that has a density.
        data: rows, as `ppl.fit` takes them, with NaN for what is missing.
        missing: "nan"; or whether each value is missing, an array of the shape of the observed argument, or a mapping
            of such by argument.
        num_draws: draws to return, of all chains together, evenly spaced along them; each chain gives as many as there
            are chains at least, and at most all that it has after its warm-up.
        num_chains: chains of each row, at least 2, from different values in the missing places.
        num_steps: of each chain, at least 20 and four for each chain; the first half is warm-up. Raise it where the
            checks fail.
        walk: whether to take adaptive steps beside the guide's, where all latents of the rows are continuous.
        seed: of the draws; they also depend on `batch_size`.
        batch_size: rows that are worked on at once, which bounds memory.

    Returns:
        A tree with the groups
        posterior_predictive: draws of the data, dims (chain, draw, *event), observed values as they were given;
        posterior: draws of the latents;
        mean, sd: of each value over all steps, dims (*event), the mean from the likelihood's means where it has them;
        mean_error: Monte Carlo standard error of the mean;
        health: by row, `r_hat` (the largest of the latents'), `ess` (the smallest effective number of draws),
        `acceptance_guide` and `acceptance_walk` (how often proposals were taken), `num_missing` and `reliable`;
        missing: whether each value was missing; observed_data: the rows, with NaN in the missing places.
        The attributes `passed` and `checks` say whether all rows' chains have converged: NetCDF files hold numbers and
        text only, so that `passed` is 1 or 0, and `checks` is JSON, for `json.loads`. Where latents outside of the rows
        exist, each chain has one draw of them, and R-hat is that of the halves of each chain.

    Raises:
        OptionError: `fit` is no fit, or an option is out of its range.
        DataError: the data do not fit the model, nothing is missing, a mask has a wrong shape, or a covariate is NaN.
        ModelError: the likelihood is no product over the values of a row given the latents.
        GuideError: the guide is not amortised, or has no density.

    Mattei and Frellsen (2018), Leveraging the exact likelihood of deep latent variable models; Rezende, Mohamed and
    Wierstra (2014), Stochastic backpropagation and approximate inference in deep generative models, appendix F.
    """
    check_count("num_draws", num_draws)
    check_count("num_chains", num_chains, least=2)
    check_count("num_steps", num_steps, least=max(20, 4 * num_chains))
    check_count("batch_size", batch_size)
    found = read_missing(representation_of(fit), data, missing)
    representation = found.representation
    if not has_row_density(representation.fit, representation.rows):
        raise GuideError(
            f"guide '{fit.guide_name}' has no density of the latents of one row, which the chains' proposals need. "
            "Fit an amortised guide with one (guides.amortized(model))."
        )
    shared = shared_draws(representation, num_chains, check_seed(seed))
    # ArviZ takes an axis of draws that is shorter than that of chains for a mistake
    per_chain = max(-(-num_draws // num_chains), num_chains)
    options = {"num_chains": num_chains, "num_steps": num_steps, "walk": walk}
    blocks, program = [], representation.program
    for number, (block, masks) in enumerate(_blocks(found, num_chains, max(batch_size // num_chains, 1), shared)):
        program = block.program
        inside = 1 if shared else num_chains
        with program.isolated(seed=child_seed(seed, f"block {number}")), torch.no_grad():
            courses = [
                run_chains(
                    Conditional(representation, block, masks, one),
                    RowCoordinates(representation, program),
                    inside,
                    num_steps,
                    per_chain,
                    walk=walk,
                )
                for one in _each(shared, num_chains)
            ]
        blocks.append(imputed_rows(representation, courses, num_chains, _first_rows(representation, masks, inside)))
    health = joined([block.health for block in blocks], dict.fromkeys(blocks[0].health, 0))
    checks = health_checks(health, num_steps)
    options |= {"num_draws": num_draws, "seed": seed, "batch_size": batch_size}
    attrs = made_by(representation, "impute", options, **check_attrs(checks))
    return _tree(found, blocks, shared, health, program, attrs)


def _blocks(found: Missing, num_chains: int, size: int, shared: Draws) -> Iterator[tuple[Fit, dict[str, torch.Tensor]]]:
    """The fit at blocks of rows, each row once for each chain, and what is missing there.

    Chains with draws of their own of what all rows share run one after the other.
    """
    representation, new = found.representation, found.new
    repeats = 1 if shared else num_chains
    own = representation.arguments.tensors()
    for start in range(0, new.num_rows, size):
        index = torch.arange(start, min(start + size, new.num_rows)).repeat(repeats)
        arguments = representation.rows.take(new.arguments, index)
        masks = {
            name: mask.index_select(representation.axis(name), index.to(mask.device))
            for name, mask in found.masks.items()
        }
        # each chain starts with the values of another row of the fit in the missing places
        others = torch.arange(len(index)) * STRIDE + start
        starts = {}
        for name, mask in masks.items():
            argument = representation.observing[name]
            value = arguments.named()[argument]
            donor = own[argument][others.to(value.device) % len(own[argument])]
            starts[argument] = torch.where(mask.reshape(value.shape), donor, value)
        yield representation.at(arguments.with_tensors(starts)), masks


def _each(shared: Draws, num_chains: int) -> list[Draws]:
    return [{name: value[chain] for name, value in shared.items()} for chain in range(num_chains)] if shared else [{}]


def _first_rows(
    representation: Representation, masks: Mapping[str, torch.Tensor], repeats: int
) -> dict[str, torch.Tensor]:
    """The masks of the rows, each once."""
    found = {}
    for name, mask in masks.items():
        axis = representation.axis(name)
        found[name] = mask.narrow(axis, 0, mask.shape[axis] // repeats)
    return found


def _tree(
    found: Missing,
    blocks: Sequence[ImputedRows],
    shared: Draws,
    health: Arrays,
    program: Program,
    attrs: Mapping[str, Any],
) -> xr.DataTree:
    representation, new = found.representation, found.new
    axes = {name: representation.axis(name) for name in (*representation.rows.latents, *found.masks)}
    with_draws = {name: axis + 2 for name, axis in axes.items()}
    labels = row_labels(representation, program, new.num_rows, own=False)
    observed = {name: _with_nan(representation, new, name, mask) for name, mask in found.masks.items()}
    outside = {name: host(shared[name])[:, None] for name in representation.rows.outside}
    draws = joined([block.draws for block in blocks], with_draws)
    latents = joined([block.latents for block in blocks], with_draws)
    count = next(iter(latents.values())).shape[1]
    groups = {
        "posterior_predictive": draws,
        "posterior": {**{name: value.repeat(count, axis=1) for name, value in outside.items()}, **latents},
    }
    flat = {
        **{group: joined([getattr(block, attr) for block in blocks], axes) for group, attr in SUMMARIES.items()},
        "health": health,
        "missing": {name: host(mask) for name, mask in found.masks.items()},
        "observed_data": observed,
    }
    return tree_of(groups, flat, labels.labels, attrs, chains=True, own={"health": labels.of_rows(health)})


def _with_nan(representation: Representation, new: NewRows, name: str, mask: torch.Tensor) -> np.ndarray:
    value = new.arguments.named()[representation.observing[name]].reshape(mask.shape)
    return np.where(host(mask), np.nan, host(value))
