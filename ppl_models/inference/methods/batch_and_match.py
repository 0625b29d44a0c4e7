"""Batch and match: a dense normal from draws and scores, by closed-form updates.

Cai et al. (2024), Batch and match: black-box variational inference with a score-based divergence, ICML. Begun at a
quick natural-gradient look (`preconditioning.pilot`), which stands near the target already.

The updates of single batches keep the noise of their batch, whatever their number, as long as their strength is above
one. So the draws of several updates are pooled: near the end the normals that they come from hardly differ, and one
update of endless strength on all their draws is the batch update with as many draws, whose error falls as one over the
root of their number; on a normal target it is exact. The pools double in size, each begins at the normal of the one
before, and the last two must agree.
"""

import time
from dataclasses import dataclass, field, replace

import numpy as np

from ppl_models.errors import GuideError
from ppl_models.inference.course import CONVERGED, DIVERGED, MAX_STEPS, OUT_OF_TIME
from ppl_models.inference.methods.beginning import beginning
from ppl_models.inference.methods.matching import matched
from ppl_models.inference.methods.method import Arrival, Found, Method, Work
from ppl_models.inference.methods.naming import latent_names
from ppl_models.inference.methods.normals import antithetic, divergence, elbo, log_scale, moved
from ppl_models.inference.preconditioning.pilot import Normal, num_pairs
from ppl_models.options import check_count, check_positive
from ppl_models.seeds import child_seed

MOST = 500
STEPS = 300
FIRST_POOL = 4
ENDLESS = 1e8
"""A scale that has grown by this factor since the first look is none."""
FEW = 0.1
"""Share of draws without a finite density that are passed over; with more, the normal is too wide."""
WORSE, WEAKER = 2.0, 0.125
"""Nats, beyond the noise, by which the ELBO must fall for an update to be taken back; it is weakened by this factor."""
WEAKEST = 1e-6


@dataclass
class _Course:
    """Where the updates are.

    Attributes:
        work: what is fitted.
        rng: gives the noise.
        pairs: antithetic pairs in a batch.
        normal: now.
        before: the last normal that did well, with its ELBO and that one's standard error; None at first.
        factor: of the strength, below one after an update was taken back.
        losses: minus the ELBO, by update.
        points: draws of the present pool.
        scores: there.
    """

    work: Work
    rng: np.random.Generator
    pairs: int
    normal: Normal
    before: tuple[Normal, float, float] | None = None
    factor: float = 1.0
    losses: list[float] = field(default_factory=list)
    points: list[np.ndarray] = field(default_factory=list)
    scores: list[np.ndarray] = field(default_factory=list)

    def step(self) -> None:
        """Draw a batch and match it; take the update before back where it was for the worse."""
        noise = self.draw_noise()
        points = moved(self.normal, noise)
        values, scores = self.work.target(points)
        finite = np.isfinite(values) & np.isfinite(scores).all(axis=1)
        number = len(self.losses) + 1
        if 1.0 - finite.mean() > FEW:
            self.losses.append(self.losses[-1] if self.losses else np.inf)
            self.normal = replace(self.normal, root=0.5 * self.normal.root)
            self.drop()
            return
        terms = elbo(values[finite], noise[finite], self.normal.root)
        level, error = float(terms.mean()), float(terms.std() / np.sqrt(len(terms)))
        self.losses.append(-level)
        if self.before is not None:
            normal, best, noise_there = self.before
            if level < best - WORSE - 3.0 * (error + noise_there) and self.factor > WEAKEST:
                self.normal, self.factor = normal, self.factor * WEAKER
                self.drop()
                return
        self.before = (self.normal, level, error)
        self.points.append(points[finite])
        self.scores.append(scores[finite])
        strength = self.factor * len(points) * points.shape[1] / number
        self.factor = min(1.0, 2.0 * self.factor)
        self.normal = matched(self.normal, points[finite], scores[finite], strength)

    def drop(self) -> None:
        """Begin the pool again."""
        self.points.clear()
        self.scores.clear()

    def pool(self) -> Normal:
        """The normal of all draws of the pool, which begins again at it."""
        found = matched(self.normal, np.concatenate(self.points), np.concatenate(self.scores), np.inf)
        self.drop()
        self.normal = found
        return found

    def draw_noise(self) -> np.ndarray:
        """Antithetic draws of covariance one: the noise of their own second moments stays out of the updates."""
        return antithetic(self.pairs, self.work.target.num_dims, self.rng)


