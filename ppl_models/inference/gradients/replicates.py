"""Many independent estimates of one gradient, vectorised."""

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ppl_models.inference.gradients.setting import Setting, plainly
from ppl_models.program import map_draws
from ppl_models.program.estimators import Estimator
from ppl_models.program.substitution import Substitution


@dataclass(frozen=True)
class Replicates:
    """Independent estimates at the same parameters.

    Attributes:
        objectives: estimates of the expectation, or of the bound in nats, shape (estimate,).
        gradients: of it, shape (estimate, parameter).
        num_draws: draws that one estimate takes.
        seconds: of one estimate.
    """

    objectives: np.ndarray
    gradients: np.ndarray
    num_draws: int
    seconds: float


def make_replicates(
    setting: Setting, estimator: Estimator, *, num_draws: int, num_replicates: int, num_tuning: int = 0
) -> Replicates:
    """Estimate a gradient many times. Call it in the setting's world, with an estimator that serves.

    Args:
        setting: what is differentiated, and where.
        estimator: the estimator; what it learns beside is learnt by a copy of it.
        num_draws: draws of one estimate, rounded to what the estimator takes together.
        num_replicates: estimates.
        num_tuning: steps in which it learns, at fixed parameters, before the first estimate.
    """
    estimator = replace(estimator)
    guide: Any = setting.guide(estimator)
    target = setting.target
    inside = estimator.draws_inside
    used = max(estimator.fewest, num_draws // inside) * inside
    holders = setting.holders()
    flat = torch.cat([holder.detach().reshape(-1) for holder in holders.values()])
    with plainly(target):
        _tune(estimator, setting, guide, used, num_tuning)

    def loss(flat: torch.Tensor) -> torch.Tensor:
        pieces = flat.split([holder.numel() for holder in holders.values()])
        found = {id(h): one.reshape(h.shape) for h, one in zip(holders.values(), pieces, strict=True)}
        with Substitution(found):
            return estimator.combine(map_draws(lambda: estimator.particle(target, guide), used))

    def once() -> dict[str, torch.Tensor]:
        gradient, value = torch.func.grad_and_value(loss)(flat)
        return {"gradient": -gradient, "objective": -value}

    started = time.perf_counter()
    with plainly(target), torch.no_grad():
        found = map_draws(once, num_replicates, size_hint=used * setting.size_hint)
        arrays = {name: value.double().cpu().numpy() for name, value in found.items()}
    seconds = (time.perf_counter() - started) / num_replicates
    return Replicates(arrays["objective"], arrays["gradient"], used, seconds)


def _tune(estimator: Estimator, setting: Setting, guide: Any, num_draws: int, num_steps: int) -> None:
    if num_steps:
        estimator.prepare(setting.target, guide)
    if estimator.auxiliary is None:
        return
    for _ in range(num_steps):
        loss = estimator.combine(map_draws(lambda: estimator.particle(setting.target, guide), num_draws))
        loss.backward(inputs=estimator.auxiliary.tensors)
        estimator.adapt()
