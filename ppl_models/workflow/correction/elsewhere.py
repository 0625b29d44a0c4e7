"""Whether proposals from other starts agree with draws that are corrected by their weights."""

from ppl_models.diagnostics import Check
from ppl_models.seeds import child_seed
from ppl_models.workflow.correction.nuts import NUM_STARTS
from ppl_models.workflow.correction.outcome import PILOT, Request
from ppl_models.workflow.measuring import Flat, Measured
from ppl_models.workflow.probing import OTHERS, probe


def check_elsewhere(request: Request) -> Check | None:
    """The check `other starts` of the guide's weighted draws, None where it cannot be made.

    Weights move probability among the guide's draws, and see nothing of a mode where there are none. Where other starts
    have found one, chains get their starts from all that was found.
    """
    measured = Measured.of(request.fit, PILOT, request.seed)
    flat = Flat.of(measured)
    if isinstance(flat, str):
        return None
    seed = child_seed(request.seed, "elsewhere")
    probed = probe(measured, flat, weighable=True, seed=seed)
    check = next((check for check in probed.checks if check.name == OTHERS), None)
    if check is None or check.passed is None:
        return None
    if not check.passed and probed.pool is not None:
        request.starts = probed.pool.starts(NUM_STARTS, child_seed(seed, "starts"))
    return check
