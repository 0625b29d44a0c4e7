"""The evidence lower bound with the divergence weighted: beta-VAE, free bits, and a warm-up of the divergence."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from ppl_models.errors import OptionError
from ppl_models.options import check_positive
from ppl_models.program.estimators.drawing import Guide, Target, is_enumerated
from ppl_models.program.estimators.estimator import Estimator, Terms
from ppl_models.program.estimators.expected import Expected
from ppl_models.program.estimators.parts import parts_of


@dataclass(frozen=True, repr=False)
class WeightedKl(Estimator):
    """E[log p(x | z)] - weight * beta * sum_j max(free_bits, KL_j) - KL of what all data share.

    KL_j is the divergence of one unit of the local latents, its mean over the rows of the batch; in closed form where
    there is one. It is the ELBO at beta = 1 without free bits; otherwise it is no bound on the evidence (a lower one
    still for beta > 1). The weight is that of a warm-up; the fit moves it from 0 to 1.

    Args:
        beta: weight of the divergence.
        free_bits: nats of divergence of each unit that cost nothing to use.
        plate: over the rows, whose latents are local; None takes the plates that hold all observations and a latent.

    Higgins et al. (2017), beta-VAE: learning basic visual concepts with a constrained variational framework. Kingma et
    al. (2016), Improved variational inference with inverse autoregressive flow, for free bits. Bowman et al. (2016),
    Generating sentences from a continuous space, and Sønderby et al. (2016), Ladder variational autoencoders, for the
    warm-up.
    """

    beta: float = 1.0
    free_bits: float = 0.0
    plate: str | None = field(default=None, repr=False)
    held: dict[str, torch.Tensor] = field(default_factory=dict, init=False, compare=False)

    name: ClassVar[str] = "weighted_kl"
    of_bound: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)
        if (
            isinstance(self.free_bits, bool)
            or not isinstance(self.free_bits, (int, float))
            or not self.free_bits >= 0.0
        ):
            raise OptionError(f"free_bits: found {self.free_bits!r}, wanted nats per latent unit, at least 0.")

    @property
    def is_elbo(self) -> bool:
        """Whether it is the ELBO, once a warm-up is over."""
        return self.beta == 1.0 and self.free_bits == 0.0

    @property
    def weights(self) -> str:
        """The weights, for people: `beta = 4, free bits = 0.5`."""
        named = (("beta", self.beta, 1.0), ("free bits", self.free_bits, 0.0))
        return ", ".join(f"{name} = {value:g}" for name, value, plain in named if value != plain)

    def particle(self, target: Target, guide: Guide) -> Terms:
        """Reconstruction less what is shared, and the divergence of each unit, of one draw in nats."""
        parts = parts_of(target, guide, self.plate)
        return {
            "fixed": parts.reconstruction - parts.others,
            "divergence": parts.divergence,
            "rows": parts.rows,
        }

    def combine(self, terms: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Minus the objective, the mean over particles."""
        divergence = terms["divergence"].mean(dim=0)
        if self.free_bits:
            divergence = torch.maximum(divergence, self.free_bits * terms["rows"][0])
        weight = self.held.get("weight", 1.0)
        return weight * (self.beta * divergence.sum()) - terms["fixed"].mean()

    def check(self, target: Target, guide: Guide) -> None:
        """Refuse a guide that is not reparameterised, and a model without latents."""
        super().check(target, guide)
        if isinstance(target, Expected) or is_enumerated(target):
            what = (
                "a free expectation has no divergence"
                if isinstance(target, Expected)
                else "discrete sites are summed out"
            )
            raise OptionError(f"estimator: '{self.name}' weights the divergence of latents, and {what}. Take 'total'.")
        with torch.no_grad():
            found = parts_of(target, guide, self.plate)
        if not len(found.divergence):
            raise OptionError(
                "beta, free_bits, warmup_epochs: no latent stands in the plate of the observations, so there is no "
                "divergence to weight. Put the latents of a row into the plate over the rows, or leave these out."
            )
        self.held.setdefault("weight", torch.ones_like(found.divergence[0]))

    def set_weight(self, weight: float) -> None:
        """Move the weight of the divergence, in place: compiled steps read it where it stands."""
        if "weight" in self.held:
            self.held["weight"].fill_(weight)
