"""Independent normals on fixed draws, optimised on more and more of them until the choice of draws does not matter."""

import time
from dataclasses import dataclass, replace

import numpy as np
import torch

from ppl_models.inference.course import CONVERGED, DIVERGED
from ppl_models.inference.methods.approximations import Normal
from ppl_models.inference.methods.beginning import beginning, by_latent, no_scale
from ppl_models.inference.methods.fixed_draws import enough_pairs, fixed_draws
from ppl_models.inference.methods.mean_field import Curvature, MeanField
from ppl_models.inference.methods.method import Arrival, Found, Work
from ppl_models.inference.methods.sandwich import DrawError, draw_error
from ppl_models.inference.methods.trust_region import Minimum, minimise
from ppl_models.options import check_count, check_positive
from ppl_models.seeds import child_seed

MAX_STEPS = 200
NUM_DRAWS, TOLERANCE = 128, 0.02
MOST_DRAWS, MOST_NUMBERS = 8_192, 8_000_000
"""Most draws, and most numbers that they may hold."""
MARGIN, LEAST_FACTOR, LARGEST_FACTOR = 1.2, 2.0, 8.0
"""The number of draws grows by what the error asks for and a margin, within these bounds."""
NUM_SHRINKS, SHRINK = 30, 0.5
NARROW = "the log density was not finite at some draws, however narrow the normals; give init="
STOPPED = "the search found no way down at which the log density was finite at every draw"

OPTIONS = {
    "num_draws": f"default {NUM_DRAWS}: fixed draws to begin with; four for each latent at least, up to 200 latents",
    "tolerance": f"default {TOLERANCE}: largest standard error, from the choice of draws, of a mean, in sds, and of a "
    f"log sd; where it is larger, more draws are taken, up to {MOST_DRAWS:,}",
}
DEFAULTS = {"num_draws": NUM_DRAWS, "tolerance": TOLERANCE}


@dataclass(frozen=True)
class MeanFieldFit:
    """The optimum on the last draws.

    Attributes:
        found: as the method gives it.
        objective: on these draws; None where there was no place to begin.
        curvature: the Hessian at the optimum; None where the optimisation did not converge.
    """

    found: Found
    objective: MeanField | None = None
    curvature: Curvature | None = None


def fit_mean_field(work: Work) -> MeanFieldFit:
    """Fit independent normals in the unconstrained space.

    Raises:
        OptionError: an option is out of its range.
    """
    tolerance = check_positive("method_options: tolerance", work.options["tolerance"])
    num_draws = check_count("method_options: num_draws", work.options["num_draws"], least=2)
    begin = beginning(work)
    endless = np.isin(np.arange(len(begin.mean)), begin.endless)
    if endless.any():
        return MeanFieldFit(_without_end(work, begin, no_scale(work, endless)))
    num_pairs = enough_pairs(-(-num_draws // 2), len(begin.mean))
    most = max(num_pairs, min(MOST_DRAWS, MOST_NUMBERS // len(begin.mean)) // 2)
    rng = np.random.default_rng(child_seed(work.seed, "groups of draws"))
    point, losses = np.zeros(2 * len(begin.mean)), ()
    while True:
        objective = _objective(work, begin, num_pairs)
        start = _finite_start(objective, point)
        if start is None:
            return MeanFieldFit(_without_end(work, begin, NARROW))
        minimum = _minimum(work, objective, start, len(losses))
        point, losses = minimum.point, (*losses, *minimum.losses)
        found = _found(work, objective, minimum, losses)
        if minimum.status != CONVERGED:
            return MeanFieldFit(found, objective)
        curvature = objective.curvature(point)
        error = draw_error(objective, point, curvature, rng)
        fit = MeanFieldFit(_judged(work, found, error, tolerance), objective, curvature)
        if error.largest <= tolerance or num_pairs >= most or time.perf_counter() > work.deadline:
            return fit
        factor = np.clip(MARGIN * (error.largest / tolerance) ** 2, LEAST_FACTOR, LARGEST_FACTOR)
        num_pairs = min(most, int(np.ceil(num_pairs * factor)))


def _objective(work: Work, begin: Normal, num_pairs: int) -> MeanField:
    rng = np.random.default_rng(child_seed(work.seed, "fixed draws"))
    return MeanField(work.target, begin, fixed_draws(num_pairs, len(begin.mean), rng))


def _minimum(work: Work, objective: MeanField, start: np.ndarray, done: int) -> Minimum:
    return minimise(
        objective,
        start,
        max_steps=max(1, (work.max_steps or MAX_STEPS) - done),
        deadline=work.deadline,
        update=lambda number, text: work.update(done + number, f"loss {text}, {len(objective.noise):,} draws"),
        precision=float(torch.finfo(work.target.program.dtype).eps),
    )


def _finite_start(objective: MeanField, point: np.ndarray) -> np.ndarray | None:
    """The point, with narrower normals where the log density is not finite at some draw; None where none will do."""
    point = point.copy()
    for _ in range(NUM_SHRINKS):
        loss, gradient = objective(point)
        if np.isfinite(loss) and np.isfinite(gradient).all():
            return point
        point[objective.num_dims :] += np.sqrt(2.0) * np.log(SHRINK)
    return None


def _found(work: Work, objective: MeanField, minimum: Minimum, losses: tuple[float, ...]) -> Found:
    note = ""
    if minimum.status == DIVERGED:
        away = objective.runs_away(minimum.point)
        note = no_scale(work, away) if away.any() else STOPPED
    return Found(
        approximation=objective.normal(minimum.point, minimum.loss, len(losses)),
        losses=np.array(losses),
        status=minimum.status,
        arrival=Arrival(
            "Newton decrement",
            minimum.decrement,
            minimum.limit,
            f"nats that a further step promised, on {len(objective.noise):,} fixed draws",
        ),
        note=note,
        evidence={"num_draws": len(objective.noise), "elbo": -minimum.loss},
    )


def _judged(work: Work, found: Found, error: DrawError, tolerance: float) -> Found:
    """With what the choice of draws leaves."""
    evidence = {
        **found.evidence,
        "draw_error": error.largest,
        "draw_error_of_mean": by_latent(work, error.mean),
        "draw_error_of_log_sd": by_latent(work, error.log_scale),
    }
    note = ""
    if error.largest > tolerance:
        note = (
            f"the choice of {found.evidence['num_draws']:,} draws leaves a standard error of {error.largest:.2g} sd, "
            f"over the tolerance of {tolerance:.2g}"
        )
    return replace(found, evidence=evidence, note=note)


def _without_end(work: Work, begin: Normal, note: str) -> Found:
    """The fit was not tried."""
    normal = Normal(begin.mean, begin.conditional_scale, begin.elbo, begin.num_steps, begin.endless)
    return Found(normal, np.array([-begin.elbo]), DIVERGED, None, note)
