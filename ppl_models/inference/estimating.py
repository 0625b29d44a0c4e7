"""Which estimator a fit takes, and how many particles of it a step."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pyro.infer.elbo import ELBO

from ppl_models.errors import OptionError
from ppl_models.inference.guides import ResolvedGuide
from ppl_models.inference.particles import can_vmap_particles, default_num_particles
from ppl_models.options import check_choice
from ppl_models.program import Program
from ppl_models.program.estimators import ESTIMATORS, Estimator, Score, StickingTheLanding, Total, make_estimator
from ppl_models.program.estimators.drawing import draw, latents_of
from ppl_models.program.isolation import forked_random

AUTO = "auto"
STICKING = frozenset({"full_rank", "realnvp", "neural_spline", "full_rank_student_t", "mixture"})
"""Families that come close to their target, where a gradient without the score has the least noise, and whose density
at a given point costs about what a draw does."""
STICKING_NUMBERS = 1_000_000
"""As `NUMBERS_PER_STEP`; more, since without the score more draws take the noise away, and steps with it."""
STICKING_PARTICLES = 100
"""Agrawal, Sheldon and Domke (2020), Advances in black-box VI: normalizing flows, importance weighting, and
optimization, for the number."""


def check_estimator(name: str, options: Mapping[str, Any], elbo: ELBO | None, num_particles: int | None) -> None:
    """Refuse a name, options and particles that do not go together, before anything is run.

    Raises:
        UnknownNameError, OptionError: the message says which.
    """
    check_choice("estimator", name, (AUTO, *ESTIMATORS))
    if name == AUTO:
        if options:
            raise OptionError("estimator_options: estimator 'auto' takes none; name the estimator that they are for.")
        return
    if elbo is not None:
        raise OptionError(
            f"estimator: an ELBO of yours ({type(elbo).__name__}) brings its own; give one of the two, estimator or "
            "elbo."
        )
    fewest = make_estimator(name, options).fewest
    if num_particles is not None and num_particles < fewest:
        raise OptionError(
            f"num_particles: found {num_particles}, and estimator '{name}' compares each particle with the others: "
            f"wanted at least {fewest}."
        )


def choose_estimator(
    name: str,
    options: Mapping[str, Any],
    resolved: ResolvedGuide,
    program: Program,
    elbo: ELBO | None,
    num_particles: int | None = None,
) -> Estimator:
    """The estimator of a fit, checked on the guide. Call it in the fit's world, behind the guide's first run.

    "auto" takes the gradient without the score for families that come close to their target, the score function with a
    baseline for a guide with sites that have no reparameterised draw, where several particles can be drawn at once,
    and the total gradient elsewhere.

    Raises:
        OptionError: the guide or the model is none that it serves; the message names the site and another estimator.
    """
    if elbo is not None:
        return Total()
    with forked_random(program.device):
        if name != AUTO:
            estimator = make_estimator(name, options)
            estimator.check(program, resolved.guide)
            return estimator
        if resolved.family is not None:
            return _without_score(program, resolved) if resolved.family.name in STICKING else Total()
        several = num_particles is None or num_particles >= Score().fewest
        if several and not _is_reparameterised(program, resolved.guide):
            return Score() if can_vmap_particles(program, resolved.guide, Score()) else Total()
        return Total()


def _without_score(program: Program, resolved: ResolvedGuide) -> Estimator:
    try:
        StickingTheLanding().check(program, resolved.guide)
    except OptionError:
        return Total()
    return StickingTheLanding()


def _is_reparameterised(program: Program, guide: Callable[..., Any]) -> bool:
    if callable(getattr(guide, "strata", None)):
        return True
    with torch.no_grad():
        return all(node["fn"].has_rsample for node in latents_of(draw(program, guide)).values())


def default_particles(program: Program, estimator: Estimator) -> int:
    """Estimates a step where nobody says how many: what is nearly free on a CPU."""
    draws = default_num_particles(program)
    if isinstance(estimator, StickingTheLanding):
        draws = max(1, min(STICKING_PARTICLES, STICKING_NUMBERS // program.size_hint))
    return max(estimator.fewest, draws // estimator.draws_inside)
