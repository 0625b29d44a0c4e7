"""What a baseline says of a fit: marginals, combinations of parameters, and what a classifier can tell apart."""

from collections.abc import Sequence
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
from ppl_models.workflow.measuring import Clock


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
    weights = psis_weights(log_ratio)[0] if corrected or khat.passed else None
    own = weights if corrected else None
    with clock.on("marginals"):
        found: dict[str, Any] = {"baseline_table": compare(draws, reference, log_weights=own)}
    with clock.on("joint"):
        found["joint"] = check_joint(draws, reference, log_weights=own)
    with clock.on("classifier"):
        found["elsewhere"] = (check_classifier(draws, reference, log_weights=own, seed=seed),)
    with clock.on("sliced Wasserstein"):
        found["further"] = (check_sliced(draws, reference, log_weights=own, seed=seed),)
    if weights is not None and not corrected:
        with clock.on("corrected"):
            found["corrected_table"] = compare(draws, reference, log_weights=weights)
            found["corrected_joint"] = check_joint(draws, reference, log_weights=weights)
    return found
