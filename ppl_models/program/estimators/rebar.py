"""The score function with a smooth relative of the objective as control variate."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from pyro.poutine.trace_struct import Trace

from ppl_models.errors import OptionError
from ppl_models.options import check_positive
from ppl_models.program.estimators.auxiliary import Auxiliary, first_terms
from ppl_models.program.estimators.control import (
    MOMENTS,
    added_to_gradient,
    best_coefficients,
    moments_of,
    running_loss,
)
from ppl_models.program.estimators.drawing import Guide, Target, detached, held_still
from ppl_models.program.estimators.estimator import Terms, with_gradient_of
from ppl_models.program.estimators.relaxation import Perturbed
from ppl_models.program.estimators.relaxing import Relaxing, signal_at
from ppl_models.program.estimators.signals import signal_of

DECAY = 0.99
Drawn = Mapping[str, Perturbed]
Values = dict[str, torch.Tensor]
Feature = Callable[[Values], torch.Tensor]
"""A function of the z of all sites, of shape (feature, element)."""


@dataclass(frozen=True, repr=False)
class Rebar(Relaxing):
    """E[log p(b) - log q(b)] at discrete b = hard(z), with the control variate c(z) = eta f(soft(z)) + a. Unbiased.

    With s the log density of b, z' the z given b (see `Perturbed`) and both paths to the logits l, the gradient by the
    logits is (f(b) - c(z')) ds/dl + dc(z)/dl - dc(z')/dl; from there it goes on to the parameters, beside that of f at
    the draw. Where one plate holds every site, f and c are those of the datum that a logit belongs to.

    The temperature is learnt: it lowers the mean square of the gradient by the logits in steps of its own. eta and a,
    in which the gradient is linear, are those that made its variance least over past draws.

    Args:
        temperature: to begin with.
        step_size: of what is learnt.

    Tucker, Mnih, Maddison, Lawson and Sohl-Dickstein (2017), REBAR: low-variance, unbiased gradient estimates for
    discrete latent variable models.
    """

    temperature: float = 0.5
    step_size: float = 0.02

    name: ClassVar[str] = "rebar"
    needs_reparameterised: ClassVar[bool] = False
    pathwise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive("estimator_options['temperature']", self.temperature)
        check_positive("estimator_options['step_size']", self.step_size)

    def particle(self, target: Target, guide: Guide) -> Terms:
        """The objective at a draw, what its logits add to the gradient, and the moments that coefficients come from."""
        trace, drawn = self.perturbed(target, guide)
        signal = signal_of(target, trace)
        elements = torch.cat([one.elements(signal) for one in drawn.values()])
        with detached():
            score, variates = self._variates(target, guide, held_still(trace), drawn, elements)
        plain = signal.value.detach().reshape(-1)[elements] * score
        coefficients = self._coefficients(score, drawn) if self.auxiliary is None else self.auxiliary["coefficients"]
        slopes = plain - coefficients @ variates
        logits = torch.cat([one.logits.reshape(-1) for one in drawn.values()])
        return {
            "log_ratio": signal.without_score.sum(),
            "scale": signal.scale,
            "along": (slopes.detach() * logits).sum(),
            "square": slopes.square().sum(),
            **moments_of(variates.detach(), plain),
        }

    def combine(self, terms: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Minus the mean over particles."""
        value, scale = terms["log_ratio"], terms["scale"][0]
        loss: torch.Tensor | float = 0.0
        if self.auxiliary is not None:
            loss = terms["square"].mean() / self.auxiliary.middle.clamp(min=1e-30) + running_loss(self.auxiliary, terms)
        return with_gradient_of(-scale * value.mean(), loss - scale * (value + terms["along"]).mean())

    def prepare(self, target: Target, guide: Guide) -> None:
        """The first control variate is the objective itself, at the first temperature."""
        with torch.no_grad():
            trace, drawn = self.perturbed(target, guide)
            width = sum(one.logits.numel() for one in drawn.values()) // signal_of(target, trace).value.numel()
        logits = next(iter(drawn.values())).logits.detach().reshape(-1)
        first = first_terms(lambda: self.particle(target, guide))["square"]

        learnt = Auxiliary(self._learnt(logits, width, drawn), step_size=self.step_size, decay=DECAY, first=first)
        self.learnt["auxiliary"] = learnt
        learnt.fixed["coefficients"] = self._coefficients(logits, drawn)
        terms = first_terms(lambda: self.particle(target, guide))
        learnt.track({name: terms[name].mean(dim=0) for name in MOMENTS})

    def adapt(self) -> None:
        """Learn, and take the coefficients that were best for the draws so far."""
        super().adapt()
        if self.auxiliary is not None:
            self.auxiliary.fixed["coefficients"] = best_coefficients(self.auxiliary)

    def check(self, target: Target, guide: Guide) -> None:
        """Refuse, beside what cannot be relaxed, parameters that are read past the store."""
        super().check(target, guide)
        with torch.enable_grad():
            leaks = self.auxiliary is None and self.particle(target, guide)["square"].requires_grad
        if leaks:
            raise OptionError(
                f"estimator: '{self.name}' must keep the gradient from the parameters where it learns its control "
                "variate, and one of them is read past the param store. Register it (pyro.param, pyro.module, "
                "PyroModule), or take 'score'."
            )

    def _learnt(self, like: torch.Tensor, width: int, drawn: Drawn) -> Values:
        """What Adam moves; `width` logits belong to each element."""
        return {"log_temperature": torch.full_like(like[0], math.log(self.temperature))}

    def _coefficients(self, like: torch.Tensor, drawn: Drawn) -> torch.Tensor:
        """The first coefficients: of the constant, and of the objective."""
        return torch.tensor([0.0, 1.0], dtype=like.dtype, device=like.device)

    def _features(
        self, target: Target, guide: Guide, still: Trace, drawn: Drawn, elements: torch.Tensor
    ) -> list[Feature]:
        """The control variates beside the constant."""
        learnt = self.auxiliary
        temperature = self.temperature if learnt is None else learnt["log_temperature"].exp()

        def smooth(z: Values) -> torch.Tensor:
            soft = {name: drawn[name].soft(one, temperature) for name, one in z.items()}
            return signal_at(target, guide, still, soft)[None]

        return [smooth]

    def _variates(
        self, target: Target, guide: Guide, still: Trace, drawn: Drawn, elements: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The score by the logits, and what each control variate takes from the gradient, of shape (variate, logit)."""
        logits = {name: one.logits.detach() for name, one in drawn.items()}

        def log_prob(logits: Values) -> torch.Tensor:
            return torch.stack([one.log_prob(logits[name]) for name, one in drawn.items()]).sum()

        slopes = torch.func.grad(log_prob)(logits)
        score = torch.cat([slopes[name].reshape(-1) for name in drawn])
        parts = [score[None]]
        for feature in self._features(target, guide, still, drawn, elements):
            parts.append(added_to_gradient(feature, drawn, logits, score, elements))
        return score, torch.cat(parts)
