"""Where methods on fixed draws or with particles begin: the normal that a quick look at the target finds."""

import numpy as np

from ppl_models.inference.methods.approximations import Normal
from ppl_models.inference.methods.method import Work
from ppl_models.inference.methods.naming import latent_names
from ppl_models.inference.preconditioning.pilot import approximate

INIT_SCALE = 0.1
MORE_STARTS = 3


def beginning(work: Work) -> Normal:
    """The normal that was given, else what a look from the start finds, or from draws of the prior where it fails.

    Its ELBO is -inf where no look met finite values.
    """
    if work.begin is not None:
        return work.begin
    rng = np.random.default_rng(work.seed)
    scale = np.full(work.target.num_dims, INIT_SCALE)
    found = approximate(work.target, work.start, scale, rng)
    for _ in range(MORE_STARTS):
        if np.isfinite(found.elbo):
            break
        found = approximate(work.target, work.prior_draw(), scale, rng)
    return found


def several_beginnings(work: Work) -> tuple[list[Normal], np.ndarray]:
    """Normals of modes that lie apart, and the share of the posterior that each holds by its ELBO; the best first.

    The looks go from the start and from draws of the prior. Of two whose means lie within a standard deviation by dim
    the worse is left out.
    """
    if work.begin is not None:
        return [work.begin], np.ones(1)
    rng = np.random.default_rng(work.seed)
    scale = np.full(work.target.num_dims, INIT_SCALE)
    starts = [work.start, *(work.prior_draw() for _ in range(MORE_STARTS))]
    found = sorted((approximate(work.target, start, scale, rng) for start in starts), key=lambda normal: -normal.elbo)
    apart = found[:1]
    if found[0].endless:
        return apart, np.ones(1)
    for normal in found[1:]:
        if np.isfinite(normal.elbo) and not normal.endless and all(_far(normal, other) for other in apart):
            apart.append(normal)
    shares = np.exp([normal.elbo - apart[0].elbo for normal in apart]) if len(apart) > 1 else np.ones(1)
    return apart, shares / shares.sum()


def _far(one: Normal, other: Normal) -> bool:
    away = one.mean - other.mean
    own = away / other.root if other.root.ndim == 1 else np.linalg.lstsq(other.root, away, rcond=None)[0]
    return not np.square(own).mean() < 1.0


def no_scale(work: Work, dims: np.ndarray) -> str:
    """The note on dims along which the target does not fall off; `dims` is boolean, shape (dim,)."""
    names = latent_names(work.target.program, np.flatnonzero(dims).tolist())
    return (
        f"the posterior has no scale along {names}: its density does not fall off there, so that it is improper, or "
        "flat over all that can be reached. Give these latents a proper prior"
    )


def by_latent(work: Work, values: np.ndarray) -> dict[str, float]:
    """The largest of some figures by dim, shape (dim,), for each latent."""
    places = work.target.program.slices.items()
    return {name: float(values[place].max()) for name, (place, _) in places if len(values[place])}
