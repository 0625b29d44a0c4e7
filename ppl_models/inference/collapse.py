"""Whether the latents of a fit tell anything about the data."""

import numpy as np

from ppl_models.inference.course import CONVERGED, MAX_STEPS
from ppl_models.inference.look import Figures

COLLAPSED = "collapsed"
LEAST_ACTIVITY = 0.01
"""Variance over the data of a unit's posterior mean, in variances of its prior, above which it is active; Burda, Grosse
and Salakhutdinov (2016), Importance weighted autoencoders."""
LEAST_DIVERGENCE = 0.01
"""Nats per row, the same for units whose posterior mean has to be drawn."""
FEWEST_ROWS = 10
ADVICE = (
    "raise the weight of the divergence slowly (warmup_epochs), give free_bits, a smaller step_size, a smaller decoder "
    "or a smaller beta"
)


def active(figures: Figures) -> np.ndarray:
    """Whether each unit of the local latents tells something about the data, shape (unit,)."""
    known = np.isfinite(figures.activity)
    return np.where(known, figures.activity > LEAST_ACTIVITY, figures.divergence > LEAST_DIVERGENCE)


def judge_collapse(status: str, figures: Figures | None, num_rows: int) -> tuple[str, str]:
    """The status of a fit by epochs in view of its latents, and a note on them; as given where there is nothing to say.

    Args:
        status: how the training ended.
        figures: what the last look found; None where there was none.
        num_rows: rows that it saw.
    """
    if (
        figures is None
        or not len(figures.labels)
        or num_rows < FEWEST_ROWS
        or not np.isfinite(figures.divergence).all()
    ):
        return status, ""
    alive = active(figures)
    if alive.all():
        return status, ""
    if alive.any():
        return status, f"{int((~alive).sum())} of {len(alive)} latent units are inactive: they tell nothing of the data"
    kl = float(figures.divergence.sum())
    which = "the prior" if kl <= LEAST_DIVERGENCE * len(alive) else "about the same"
    note = (
        f"all {len(alive)} latent units are inactive: the posterior of every row is {which} (KL {kl:.2g} nats per "
        f"row). To use the latents, {ADVICE}"
    )
    return (COLLAPSED if status in (CONVERGED, MAX_STEPS) else status), note
