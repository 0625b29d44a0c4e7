"""`ppl.out_of_distribution`: which rows are unlike the data that the model knows."""

import math
from typing import Any

import numpy as np
import xarray as xr

from ppl_models.checks import Check
from ppl_models.diagnostics import khat_limit
from ppl_models.errors import DataError
from ppl_models.inference import Fit
from ppl_models.options import check_count
from ppl_models.seeds import check_seed, child_seed
from ppl_models.workflow.representation.new_rows import rows_to_encode
from ppl_models.workflow.representation.rank_tests import distances, lower_p_value
from ppl_models.workflow.representation.representation import BATCH_SIZE, representation_of
from ppl_models.workflow.representation.results import check_attrs, made_by, row_labels, tree_of
from ppl_models.workflow.representation.row_scores import RowScores, row_scores

LEAST_REFERENCE = 20
"""Rows of a reference; the smallest p-value is one over their number and one."""
ENOUGH_REFERENCE = 99
"""From here on a p-value can be as small as 0.01."""
ERROR_LIMIT = 0.1
"""Of the sd of log p(x) over the reference, how much of it may be Monte Carlo error."""
MOST_HEAVY = 0.5
"""Share of rows whose weights may have heavy tails before that error counts as not measured."""


def out_of_distribution(
    fit: Fit,
    data: Any,
    *,
    reference: Any = None,
    num_draws: int = 200,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
) -> xr.DataTree:
    """Score rows by how unlike a reference the model finds them, with p-values by rank.

    A likelihood alone calls simple rows typical: a blank image may have a higher density than any of the training
    data. So rows are compared by three figures together, the distortion -E[log p(x | z)], the rate
    E[log q(z | x) - log p(z)] and the gap between log p(x) and the ELBO, whose sum is -log p(x): their Mahalanobis
    distance from the reference, ranked among the reference's own (each row left out of what it is measured by).

    Args:
        fit: what `ppl.fit` returned, with an amortised guide that has a density.
        data: rows, as `ppl.fit` takes them.
        reference: rows known to be of the right kind, held out from the fit; None takes the fit's own, to which a model
            that has learnt them by heart gives too much density, so that new rows of the same kind seem strange.
        num_draws: draws of the guide for each row, at least 100.
        seed: of the draws.
        batch_size: rows that are worked on at once, which bounds memory.

    Returns:
        A tree with the groups
        score: by row, `log_evidence` (log p(x) in nats by importance weights) and `log_evidence_error`, its Monte Carlo
        standard error; `distortion`, `rate` and `gap` in nats; `khat` of the weights; `distance`; and the p-values
        `p_value` (of the distance: use this one), `p_likelihood` (low log p(x), one-sided) and `p_typicality`
        (|log p(x) - its mean over the reference|, two-sided); `p_value_error`, the standard error of `p_value` that
        comes from the size of the reference;
        reference: the first six of the reference's rows, dim `reference_row`.
        The attributes `passed` and `checks` say whether the reference was held out and large enough, and the Monte
        Carlo error small beside the reference's spread (`passed` is 1 or 0, `checks` is JSON). A fraction a of rows of
        the reference's kind has a p-value of at most a. A variable has "_" after its name where the plate over the rows
        is called so.

    Raises:
        OptionError: `fit` is no fit, or an option is out of its range.
        DataError: data or reference do not fit the model, or the reference has fewer than 20 rows.
        ModelError: the model has no latents of rows.
        GuideError: the guide is not amortised, or has no density.

    Nalisnick and others (2019), Do deep generative models know what they don't know?, and Detecting out-of-distribution
    inputs to deep generative models using typicality; Morningstar and others (2021), Density of states estimation for
    out-of-distribution detection (several statistics together).
    """
    check_count("num_draws", num_draws, least=100)
    check_count("batch_size", batch_size)
    representation = representation_of(fit)
    at, new = rows_to_encode(representation, data)
    known_at, known = rows_to_encode(representation, reference)
    if known.num_rows < LEAST_REFERENCE:
        raise DataError(f"reference: found {known.num_rows} rows, wanted at least {LEAST_REFERENCE}.")
    own = row_scores(known_at, known, num_draws, child_seed(check_seed(seed), "reference"), batch_size)
    found = row_scores(at, new, num_draws, child_seed(seed, "rows"), batch_size)
    scores = {**_figures(found), **_compared(found, own)}
    checks = _checks(own, found, held_out=reference is not None)
    labels = row_labels(at, at.program, new.num_rows, own=new.own)
    options = {"num_draws": num_draws, "seed": seed, "batch_size": batch_size, "num_reference": known.num_rows}
    attrs = made_by(at, "out_of_distribution", options)
    tree = tree_of({}, {"score": scores}, labels.labels, attrs, own={"score": labels.of_rows(scores)})
    tree.attrs.update(tree_of({}, {}, labels.labels, check_attrs(checks)).attrs)
    tree["reference"] = xr.DataTree(
        xr.Dataset({name: ("reference_row", value) for name, value in _figures(own).items()})
    )
    return tree


def _figures(scores: RowScores) -> dict[str, np.ndarray]:
    names = ("log_evidence", "log_evidence_error", "distortion", "rate", "gap", "khat")
    return {name: getattr(scores, name) for name in names}


def _compared(found: RowScores, own: RowScores) -> dict[str, np.ndarray]:
    distance, own_distance = distances(found.statistics, own.statistics)
    number = len(own_distance)
    centre = own.log_evidence.mean()
    # each row of the reference is measured from the mean of the others
    spread = np.abs(own.log_evidence - centre) * number / (number - 1)
    p_value = lower_p_value(-distance, -own_distance)
    return {
        "distance": distance,
        "p_value": p_value,
        "p_value_error": np.sqrt(p_value * (1.0 - p_value) / number),
        "p_likelihood": lower_p_value(found.log_evidence, own.log_evidence),
        "p_typicality": lower_p_value(-np.abs(found.log_evidence - centre), -spread),
    }


def _checks(own: RowScores, found: RowScores, *, held_out: bool) -> tuple[Check, ...]:
    number = len(own.log_evidence)
    advice = "" if held_out else "give reference=, rows that the fit has not seen"
    whose = "given" if held_out else "the fit's own rows, whose density a model may overstate"
    limit = khat_limit(1_000)
    spread = float(own.log_evidence.std(ddof=1))
    ratio = float(np.sqrt(np.mean(own.log_evidence_error**2)) / spread) if spread > 0 else math.nan
    heavy = float(np.mean(~(np.concatenate([own.khat, found.khat]) <= limit)))
    # where weights have heavy tails, their spread in the sample does not tell the error
    known = ratio > ERROR_LIMIT or heavy <= MOST_HEAVY
    small = number >= ENOUGH_REFERENCE
    return (
        Check("reference held out", float(held_out), 1.0, True if held_out else None, advice, detail=whose),
        Check(
            "rows of the reference",
            float(number),
            float(ENOUGH_REFERENCE),
            small,
            "" if small else "give more rows of reference",
            detail=f"no p-value is below {1 / (number + 1):.2g}",
        ),
        Check(
            "Monte Carlo error of log p(x)",
            ratio,
            ERROR_LIMIT,
            ratio <= ERROR_LIMIT if known and not math.isnan(ratio) else None,
            "" if known and ratio <= ERROR_LIMIT else "raise num_draws, or train the guide longer",
            detail=f"of the reference's sd of {spread:.3g} nats; {heavy:.0%} of the rows have k-hat above {limit:.2f}",
        ),
    )
