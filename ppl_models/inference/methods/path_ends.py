"""What the paths of a walk have come to: a mode or none, and the best normal on the way or at the mode."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ppl_models.engine import Target
from ppl_models.inference.methods import climbing
from ppl_models.inference.methods.climbing import Top, climb
from ppl_models.inference.methods.few_sizes import FewSizes
from ppl_models.inference.methods.normals import antithetic, divergence, elbo, moved
from ppl_models.inference.methods.paths import ARRIVED, LATE, STUCK, Path, Walk
from ppl_models.inference.preconditioning.pilot import Normal

MOST_EXACT = 300
"""Up to so many latents, exact Hessians give the first units and Laplace's normals."""
CLIMB_STEPS = 30
FINAL_PAIRS = 32
"""Fewest antithetic pairs of draws behind the ELBOs that the last choice is by."""
CLEARLY, ANYWAY = 3.0, 0.2
"""Standard errors, or nats, by which a path's normal must beat Laplace's, whose curvature is exact, to be taken."""
SAME_TOP = 0.1
"""Standard deviations within which two paths have come to the same mode."""
SAME_NORMAL = 0.01
"""Nats of divergence below which two normals count as one."""


@dataclass(frozen=True)
class End:
    """A path with what was found at its end.

    Attributes:
        path: the path.
        normal: Laplace's at its end, or that of the best ELBO along it, where that is clearly better; None where no
            draws had a finite density.
        kind: how it ended, as `climbing` names it.
        dims: the latents behind an end that is no mode.
    """

    path: Path
    normal: Normal | None
    kind: str
    dims: tuple[int, ...]


def ends_of(
    target: Target | FewSizes, walk: Walk, paths: Sequence[Path], deadline: float, rng: np.random.Generator
) -> list[End]:
    """What paths have come to.

    Args:
        target: the log density.
        walk: that the paths have gone.
        paths: as it left them.
        deadline: `time.perf_counter()` at which to end.
        rng: gives the noise of the ELBOs by which each path's normal is chosen.
    """
    diagonal = walk.diagonal_covariance
    tops = _tops(target, paths, deadline) if target.num_dims <= MOST_EXACT else [None] * len(paths)
    unfelt = tuple(np.flatnonzero(~walk.felt).tolist())
    # On a normal target the ELBOs are exact then.
    pairs = max(FINAL_PAIRS, target.num_dims) if target.num_dims <= MOST_EXACT else FINAL_PAIRS
    noise = antithetic(pairs, target.num_dims, rng)
    laplace: dict[int, _Scored] = {}
    ends = []
    for path, top in zip(paths, tops, strict=True):
        best = None if path.best is None else _scored(target, path.best.normal(), noise)
        if top is not None and top.root is not None:
            if id(top) not in laplace:
                root = 1.0 / np.sqrt(np.diag(top.precision)) if diagonal else top.root
                laplace[id(top)] = _scored(target, Normal(top.point, root, -np.inf, path.steps), noise)
            best = laplace[id(top)].unless_worse_than(best)
        normal = best.normal if best is not None and np.isfinite(best.normal.elbo) else None
        if top is None:
            ends.append(End(path, normal, climbing.FLAT if unfelt else _kind_of(path), unfelt))
        else:
            ends.append(End(replace(path, value=max(path.value, top.value)), normal, top.kind, top.dims))
    return ends


def _kind_of(path: Path) -> str:
    return {ARRIVED: climbing.MODE, STUCK: climbing.ENDLESS, LATE: climbing.LATE}.get(path.kind, climbing.UNFINISHED)


@dataclass(frozen=True)
class _Scored:
    """A normal with its ELBO, and that ELBO's terms by antithetic pair of draws, shape (pair,)."""

    normal: Normal
    terms: np.ndarray

    def unless_worse_than(self, other: "_Scored | None") -> "_Scored":
        """This one, unless another's ELBO, on the same noise, is larger by more than noise makes of equal ones."""
        if other is None or not np.isfinite(other.normal.elbo):
            return self
        if not np.isfinite(self.normal.elbo):
            return other
        gains = other.terms - self.terms
        # Heavy tails make an error of any size.
        needed = min(CLEARLY * gains.std(ddof=1) / np.sqrt(len(gains)), ANYWAY)
        return other if gains.mean() > needed else self


def _scored(target: Target | FewSizes, normal: Normal, noise: np.ndarray) -> _Scored:
    values, _ = target(moved(normal, noise))
    terms = elbo(values, noise, normal.root).reshape(2, -1).mean(axis=0)
    finite = np.isfinite(terms).all()
    return _Scored(replace(normal, elbo=float(terms.mean()) if finite else -np.inf), terms)


def _tops(target: Target | FewSizes, paths: Sequence[Path], deadline: float) -> list[Top]:
    """What stands at the end of each path; paths to the same mode share it."""
    found: list[Top] = []
    tops: dict[int, Top] = {}
    for number in sorted(range(len(paths)), key=lambda n: -np.nan_to_num(paths[n].value, nan=-np.inf)):
        path = paths[number]
        same = [top for top in found if top.kind == climbing.MODE and _stands_at(path.point, top)]
        if not same:
            found.append(climb(target, path.point, max_steps=CLIMB_STEPS, deadline=deadline))
            # Newton's steps may end at a mode that is known.
            same = [top for top in found[:-1] if top.kind == climbing.MODE and _stands_at(found[-1].point, top)]
        tops[number] = same[0] if same else found[-1]
    return [tops[number] for number in range(len(paths))]


def _stands_at(point: np.ndarray, top: Top) -> bool:
    away = point - top.point
    return bool(away @ top.precision @ away <= SAME_TOP**2)


def distinct(ends: Sequence[End]) -> tuple[list[Normal], dict[int, int]]:
    """The paths' normals without doubles, and which of them each path has."""
    normals: list[Normal] = []
    owner: dict[int, int] = {}
    order = [n for n, end in enumerate(ends) if end.normal is not None]
    for number in sorted(order, key=lambda n: -_elbo_of(ends[n])):
        normal = ends[number].normal
        assert normal is not None
        same = [k for k, known in enumerate(normals) if known is normal or _alike(known, normal)]
        owner[number] = same[0] if same else len(normals)
        if not same:
            normals.append(normal)
    return normals, owner


def _elbo_of(end: End) -> float:
    return -np.inf if end.normal is None else end.normal.elbo


def _alike(first: Normal, second: Normal) -> bool:
    return divergence(first, second) < SAME_NORMAL and divergence(second, first) < SAME_NORMAL
