"""Control variates that a relaxed draw gives a score function, and the best coefficients of them."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from ppl_models.program.estimators.auxiliary import Auxiliary
from ppl_models.program.estimators.relaxation import Perturbed

RIDGE = 1e-4
"""Over each variate's own variance: without it, variates that say the same get large coefficients that cost later."""
MOMENTS = ("gram", "cross", "variates", "plain")
Values = dict[str, torch.Tensor]


def added_to_gradient(
    feature: Callable[[Values], torch.Tensor],
    drawn: Mapping[str, Perturbed],
    logits: Values,
    score: torch.Tensor,
    elements: torch.Tensor,
) -> torch.Tensor:
    """What c(z') ds/dl - dc(z)/dl + dc(z')/dl is for each feature c; its mean is zero.

    Args:
        feature: the z of all sites -> features, shape (feature, element).
        drawn: the draw; z is its free, z' its given variable.
        logits: l, by site.
        score: ds/dl, all sites in one vector.
        elements: which element each logit belongs to; a feature of an element depends on no other's z.

    Returns:
        Shape (feature, logit).
    """
    free, _ = _slopes(feature, drawn, logits, "free")
    given, values = _slopes(feature, drawn, logits, "given")
    return values[:, elements] * score + given - free


def _slopes(
    feature: Callable[[Values], torch.Tensor], drawn: Mapping[str, Perturbed], logits: Values, path: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """The slopes of the features' sums over elements, shape (feature, logit), and the features."""

    def function(logits: Values) -> tuple[torch.Tensor, torch.Tensor]:
        found = feature({name: getattr(one, path)(logits[name]) for name, one in drawn.items()})
        return found.sum(dim=1), found

    found: Any = torch.func.vjp(function, logits, has_aux=True)
    summed, pull, values = found
    unit = torch.eye(len(summed), dtype=summed.dtype, device=summed.device)
    (slopes,) = torch.func.vmap(pull)(unit)
    return torch.cat([slopes[name].reshape(len(unit), -1) for name in drawn], dim=1), values


def moments_of(variates: torch.Tensor, plain: torch.Tensor) -> Values:
    """First and second moments that coefficients come from.

    Args:
        variates: control variates, shape (variate, logit).
        plain: what they are to lessen, shape (logit,).
    """
    return {"gram": variates @ variates.mT, "cross": variates @ plain, "variates": variates, "plain": plain}


def running_loss(learnt: Auxiliary, terms: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """A loss whose gradient moves the running moments towards these draws'."""
    away = (learnt[name] - terms[name].mean(dim=0).detach() for name in MOMENTS)
    return sum((0.5 * one.square().sum() for one in away), start=torch.zeros_like(learnt.middle))


def best_coefficients(learnt: Auxiliary) -> torch.Tensor:
    """The coefficients that make the variance of the gradient by the logits least: least squares on past draws."""
    gram, cross, variates, plain = (learnt[name].detach() for name in MOMENTS)
    gram, cross = gram - variates @ variates.mT, cross - variates @ plain
    scale = gram.diagonal().clamp(min=torch.finfo(gram.dtype).tiny).sqrt()
    scaled = gram / scale / scale[:, None] + RIDGE * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    return torch.linalg.lstsq(scaled, (cross / scale)[:, None]).solution[:, 0] / scale
