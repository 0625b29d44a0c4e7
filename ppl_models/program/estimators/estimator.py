"""What an estimator of a variational bound and its gradient is, whatever runs it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch

from ppl_models.errors import OptionError
from ppl_models.program.estimators.auxiliary import Auxiliary
from ppl_models.program.estimators.drawing import Guide, Target, draw, latents_of, strata_of
from ppl_models.program.estimators.expected import SITE, Expected, base_of
from ppl_models.program.nodes import nodes_of

Terms = dict[str, torch.Tensor]
"""What one particle contributes, by name; stacked over particles, each of shape (particle, ...)."""


@dataclass(frozen=True, repr=False)
class Estimator:
    """A variational bound, or a free expectation, with one way to estimate its gradient.

    `combine(terms)` of the `particle` terms, stacked, is one scalar: its value is the negative estimate of the bound in
    nats, and its gradient by autograd the estimate of the gradient, which need not be the value's own.

    Attributes:
        name: its name in `ppl.fit`.
        needs_reparameterised: whether every site of the guide must have `rsample`.
        takes_strata: whether a guide with a method `strata` serves.
        pathwise: whether the draws of a free expectation keep their path, where the distribution has one.
        of_bound: whether it is made for log p - log q alone, so that a plain function has none.
        learnt: what it learns beside the guide, under "auxiliary", once it is prepared.
    """

    learnt: dict[str, Auxiliary] = field(default_factory=dict, init=False, compare=False)

    name: ClassVar[str]
    needs_reparameterised: ClassVar[bool] = True
    takes_strata: ClassVar[bool] = False
    pathwise: ClassVar[bool] = True
    of_bound: ClassVar[bool] = False

    @property
    def fewest(self) -> int:
        """Fewest draws that one estimate takes."""
        return 1

    @property
    def biased(self) -> bool:
        """Whether the mean of its gradients differs from the gradient of what it estimates."""
        return False

    @property
    def draws_inside(self) -> int:
        """Draws that one estimate of the bound takes together; a particle of a fit is so many draws."""
        return 1

    @property
    def options(self) -> dict[str, Any]:
        """The options, as `estimator_options` gives them."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.init}

    @property
    def auxiliary(self) -> Auxiliary | None:
        """What it learns beside the guide; None before it is prepared, and where there is nothing."""
        return self.learnt.get("auxiliary")

    def __repr__(self) -> str:
        changed = [
            f"{one.name}={value!r}"
            for one in fields(self)
            if one.init and one.repr and (value := getattr(self, one.name)) != one.default
        ]
        label = self.name + (f" ({', '.join(changed)})" if changed else "")
        return f"{label} [biased]" if self.biased else label

    def particle(self, target: Target, guide: Guide) -> Terms:
        """The terms of one draw, in the caller's Pyro state; no axis is added to the program."""
        raise NotImplementedError

    def combine(self, terms: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The negative bound in nats of several particles, with the gradient's estimate as its gradient."""
        raise NotImplementedError

    def prepare(self, target: Target, guide: Guide) -> None:
        """Make what it learns beside the guide, from a few draws; nothing by default. The parameters are in the store.

        Without it an estimate takes a baseline of zero, and untuned control variates.
        """

    def adapt(self) -> None:
        """Learn from the backward pass of one estimate what makes later ones less noisy."""
        if self.auxiliary is not None:
            self.auxiliary.step()

    def check(self, target: Target, guide: Guide) -> None:
        """Refuse a guide that this estimator is wrong for. The parameters are in the store; it draws random numbers.

        Raises:
            OptionError: the message names the site, and an estimator that serves.
        """
        if not self.takes_strata and callable(getattr(guide, "strata", None)):
            raise OptionError(
                f"estimator: '{self.name}' has no stratified form, and the guide draws its strata apart. Take 'total' "
                "or 'sticking_the_landing'."
            )
        free = isinstance(target, Expected)
        if free and self.of_bound and not target.log_density:
            raise OptionError(
                f"estimator: '{self.name}' is made for bounds, of log p - log q, and f is a function of a draw alone. "
                "Say log_density=True if f is a log joint density; else take 'reparameterised' or 'score'."
            )
        if not (self.needs_reparameterised or (free and self.pathwise)):
            return
        for _, stratum in strata_of(target, guide):
            for name, node in latents_of(draw(target, stratum)).items():
                if not node["fn"].has_rsample:
                    raise OptionError(
                        f"estimator: '{self.name}' differentiates through the draws, and the guide's site '{name}' "
                        f"({type(base_of(node['fn'])).__name__}) is not reparameterised. Take 'score', or a "
                        "distribution with rsample; for few discrete values 'enumeration' is exact."
                    )
        if free:
            self._check_path(target, guide)

    def _check_path(self, target: Expected, guide: Guide) -> None:
        with torch.enable_grad():
            drawn = nodes_of(draw(target, guide))[SITE]["value"]
            if drawn.requires_grad and not target.value(drawn).requires_grad:
                raise OptionError(
                    f"estimator: '{self.name}' differentiates f, and f's value has no path to the draw: it is a step, "
                    "or its numbers left torch. Take 'score'."
                )


def with_gradient_of(value: torch.Tensor, surrogate: torch.Tensor) -> torch.Tensor:
    """A scalar with one tensor's value and another's gradient."""
    return value.detach() + (surrogate - surrogate.detach())
