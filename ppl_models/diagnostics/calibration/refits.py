"""Whether the refits behind a calibration can be believed."""

import math
from collections import Counter
from collections.abc import Sequence

from ppl_models.checks import Check

FAILED_LIMIT = 0.05
CONVERGED = "converged"


def check_refits(statuses: Sequence[str], *, limit: float = FAILED_LIMIT, note: str = "") -> Check:
    """Whether nearly all refits converged: what is known of the others' ranks would be of a selection.

    Args:
        statuses: how each refit ended; "converged" is what it should be.
        limit: greatest share of others.
        note: what one of them said.

    Returns:
        The check `refits`; its value is the share that did not converge.
    """
    if not statuses:
        return Check("refits", math.nan, limit, None, "more time", detail="not measured: no refit was made")
    others = Counter(status for status in statuses if status != CONVERGED)
    share = others.total() / len(statuses)
    passed = share <= limit
    named = ", ".join(f"{count} {status}" for status, count in others.most_common())
    detail = f"of {len(statuses)} refits {named or 'all converged'}" + (f" ({note})" if note and others else "")
    advice = "" if passed else "more steps or time for each fit, or a guide that fits more surely"
    mcse = math.sqrt(share * (1.0 - share) / len(statuses))
    return Check("refits", share, limit, passed, advice, mcse, detail)
