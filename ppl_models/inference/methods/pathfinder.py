"""Multi-path Pathfinder: normals along quasi-Newton paths, chosen by their ELBO and weighed in one mixture.

Zhang, Carpenter, Gelman and Vehtari (2022), Pathfinder: parallel quasi-Newton variational inference, JMLR 23(306).
Besides the normals of the paper, each path's mode gives one more: Laplace's, with the exact Hessian, up to 300 latents.
A quasi-Newton estimate of few pairs is no inverse Hessian, even of a normal target; with Laplace's normal among those
that the ELBO chooses from, normal targets are met exactly. Where the density has no mode, or its mode stands where
there is no mass (a funnel), the ELBO chooses a normal of the way there.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ppl_models.engine import Target
from ppl_models.errors import OptionError
from ppl_models.inference.course import CONVERGED, DIVERGED, MAX_STEPS, OUT_OF_TIME
from ppl_models.inference.methods import climbing
from ppl_models.inference.methods.approximations import Mixture
from ppl_models.inference.methods.few_sizes import FewSizes, in_few_sizes
from ppl_models.inference.methods.method import Arrival, Found, Method, Work
from ppl_models.inference.methods.naming import latent_names
from ppl_models.inference.methods.normals import antithetic, moved
from ppl_models.inference.methods.path_ends import MOST_EXACT, End, distinct, ends_of
from ppl_models.inference.methods.paths import LENGTHS, Walk
from ppl_models.inference.methods.pooling import Pooled, mixture_khat, pooled
from ppl_models.inference.preconditioning.pilot import Normal
from ppl_models.options import check_choice, check_count
from ppl_models.seeds import child_seed

FULL, DIAGONAL = "full", "diagonal"
MOST_FULL = 1_000
"""With more latents several dense covariances are too much."""
ROUNDS, MOST_ROUNDS = 60, 1_000
"""With and without exact Hessians: Newton's method brings home what a path of 60 steps has not."""
PATIENCE = 30
"""Rounds without a better ELBO after which a path is left to Newton's method."""
NEARLY, QUITE = 1e-5, 1e-8
"""Nats that the next step of a path may promise at its end, where Newton's method takes over, and where it does not."""
MOST_LOST = 0.5
"""Share of the weight that may come from paths without a mode."""
OVERDISPERSED = 2.0


