"""What the estimators that relax discrete sites have in common: the objective between the values, and its checks."""

from collections.abc import Mapping

import torch
from pyro.poutine.trace_struct import Trace

from ppl_models.errors import OptionError, first_line
from ppl_models.program.batching import NOT_VECTORISABLE
from ppl_models.program.estimators.drawing import Again, Guide, Target, draw, latents_of, objective
from ppl_models.program.estimators.estimator import Estimator
from ppl_models.program.estimators.relaxation import INDEX, Perturb, Perturbed, Relaxed
from ppl_models.program.estimators.signals import signal_of

RELATIVE_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-4}


class Relaxing(Estimator):
    """An estimator of guides whose discrete sites are relaxed; each is Bernoulli or (one-hot) categorical.

    Other sites of the guide need `rsample`, and must not depend on a discrete one; nor may discrete ones depend on each
    other.
    """

    def perturbed(self, target: Target, guide: Guide) -> tuple[Trace, dict[str, Perturbed]]:
        """One draw of the guide, and its discrete sites by name.

        Raises:
            OptionError: a site without rsample is neither Bernoulli nor categorical.
        """
        with Perturb() as perturb:
            trace = draw(target, guide)
        if perturb.refused:
            raise OptionError(
                f"estimator: '{self.name}' relaxes Bernoulli and categorical sites, and the guide's site "
                f"{perturb.refused[0]} is neither. Take 'score' or 'nvil'."
            )
        return trace, perturb.drawn

    def check(self, target: Target, guide: Guide) -> None:
        """Refuse a guide without discrete sites, or with such as depend on each other, and a model that wants whole.

        Raises:
            OptionError: the message names the site and an estimator that serves.
        """
        super().check(target, guide)
        with torch.no_grad():
            trace, drawn = self.perturbed(target, guide)
            if not drawn:
                raise OptionError(
                    f"estimator: '{self.name}' relaxes discrete sites, and there are none. Take 'reparameterised', or "
                    "'total' in a fit."
                )
            self._check_apart(target, guide, trace, drawn)
            self._check_smooth(target, guide, trace, drawn)

    def _check_apart(self, target: Target, guide: Guide, trace: Trace, drawn: Mapping[str, Perturbed]) -> None:
        others = {name: one.other.value for name, one in drawn.items()}
        with Relaxed(others):
            flipped = latents_of(draw(target, Again(trace)(guide)))
        tolerance = RELATIVE_TOLERANCE[target.dtype]
        for name, node in latents_of(trace).items():
            value = others.get(name, node["value"])
            once, twice = node["fn"].log_prob(value), flipped[name]["fn"].log_prob(value)
            same_value = name in drawn or torch.equal(node["value"], flipped[name]["value"])
            if not same_value or not torch.allclose(once, twice, rtol=tolerance, atol=tolerance):
                raise OptionError(
                    f"estimator: '{self.name}' relaxes discrete sites that no other site of the guide depends on, and "
                    f"'{name}' does. Take 'score' or 'nvil'."
                )

    def _check_smooth(self, target: Target, guide: Guide, trace: Trace, drawn: Mapping[str, Perturbed]) -> None:
        for name, one in drawn.items():
            if one.kind == INDEX:
                raise OptionError(
                    f"estimator: '{self.name}' looks between the values, and those of the guide's site '{name}' "
                    "(Categorical) are indices. Take OneHotCategorical in model and guide, or 'relax' or 'score'."
                )
        middle = {name: one.soft(one.free(one.logits), 1.0) for name, one in drawn.items()}
        try:
            objective_at(target, guide, trace, middle)
        except NOT_VECTORISABLE as error:
            raise OptionError(
                f"estimator: '{self.name}' looks between the values of {', '.join(drawn)}, and there the model fails "
                f"({type(error).__name__}: {first_line(error)}). Take 'score' or 'nvil'."
            ) from error


def objective_at(target: Target, guide: Guide, trace: Trace, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The objective at other values of discrete sites, smooth ones too; the guide's other sites stay as drawn."""
    with Relaxed(values):
        return objective(target, draw(target, Again(trace)(guide)))


def signal_at(target: Target, guide: Guide, trace: Trace, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The same for each element of the plates that hold every site, shape (element,); see `Signal`."""
    with Relaxed(values):
        return signal_of(target, draw(target, Again(trace)(guide))).value.reshape(-1)
