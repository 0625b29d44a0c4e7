"""The path derivative of the evidence lower bound, without the score of the guide."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from ppl_models.errors import OptionError
from ppl_models.program.estimators.drawing import (
    Again,
    Guide,
    Target,
    average,
    detached,
    draw,
    frozen_log_q,
    latents_of,
    log_p,
    log_q,
    strata_of,
)
from ppl_models.program.estimators.estimator import Estimator, Terms

RELATIVE_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-2}


@dataclass(frozen=True, repr=False)
class StickingTheLanding(Estimator):
    """E[log p(z) - log q(z)], where the gradient reaches log q through the draw alone.

    The score E[d log q(z) / d parameters] is zero, so that it can be left out; what is left is zero at every draw where
    the guide is the posterior. Of a stratified guide, sum_k w_k E_k[log p - log q], the score over all strata together
    is that of the mixture, whose mean is zero likewise: log q is frozen, its own weights included, and the weights
    outside keep their gradient.

    Roeder, Wu and Duvenaud (2017), Sticking the landing: simple, lower-variance gradient estimators for variational
    inference.
    """

    name: ClassVar[str] = "sticking_the_landing"
    of_bound: ClassVar[bool] = True
    takes_strata: ClassVar[bool] = True

    def particle(self, target: Target, guide: Guide) -> Terms:
        """The log ratio of one draw of each stratum, averaged with the strata's weights."""
        ratios = []
        for number, (weight, stratum) in enumerate(strata_of(target, guide)):
            trace = draw(target, stratum)
            frozen = frozen_log_q(target, guide, trace, number if stratum is not guide else None)
            ratios.append((weight, log_p(target, trace) - frozen))
        return {"log_ratio": average(ratios)}

    def combine(self, terms: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Minus the mean over particles."""
        return -terms["log_ratio"].mean()

    def check(self, target: Target, guide: Guide) -> None:
        """Refuse a guide whose density cannot be evaluated at a draw apart from making it."""
        super().check(target, guide)
        check_frozen(self.name, target, guide)


def check_frozen(name: str, target: Target, guide: Guide) -> None:
    """Refuse a guide whose density at a given draw is not what a second run of it says.

    Raises:
        OptionError: a point mass depends on parameters beside the values drawn, and so does its density; or the second
            run gives another density.
    """
    for number, (_, stratum) in enumerate(strata_of(target, guide)):
        with torch.no_grad():
            trace = draw(target, stratum)
            once = log_q(trace)
            twice = frozen_log_q(target, guide, trace, number if stratum is not guide else None)
        if not torch.isclose(once, twice, rtol=RELATIVE_TOLERANCE[target.dtype], atol=RELATIVE_TOLERANCE[target.dtype]):
            raise OptionError(
                f"estimator: '{name}' evaluates the guide's density at a draw in a second run, which gave "
                f"{float(twice):.6g} in place of {float(once):.6g} nats: the guide draws random numbers beside its "
                "sites, or keeps state. Take 'total'."
            )
        with torch.enable_grad():
            for site, node in latents_of(draw(target, Again(trace)(stratum))).items():
                if node["value"].requires_grad and node["fn"].log_prob(node["value"]).requires_grad:
                    raise OptionError(
                        f"estimator: '{name}' needs the density of a given draw, and the guide computes site '{site}' "
                        "and its density from other sites with parameters of its own. Take 'total' or 'entropy'."
                    )
    with torch.enable_grad(), detached():
        for _, stratum in strata_of(target, guide):
            with torch.no_grad():
                trace = draw(target, stratum)
            if log_q(draw(target, Again(trace)(stratum))).requires_grad:
                raise OptionError(
                    f"estimator: '{name}' must keep the gradient from the guide's parameters, and one of them is read "
                    "past the param store. Register it (pyro.param, pyro.module, PyroModule), or take 'total'."
                )
