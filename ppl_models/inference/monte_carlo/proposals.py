"""The distribution that an importance method draws from: its draws, its density, and whether it covers the target."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.distributions import Distribution, Independent

from ppl_models.checks import Check
from ppl_models.errors import OptionError
from ppl_models.inference.monte_carlo.heaviest import KHAT_GOOD
from ppl_models.inference.monte_carlo.integrand import Integrand
from ppl_models.inference.monte_carlo.moments import SPREAD, Moments
from ppl_models.inference.monte_carlo.sources import Draws, rows_of

Float64Array = NDArray[np.float64]
LogDensity = Callable[[torch.Tensor], torch.Tensor]

NUM_PROBES = 1_000
STRETCHES = (-3.0, -1.5, 1.5, 3.0)
"""How far beyond a proposal's draws, from their middle, a target that cannot be drawn from is looked for."""
NEGLIGIBLE = 1e-3
RESOLUTION = 4.0
"""Standard errors by which the mean weight may miss its expectation."""
ROUNDING = 1e-6
WIDER = "give a proposal that has density wherever the target and the integrand have"


def check_proposal(proposal: Any, method: str, target: Distribution | None = None) -> Distribution:
    """The proposal if it can be drawn from, and its draws have the shape of the target's.

    Raises:
        OptionError: it is no distribution, or one over another space, or one of whole numbers for a continuous target.
    """
    if not isinstance(proposal, Distribution):
        raise OptionError(
            f"proposal: found {type(proposal).__name__}, wanted a torch or Pyro distribution to draw from: "
            f"ppl.expect(f, q, method='{method}', proposal=pyro.distributions.Normal(0.0, 2.0))."
        )
    if target is not None:
        found, wanted = (tuple(each.batch_shape + each.event_shape) for each in (proposal, target))
        if found != wanted:
            raise OptionError(
                f"proposal: draws of shape {found}, wanted those of q, {wanted}. Expand one to the other."
            )
        kinds = [_discrete(each) for each in (proposal, target)]
        if None not in kinds and kinds[0] != kinds[1]:
            said = ["discrete" if kind else "continuous" for kind in kinds]
            raise OptionError(
                f"proposal: {_name(proposal)} is {said[0]} and q, {_name(target)}, {said[1]}, so that their densities "
                f"have no ratio. Give a {said[1]} proposal."
            )
    return proposal


def _discrete(distribution: Distribution) -> bool | None:
    """Whether draws are of a discrete space; None where that is not said."""
    try:
        support: Any = distribution.support
        return bool(support.is_discrete)
    except (NotImplementedError, AttributeError):
        return None


def _name(distribution: Distribution) -> str:
    while isinstance(distribution, Independent):
        distribution = distribution.base_dist
    return type(distribution).__name__


def drawn(distribution: Distribution, num_draws: int) -> torch.Tensor:
    """Draws of shape (draw, *event)."""
    with torch.no_grad():
        return distribution.sample(torch.Size((num_draws,)))


def log_density(distribution: Distribution, draws: torch.Tensor) -> torch.Tensor:
    """Log density in nats at draws, summed over the batch, shape (draw,); -inf outside the support.

    A distribution that validates would raise there, and one that does not may say anything.
    """
    count = len(draws)
    try:
        support: Any = distribution.support
        inside = support.check(draws).reshape(count, -1).all(dim=1)
    except NotImplementedError:
        inside = torch.ones(count, dtype=torch.bool, device=draws.device)
    with torch.no_grad():
        if inside.all():
            return distribution.log_prob(draws).reshape(count, -1).sum(dim=1)
        found = torch.full((count,), -math.inf, dtype=torch.get_default_dtype(), device=draws.device)
        if inside.any():
            some = distribution.log_prob(draws[inside])
            found = found.to(some.dtype)
            found[inside] = some.reshape(len(some), -1).sum(dim=1)
    return found


def values_where(integrand: Integrand, draws: Draws, counted: torch.Tensor) -> Float64Array:
    """Values of an integrand where its weight is not zero, and zero elsewhere, where it need not be defined.

    Args:
        integrand: the function.
        draws: by their first axis.
        counted: which of them have a weight, shape (draw,).

    Returns:
        Shape (draw, component), float64.
    """
    number = int(counted.sum())
    if not number:
        return np.zeros((len(counted), 1 if integrand.shape is None else integrand.shape.numel()))
    some = draws if number == len(counted) else rows_of(draws, counted)
    values = integrand(some).double().cpu().numpy().reshape(number, -1)
    if len(values) == len(counted):
        return values
    found = np.zeros((len(counted), values.shape[1]))
    found[counted.cpu().numpy()] = values
    return found