def _run(work: Work) -> Found:
    options = _checked(work)
    each = len(LENGTHS) + 2 * (-(-options["num_elbo_draws"] // 2))
    small = max(2 * each, climbing.MOST_TRIES)
    return _paths(work, in_few_sizes(work.target, small, options["num_paths"] * each), options)


def _paths(work: Work, target: Target | FewSizes, options: Mapping[str, Any]) -> Found:
    diagonal = options["covariance"] == DIAGONAL
    rng = np.random.default_rng(child_seed(work.seed, "pathfinder"))
    starts = _starts(work, options["num_paths"], rng)
    exact = work.target.num_dims <= MOST_EXACT
    walk = Walk(
        target,
        starts,
        _diagonals(work, starts),
        antithetic(-(-options["num_elbo_draws"] // 2), work.target.num_dims, rng),
        options["history"],
        NEARLY if exact else QUITE,
        diagonal,
        PATIENCE if exact else None,
    )
    paths = walk.run(work.max_steps or (ROUNDS if exact else MOST_ROUNDS), work.deadline, work.update)
    ends = ends_of(target, walk, paths, work.deadline, rng)
    normals, owner = distinct(ends)
    if not normals:
        return _nowhere(work, walk)
    found = pooled(target, normals, options["num_draws"], options["num_components"], rng)
    khat = found.khat
    if len(normals) > 1:
        khat = mixture_khat(target, found.weights, found.normals, options["num_draws"], rng)
    status, arrival, note = _judged(work, ends, owner, found)
    mixture = _filled(found, options["num_components"])
    evidence = {
        "khat": khat,
        "weights": found.weights.tolist(),
        "paths": [
            {
                "elbo": None if end.normal is None else end.normal.elbo,
                "iterations": end.path.steps,
                "mode_log_density": end.path.value,
                "end": end.kind,
                "component": owner.get(number),
            }
            for number, end in enumerate(ends)
        ],
        "evaluations": work.target.evaluations,
    }
    return Found(mixture, np.array(walk.losses), status, arrival, note, evidence)


def _checked(work: Work) -> Mapping[str, Any]:
    options = dict(work.options)
    for name, least in (("num_paths", 1), ("num_elbo_draws", 2), ("num_draws", 100), ("num_components", 1)):
        check_count(name, options[name], least=least)
    check_count("history", options["history"])
    check_choice("covariance", options["covariance"], (FULL, DIAGONAL))
    dim = work.target.num_dims
    if options["covariance"] == FULL and dim > MOST_FULL:
        raise OptionError(
            f"covariance: found 'full' for {dim:,} latents, wanted at most {MOST_FULL:,}. "
            "Pass method_options={'covariance': 'diagonal'}, or take the family 'low_rank' with method='svi'."
        )
    return options


def _starts(work: Work, count: int, rng: np.random.Generator) -> np.ndarray:
    """The user's start and others around it, or draws of the prior, where the density is finite; shape (path, dim)."""
    if work.begin is None:
        return np.stack([work.start, *(work.prior_draw() for _ in range(count - 1))])
    noise = OVERDISPERSED * rng.standard_normal((count - 1, work.target.num_dims))
    points = np.concatenate([work.begin.mean[None], moved(work.begin, noise)])
    values, gradients = work.target(points)
    finite = np.isfinite(values) & np.isfinite(gradients).all(axis=1)
    return np.stack([point if good else work.start for point, good in zip(points, finite, strict=True)])


def _diagonals(work: Work, starts: np.ndarray) -> np.ndarray:
    """One over the size of each latent's own curvature at the starts, where it has any: a unit of its own for each."""
    if starts.shape[1] > MOST_EXACT:
        scale = np.ones(starts.shape[1]) if work.begin is None else work.begin.scale
        return np.broadcast_to(np.square(scale), starts.shape)
    size = np.stack([np.abs(np.diag(work.target.hessian(start))) for start in starts])
    usable = np.isfinite(size) & (size > climbing.LARGEST_SCALE**-2)
    return 1.0 / np.where(usable, size, 1.0)


def _judged(work: Work, ends: Sequence[End], owner: Mapping[int, int], found: Pooled) -> tuple[str, Arrival, str]:
    """Status, arrival and note, by what the paths behind the mixture's weight have come to."""
    lost, kinds = 0.0, dict[str, float]()
    dims: set[int] = set()
    for weight, place in zip(found.weights, found.places, strict=True):
        behind = [end for number, end in enumerate(ends) if owner.get(number) == place]
        if any(end.kind == climbing.MODE for end in behind):
            continue
        lost += float(weight)
        kinds[behind[0].kind] = kinds.get(behind[0].kind, 0.0) + float(weight)
        dims |= set(behind[0].dims)
    arrived = sum(end.kind == climbing.MODE for end in ends)
    detail = f"{arrived} of {len(ends)} paths came to a mode"
    arrival = Arrival("weight of paths without a mode", lost, MOST_LOST, detail)
    if arrival.arrived:
        return CONVERGED, arrival, ""
    kind = max(kinds, key=lambda name: kinds[name])
    where = f" along {latent_names(work.target.program, dims)}" if dims else ""
    notes = {
        climbing.ENDLESS: (DIVERGED, f"the log density has no mode in reach{where}; the normals are of the way there"),
        climbing.FLAT: (DIVERGED, f"the log density is flat{where}: the posterior is improper, or nearly"),
        climbing.SADDLE: (DIVERGED, f"the paths ended at a saddle{where}"),
        climbing.NOWHERE: (DIVERGED, "the log density was not finite at the starts"),
        climbing.LATE: (OUT_OF_TIME, ""),
        climbing.UNFINISHED: (MAX_STEPS, ""),
    }
    late = time.perf_counter() >= work.deadline
    status, note = (OUT_OF_TIME, "") if late else notes[kind]
    return status, arrival, note


def _filled(found: Pooled, count: int) -> Mixture:
    """A mixture of just so many components: the heaviest are split into equal ones, which changes no density."""
    shares = np.ones(len(found.weights), dtype=int)
    while shares.sum() < count:
        shares[int(np.argmax(found.weights / shares))] += 1
    weights = np.repeat(found.weights / shares, shares)
    normals = tuple(normal for normal, share in zip(found.normals, shares, strict=True) for _ in range(share))
    return Mixture(weights, normals)


def _nowhere(work: Work, walk: Walk) -> Found:
    scale = np.ones(work.target.num_dims)
    root = scale if work.options["covariance"] == DIAGONAL else np.diag(scale)
    normal = work.begin if work.begin is not None else Normal(work.start, root, -np.inf, 0)
    count = work.options["num_components"]
    note = "the log density was not finite around any point of any path; nothing was fitted"
    mixture = Mixture(np.full(count, 1.0 / count), (normal,) * count)
    late = time.perf_counter() >= work.deadline
    return Found(mixture, np.array(walk.losses or [np.inf]), OUT_OF_TIME if late else DIVERGED, None, note)


PATHFINDER = Method(
    name="pathfinder",
    summary="Normals along quasi-Newton paths to the modes, chosen by their ELBO and weighed in one mixture.",
    cite="Zhang et al. (2022), Pathfinder: parallel quasi-Newton variational inference, JMLR 23(306)",
    families=("mixture",),
    run=_run,
    options={
        "num_paths": "default 8: paths, the first from the fit's start and the others from draws of the prior",
        "num_elbo_draws": "default 10: draws behind the ELBO of each point of a path",
        "num_draws": "default 1,000: draws behind the weights, and behind k-hat",
        "num_components": "default 8: normals in the mixture; of fewer, the heaviest are split into equal ones",
        "history": "default 6: pairs of steps and slopes that an inverse Hessian is estimated from",
        "covariance": "default 'full': of each normal; 'diagonal' above 1,000 latents",
    },
    defaults={
        "num_paths": 8,
        "num_elbo_draws": 10,
        "num_draws": 1_000,
        "num_components": 8,
        "history": 6,
        "covariance": FULL,
    },
    guide_options=lambda options: {name: options[name] for name in ("num_components", "covariance")},
)