def _run(work: Work) -> Found:
    dim = work.target.num_dims
    if dim > MOST:
        raise GuideError(
            f"method 'batch_and_match': {dim:,} latents, wanted at most {MOST:,}: each update factors a dense matrix. "
            "Take the family 'normal' or 'low_rank' with method='svi', or method='dadvi'."
        )
    size = work.options["batch_size"]
    pairs = num_pairs(dim) if size is None else -(-check_count("batch_size", size, least=2) // 2)
    tolerance = check_positive("tolerance", work.options["tolerance"])
    rng = np.random.default_rng(child_seed(work.seed, "batch_and_match"))
    begin = beginning(work)
    course = _Course(work, rng, pairs, Normal(begin.mean, begin.scale_tril, begin.elbo, 0))
    if begin.endless:
        return _endless(course, begin.endless)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return _pools(course, begin, tolerance)


def _pools(course: _Course, begin: Normal, tolerance: float) -> Found:
    work = course.work
    size, last, change = FIRST_POOL, course.normal, np.inf
    most = work.max_steps or STEPS
    status = MAX_STEPS
    while len(course.losses) < most:
        if time.perf_counter() >= work.deadline:
            status = OUT_OF_TIME
            break
        course.step()
        grown = tuple(np.flatnonzero(~(course.normal.scale < ENDLESS * begin.scale)).tolist())
        if grown:
            return _endless(course, grown)
        work.update(len(course.losses), f"ELBO {-course.losses[-1]:,.2f}")
        if len(course.points) < size or sum(map(len, course.points)) <= 2 * work.target.num_dims:
            continue
        found = course.pool()
        change, last = max(divergence(found, last), divergence(last, found)), found
        if change <= tolerance:
            status = CONVERGED
            break
        size *= 2
    losses = course.losses or [-begin.elbo]
    level = -losses[-1]
    arrival = Arrival(
        "nats between the normals of the last two pools",
        float(change),
        tolerance,
        f"{len(course.losses)} updates of {2 * course.pairs} draws; the last pool has {size} updates",
    )
    evidence = {
        "elbo": level,
        "batch_size": 2 * course.pairs,
        "pool_draws": 2 * course.pairs * size,
        "evaluations": work.target.evaluations,
    }
    if status == CONVERGED:
        chosen, note = last, ""
    else:
        chosen, note = _better(course, begin, last)
    normal = replace(chosen, elbo=level if chosen.elbo == -np.inf else chosen.elbo)
    normal = replace(normal, num_steps=len(course.losses))
    return Found(normal, np.array(losses), status, arrival, note, evidence)


def _better(course: _Course, begin: Normal, last: Normal) -> tuple[Normal, str]:
    """Of the first look's normal and the last pool's, the one of the larger ELBO, on common noise."""
    noise = course.draw_noise()
    scored = []
    for normal in (begin, last):
        values, _ = course.work.target(moved(normal, noise))
        level = float(elbo(values, noise, normal.root).mean())
        scored.append(replace(normal, elbo=level if np.isfinite(level) else -np.inf))
    if scored[0].elbo <= scored[1].elbo:
        return scored[1], ""
    root = scored[0].scale_tril
    return replace(scored[0], root=root), "the updates did not settle; the normal is that of the first look"


def _endless(course: _Course, dims: tuple[int, ...]) -> Found:
    names = latent_names(course.work.target.program, dims)
    note = f"the scale of {names} grows without bound: the posterior is improper, or nearly"
    usable = course.before[0] if course.before is not None else course.normal
    growth = float(np.exp(min(700.0, log_scale(course.normal.root) - log_scale(usable.root))))
    arrival = Arrival("growth of the normal's volume in the last update", growth, 1.0, note)
    losses = np.array(course.losses or [-usable.elbo])
    return Found(usable, losses, DIVERGED, arrival, note, {"endless": list(dims)})


BATCH_AND_MATCH = Method(
    name="batch_and_match",
    summary="A dense normal whose scores match the target's on batches of draws, by closed-form updates.",
    cite="Cai et al. (2024), Batch and match: black-box variational inference with a score-based divergence, ICML",
    families=("full_rank", "full_rank_student_t"),
    run=_run,
    options={
        "batch_size": "default None: draws of an update; 64, or about twice the number of latents where that is more",
        "tolerance": "default 0.001: nats of divergence between the normals of the last two pools of draws",
    },
    defaults={"batch_size": None, "tolerance": 1e-3},
)