def check_covered(draws: torch.Tensor, proposal: Distribution, integrand: Integrand | None) -> tuple[Check, float]:
    """Whether a proposal has density where draws of the target lie.

    Args:
        draws: of the target, shape (draw, *event).
        proposal: what is drawn from.
        integrand: where it is zero the proposal need not reach; None where it must reach all of the target.

    Returns:
        The check, whose value is the share of the draws that the proposal cannot reach and where the integrand is not
        zero; and the share that it cannot reach at all.
    """
    outside = log_density(proposal, draws) == -math.inf
    unreached = float(outside.double().mean())
    lost = unreached
    if unreached and integrand is not None:
        values = integrand(draws[outside]).reshape(int(outside.sum()), -1)
        lost = float((values != 0).any(dim=1).double().sum()) / len(draws)
    detail = f"the proposal has no density at {int(outside.sum()):,} of {len(draws):,} draws of the target"
    if not unreached:
        detail = f"the proposal has density at all of {len(draws):,} draws of the target"
    elif not lost:
        detail += ", where the integrand is zero"
    elif integrand is not None:
        detail += f"; at {round(lost * len(draws)):,} of them the integrand is not zero"
    return Check("support", lost, 0.0, lost == 0.0, WIDER if lost else "", detail=detail), unreached


def check_probed(draws: torch.Tensor, proposal: Distribution, target: LogDensity) -> Check:
    """Whether a target that cannot be drawn from has density just outside the proposal's support.

    Args:
        draws: of the proposal, shape (draw, *event).
        proposal: what is drawn from.
        target: unnormalised log density in nats, of draws.

    Returns:
        The check, whose value is the largest density found outside beside the largest found inside.
    """
    if not draws.is_floating_point():
        return Check("support", math.nan, NEGLIGIBLE, None, WIDER, detail="supports of whole numbers are not compared")
    middle = draws.median(dim=0).values
    inside = target(draws)
    probes = torch.cat([middle + stretch * (draws - middle) for stretch in STRETCHES])
    probes = probes[log_density(proposal, probes) == -math.inf]
    if not len(probes):
        said = "the proposal has density everywhere around its own draws"
        return Check("support", 0.0, NEGLIGIBLE, True, "", detail=said)
    outside = torch.nan_to_num(target(probes), nan=-math.inf, posinf=math.inf, neginf=-math.inf)
    beside = math.exp(min(float(outside.max() - inside.max()), 700.0))
    passed = beside <= NEGLIGIBLE
    said = f"outside the proposal's support the target's density reaches {beside:.2g} of the largest inside"
    return Check("support", beside, NEGLIGIBLE, passed, "" if passed else WIDER, detail=said)


def check_mean_weight(weights: Moments, khat: float, unreached: float) -> tuple[Check, ...]:
    """Whether the weights' mean is the share of q that the proposal reaches; nothing where its error is not known.

    A proposal for a rare event has weights of a huge variance, and needs no more: what counts is w f.

    Args:
        weights: their moments, both densities normalised.
        khat: of the weights.
        unreached: share of draws of q where the proposal has no density.
    """
    if khat > KHAT_GOOD or any(check.passed is False for check in weights.checks()):
        return ()
    mean, wanted = float(weights.mean), 1.0 - unreached
    chance = unreached * wanted / NUM_PROBES
    error = math.hypot(float(np.nan_to_num(weights.standard_error)), math.sqrt(chance))
    off, limit = abs(mean - wanted), RESOLUTION * error + ROUNDING
    detail = f"the mean weight is {mean:.4g}, of {wanted:.4g} expected"
    if off <= limit:
        return (Check("mean weight", off, limit, True, "", error, detail),)
    advice = "give a normalised density as q, and a proposal that has mass wherever q has"
    return (Check("mean weight", off, limit, False, advice, error, detail),)


def check_terms(terms: Moments, what: str, still: NDArray[np.bool_]) -> tuple[Check, ...]:
    """Whether the terms of a weighted mean are many enough for their skewness, and whether f was seen to vary.

    Args:
        terms: their moments.
        what: they are, for people.
        still: by component, whether all draws of some weight have one value of f.
    """
    advice = "raise num_draws, or give another proposal"
    found = tuple(replace(check, advice=advice if check.advice else "") for check in terms.checks(what))
    if not still.any():
        return found
    which = "" if still.size == 1 else f" of {int(still.sum()):,} of {still.size:,} outputs"
    detail = f"all values{which} are equal"
    return (*found, Check(SPREAD, 0.0, 0.0, None, f"{advice}; ignore this where f is a constant", detail=detail))
