"""The score function with a learnt network as control variate."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from pyro.poutine.trace_struct import Trace

from ppl_models.options import check_count
from ppl_models.program.estimators.drawing import Guide, Target
from ppl_models.program.estimators.network import first_weights, hidden_units
from ppl_models.program.estimators.rebar import Drawn, Feature, Rebar, Values
from ppl_models.program.estimators.relaxation import INDEX, Perturbed


@dataclass(frozen=True, repr=False)
class Relax(Rebar):
    """`Rebar` with c(z) = eta f(soft(z)) + r(z), r a network with one hidden layer that sees the z of all sites.

    Where one plate holds every site, it sees those of one datum. Where a discrete site is a Categorical, whose values
    the objective cannot be looked at between, c is r alone. The weights into the hidden layer are learnt as the
    temperature is, those out of it with eta.

    Args:
        temperature: to begin with.
        step_size: of what is learnt.
        num_hidden: units of the hidden layer.

    Grathwohl, Choi, Wu, Roeder and Duvenaud (2018), Backpropagation through the void: optimizing control variates for
    black-box gradient estimation.
    """

    num_hidden: int = 10

    name: ClassVar[str] = "relax"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("estimator_options['num_hidden']", self.num_hidden)

    def _learnt(self, like: torch.Tensor, width: int, drawn: Drawn) -> Values:
        weights = first_weights(width, self.num_hidden, like)
        del weights["out"]
        return weights if _has_index(drawn) else {**super()._learnt(like, width, drawn), **weights}

    def _coefficients(self, like: torch.Tensor, drawn: Drawn) -> torch.Tensor:
        smooth = like.new_zeros(1) if _has_index(drawn) else super()._coefficients(like, drawn)
        hidden = 0 if self.auxiliary is None else self.num_hidden
        return torch.cat([smooth, like.new_zeros(hidden)])

    def _features(
        self, target: Target, guide: Guide, still: Trace, drawn: Drawn, elements: torch.Tensor
    ) -> list[Feature]:
        found = [] if _has_index(drawn) else super()._features(target, guide, still, drawn, elements)
        learnt = self.auxiliary
        if learnt is None:
            return found
        width = len(learnt["into"])
        order = elements.argsort(stable=True)

        def hidden(z: Values) -> torch.Tensor:
            flat = torch.cat([one.reshape(-1) for one in z.values()])
            return hidden_units(learnt, flat[order].reshape(-1, width)).mT

        return [*found, hidden]

    def _check_smooth(self, target: Target, guide: Guide, trace: Trace, drawn: Mapping[str, Perturbed]) -> None:
        if not _has_index(drawn):
            super()._check_smooth(target, guide, trace, drawn)


def _has_index(drawn: Drawn) -> bool:
    return any(one.kind == INDEX for one in drawn.values())
