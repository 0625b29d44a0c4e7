"""Laplace's mode by Newton's method."""

import numpy as np

from ppl_models.errors import GuideError
from ppl_models.inference.course import CONVERGED, DIVERGED, MAX_STEPS, OUT_OF_TIME
from ppl_models.inference.methods import climbing
from ppl_models.inference.methods.climbing import Top, climb
from ppl_models.inference.methods.few_sizes import in_few_sizes
from ppl_models.inference.methods.method import Arrival, Found, Method, Work
from ppl_models.inference.methods.naming import latent_names
from ppl_models.inference.methods.paths import Walk
from ppl_models.inference.preconditioning.pilot import Normal

STEPS = 100
MOST_EXACT = 500
"""With more latents, quasi-Newton steps lead up to the mode, and Newton's are the last few."""
MOST = 5_000
ROUNDS, HISTORY, NEARLY = 2_000, 20, 1e-4


def _run(work: Work) -> Found:
    dim = work.target.num_dims
    if dim > MOST:
        raise GuideError(
            f"method 'newton': {dim:,} latents, wanted at most {MOST:,}, for their Hessian is held whole. "
            "Take the family 'normal' or 'low_rank' with method='svi'."
        )
    start = work.start if work.begin is None else work.begin.mean
    losses: list[float] = []
    if dim > MOST_EXACT:
        start, losses = _approach(work, start)
    target = in_few_sizes(work.target, climbing.MOST_TRIES, 0)
    top = climb(target, start, max_steps=work.max_steps or STEPS, deadline=work.deadline, update=work.update)
    status, note = _judged(work, top)
    arrival = Arrival(
        "nats that a full Newton step would gain",
        top.gain if top.kind == climbing.MODE else float("inf"),
        climbing.ROUNDED * max(1.0, abs(top.value)),
        f"{len(top.values) - 1} Newton steps; " + ("a mode" if top.kind == climbing.MODE else f"ended: {top.kind}"),
    )
    root = _root(top) if top.root is None else top.root
    evidence = {"mode_log_density": top.value, "end": top.kind, "evaluations": work.target.evaluations}
    approximation = Normal(top.point, root, -np.inf, len(top.values) - 1)
    return Found(approximation, np.array([*losses, *(-value for value in top.values)]), status, arrival, note, evidence)


def _approach(work: Work, start: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Near a mode by L-BFGS, with the values on the way."""
    scale = np.ones(len(start)) if work.begin is None else work.begin.scale
    noise = np.zeros((1, len(start)))
    walk = Walk(work.target, start[None], np.square(scale)[None], noise, HISTORY, NEARLY)
    (path,) = walk.run(ROUNDS, work.deadline, work.update)
    return path.point, [-work.target.at(start)[0], -path.value]


def _judged(work: Work, top: Top) -> tuple[str, str]:
    names = latent_names(work.target.program, top.dims)
    found = {
        climbing.MODE: (CONVERGED, ""),
        climbing.SADDLE: (DIVERGED, f"a saddle, no mode: the log density bends upwards along {names}"),
        climbing.FLAT: (DIVERGED, f"the log density is flat along {names}: the posterior is improper, or nearly"),
        climbing.ENDLESS: (
            DIVERGED,
            f"no mode in reach: the log density goes on rising along {names} (a funnel has no mode, nor has an "
            "improper posterior). Take the family 'normal' or 'full_rank' with method='svi'",
        ),
        climbing.NOWHERE: (DIVERGED, "the log density was not finite at the start"),
        climbing.LATE: (OUT_OF_TIME, ""),
        climbing.UNFINISHED: (MAX_STEPS, ""),
    }
    return found[top.kind]


def _root(top: Top) -> np.ndarray:
    """Of a point that is no mode: standard deviations by the size of each latent's own curvature."""
    size = np.abs(np.diag(top.precision))
    usable = np.isfinite(size) & (size > climbing.LARGEST_SCALE**-2)
    return np.diag(1.0 / np.sqrt(np.where(usable, size, 1.0)))


NEWTON = Method(
    name="newton",
    summary="The mode by Newton's method with exact Hessians, for Laplace's approximation.",
    cite="Nocedal and Wright (2006), Numerical optimization, chapters 3 and 4",
    families=("laplace",),
    run=_run,
)
