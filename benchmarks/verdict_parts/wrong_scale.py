"""A fit to a model whose likelihood has a wrong scale, as a wrong minibatch scale gives it, seen from the right one."""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pyro.poutine.messenger import Messenger

from ppl_models.inference import Fit
from ppl_models.program import Program, build_program

PRIOR = "prior"


class ScaledLikelihood(Messenger):
    """Scale the log density of what is observed, and not that of factors which are named as parts of the prior.

    Args:
        factor: of the log densities.
    """

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def _pyro_sample(self, msg: Any) -> None:
        if msg["is_observed"] and not msg["name"].startswith(PRIOR):
            msg["scale"] = self.factor * msg["scale"]


def wrongly_scaled(model: Callable[..., Any], factor: float) -> Callable[..., Any]:
    """The model with its likelihood scaled."""

    @functools.wraps(model)
    def scaled(*args: Any, **kwargs: Any) -> Any:
        with ScaledLikelihood(factor):
            return model(*args, **kwargs)

    return scaled


def seen_from(fit: Fit, model: Callable[..., Any], data: Any) -> Fit:
    """The fit as one to another model of the same latents: its guide stays, its draws get that model's density."""
    program: Program = build_program(model, data, dtype=fit.program.dtype, parameters=fit.program.parameters)
    return replace(fit, program=program)
