"""The score function with a baseline that a small network reads off each datum."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from ppl_models.errors import OptionError
from ppl_models.options import check_count, check_positive
from ppl_models.program.estimators.auxiliary import Auxiliary, first_terms
from ppl_models.program.estimators.drawing import Guide, Target, draw
from ppl_models.program.estimators.estimator import Estimator, Terms
from ppl_models.program.estimators.network import first_weights, network
from ppl_models.program.estimators.score import by_score
from ppl_models.program.estimators.signals import signal_of


@dataclass(frozen=True, repr=False)
class Nvil(Estimator):
    """Neural variational inference and learning: `Score` with the baseline C(x) + c.

    Where one plate holds every site of model and guide, C is a network with one hidden layer that sees what is observed
    of a datum; elsewhere it is a number. c is the running mean of what C leaves. Both depend on past draws alone, so
    that the gradient is unbiased.

    Args:
        num_hidden: units of the hidden layer.
        step_size: of the network's Adam.
        normalise: divide the signal by its running sd where that is above 1, as the paper does. It keeps the size of
            the score's part of the gradient in bounds, and so it is no longer the gradient's: such an estimate is
            biased.

    Mnih and Gregor (2014), Neural variational inference and learning in belief networks.
    """

    num_hidden: int = 32
    step_size: float = 0.01
    normalise: bool = False

    name: ClassVar[str] = "nvil"
    needs_reparameterised: ClassVar[bool] = False
    pathwise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_count("estimator_options['num_hidden']", self.num_hidden)
        check_positive("estimator_options['step_size']", self.step_size)
        if not isinstance(self.normalise, bool):
            raise OptionError(f"estimator_options['normalise']: found {self.normalise!r}, wanted True or False.")

    @property
    def biased(self) -> bool:
        """Whether the signal is divided by its sd."""
        return self.normalise

    def particle(self, target: Target, guide: Guide) -> Terms:
        """The log ratio and the score's log density in nats, and what is observed of each datum."""
        signal = signal_of(target, draw(target, guide), with_inputs=True)
        found = {"log_ratio": signal.without_score, "log_score": signal.score, "scale": signal.scale}
        return found if signal.inputs is None else {**found, "inputs": signal.inputs}

    def combine(self, terms: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Minus the mean over particles."""
        learnt, ratio = self.auxiliary, terms["log_ratio"].detach()
        if learnt is None:
            return by_score(terms, ratio)
        scaled = learnt.scaled(ratio)
        read = learnt["bias"]
        if "inputs" in terms:
            read = read + network(learnt, (terms["inputs"] - learnt["place"]) / learnt["spread"])
        left = (scaled - read).detach()
        centred = left - learnt["centre"].detach()
        loss = 0.5 * (scaled - learnt["centre"].detach() - read).square().mean()
        loss = loss + 0.5 * (learnt["centre"] - left.mean()).square()
        loss = loss + 0.5 * (learnt["variance"] - centred.square().mean()).square()
        advantage = learnt.spread * centred
        if self.normalise:
            advantage = advantage / (learnt.spread * learnt["variance"].detach().clamp(min=0.0).sqrt()).clamp(min=1.0)
        return by_score(terms, advantage, loss)

    def prepare(self, target: Target, guide: Guide) -> None:
        """The network starts at zero, in the units of a few draws' signals."""
        terms = first_terms(lambda: self.particle(target, guide))
        first = terms["log_ratio"]
        zero = torch.zeros_like(first.mean())
        learnt, fixed = {"bias": zero}, {}
        if "inputs" in terms:
            flat = terms["inputs"].flatten(0, -2)
            spread = flat.std(dim=0, correction=0)
            learnt |= first_weights(flat.shape[-1], self.num_hidden, zero)
            fixed = {"place": flat.mean(dim=0), "spread": torch.where(spread > 0.0, spread, 1.0)}
        running = {"centre": zero, "variance": zero + 1.0}
        self.learnt["auxiliary"] = Auxiliary(learnt, running, step_size=self.step_size, fixed=fixed, first=first)
