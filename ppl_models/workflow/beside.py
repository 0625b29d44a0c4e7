"""What a baseline says of a fit: marginals, combinations of parameters, and what a classifier can tell apart."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from ppl_models.diagnostics import (
    Check,
    check_classifier,
    check_joint,
    check_sliced,
    compare,
    psis_weights,
    unmeasured_table,
)
from ppl_models.diagnostics.labelled import labelled_draws
from ppl_models.workflow.clock import Clock
from ppl_models.workflow.measuring import held_against


def judged_beside(
    draws: xr.Dataset,
    reference: xr.Dataset,
    log_ratio: np.ndarray,
    khat: Check,
    soundness: Sequence[Check],
    clock: Clock,
    *,
    seed: int,
    corrected: bool,
) -> dict[str, Any]:
    """The tables and checks that `decide` takes, against a baseline that passed its gates."""
    if not soundness[0].passed:
        return {"baseline_table": unmeasured_table(labelled_draws(draws).labels)}
    table, joint = partial(compare, draws, reference), partial(check_joint, draws, reference)
    found = held_against(table, joint, log_ratio, khat, clock, name="baseline_table", corrected=corrected)
    own = psis_weights(log_ratio)[0] if corrected else None
    with clock.on("classifier"):
        found["elsewhere"] = (check_classifier(draws, reference, log_weights=own, seed=seed),)
    with clock.on("sliced Wasserstein"):
        found["further"] = (check_sliced(draws, reference, log_weights=own, seed=seed),)
    return found
