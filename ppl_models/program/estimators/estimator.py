"""What an estimator of a variational bound and its gradient is, whatever runs it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch

from ppl_models.errors import OptionError
from ppl_models.program.estimators.drawing import Guide, Target, draw, latents_of, strata_of

Terms = dict[str, torch.Tensor]
"""What one particle contributes, by name; stacked over particles, each of shape (particle, ...)."""


@dataclass(frozen=True)
class Estimator:
    """A variational bound with one way to estimate its gradient.

    `combine(terms)` of the `particle` terms, stacked, is one scalar: its value is the negative estimate of the bound in
    nats, and its gradient by autograd the estimate of the gradient, which need not be the value's own.

    Attributes:
        name: its name in `ppl.fit`.
        needs_reparameterised: whether every site of the guide must have `rsample`.
        takes_strata: whether a guide with a method `strata` serves.
        fewest: fewest draws that one estimate takes.
    """

    name: ClassVar[str]
    needs_reparameterised: ClassVar[bool] = True
    takes_strata: ClassVar[bool] = False
    fewest: ClassVar[int] = 1

    @property
    def draws_inside(self) -> int:
        """Draws that one estimate of the bound takes together; a particle of a fit is so many draws."""
        return 1

    @property
    def options(self) -> dict[str, Any]:
        """The options, as `estimator_options` gives them."""
        return asdict(self)

    def particle(self, target: Target, guide: Guide) -> Terms:
        """The terms of one draw, in the caller's Pyro state; no axis is added to the program."""
        raise NotImplementedError

    def combine(self, terms: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The negative bound in nats of several particles, with the gradient's estimate as its gradient."""
        raise NotImplementedError

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
        if not self.needs_reparameterised:
            return
        for _, stratum in strata_of(target, guide):
            for name, node in latents_of(draw(target, stratum)).items():
                if not node["fn"].has_rsample:
                    raise OptionError(
                        f"estimator: '{self.name}' differentiates through the draws, and the guide's site '{name}' "
                        f"({type(node['fn']).__name__}) is not reparameterised. Take 'score', or a distribution with "
                        "rsample."
                    )


def with_gradient_of(value: torch.Tensor, surrogate: torch.Tensor) -> torch.Tensor:
    """A scalar with one tensor's value and another's gradient."""
    return value.detach() + (surrogate - surrogate.detach())
