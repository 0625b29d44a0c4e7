"""The score function with a baseline, for guides with sites that have no reparameterised draw."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from ppl_models.options import check_choice
from ppl_models.program.estimators.auxiliary import Auxiliary, first_terms
from ppl_models.program.estimators.drawing import Guide, Target, draw
from ppl_models.program.estimators.estimator import Estimator, Terms, with_gradient_of
from ppl_models.program.estimators.signals import signal_of

LEAVE_ONE_OUT, NONE, RUNNING, LEARNED = "leave_one_out", "none", "running", "learned"
STEP_SIZE = 0.05


@dataclass(frozen=True, repr=False)
class Score(Estimator):
    """E[log p(z) - log q(z)], by the score of the sites without `rsample` and by the path of the others.

    With f the log ratio, s the log density of the sites without `rsample` at their parents' draws and b a baseline, the
    gradient is E[df + (f - b) ds], where df goes through the reparameterised draws, and so does ds where such a draw is
    a parent. Where one plate holds every site, each datum has a signal f of its own. Of a free expectation f is the
    function, and s the log density of all that is drawn.

    Args:
        baseline: "leave_one_out": the mean of the other particles' f, which depends on none of its own draws. "none".
            "running": the mean f of past steps, the last tenth of its weight on the last step. "learned": a number that
            Adam moves towards f, (f - b)^2, in steps of its own. Both depend on past draws alone.

    Williams (1992), Simple statistical gradient-following algorithms for connectionist reinforcement learning; Mnih and
    Rezende (2016), Variational inference for Monte Carlo objectives; Kool, van Hoof and Welling (2019), Buy 4 REINFORCE
    samples, get a baseline for free.
    """

    baseline: str = LEAVE_ONE_OUT

    name: ClassVar[str] = "score"
    needs_reparameterised: ClassVar[bool] = False
    pathwise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_choice("estimator_options['baseline']", self.baseline, (LEAVE_ONE_OUT, NONE, RUNNING, LEARNED))

    @property
    def fewest(self) -> int:
        """Two, where each is compared with the others."""
        return 2 if self.baseline == LEAVE_ONE_OUT else 1

    def particle(self, target: Target, guide: Guide) -> Terms:
        """The log ratio, and the log density of the sites that are not reparameterised, in nats."""
        signal = signal_of(target, draw(target, guide))
        return {"log_ratio": signal.without_score, "log_score": signal.score, "scale": signal.scale}

    def combine(self, terms: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Minus the mean over particles."""
        ratio = terms["log_ratio"]
        if self.baseline == LEAVE_ONE_OUT:
            advantage = (ratio - ratio.mean(dim=0)).detach() * (len(ratio) / max(len(ratio) - 1, 1))
            return by_score(terms, advantage)
        if self.baseline == NONE or self.auxiliary is None:
            return by_score(terms, ratio.detach())
        place, scaled = self.auxiliary["baseline"], self.auxiliary.scaled(ratio.detach())
        loss = 0.5 * (place - scaled).square().mean()
        return by_score(terms, self.auxiliary.spread * (scaled - place.detach()), loss)

    def prepare(self, target: Target, guide: Guide) -> None:
        """The baseline starts at the mean of a few draws."""
        if self.baseline in (LEAVE_ONE_OUT, NONE):
            return
        first = first_terms(lambda: self.particle(target, guide))["log_ratio"]
        start = {"baseline": torch.zeros_like(first.mean())}
        learnt, running = ({}, start) if self.baseline == RUNNING else (start, {})
        self.learnt["auxiliary"] = Auxiliary(learnt, running, step_size=STEP_SIZE, first=first)


def by_score(
    terms: Mapping[str, torch.Tensor], advantage: torch.Tensor, loss: torch.Tensor | float = 0.0
) -> torch.Tensor:
    """Minus the mean over particles of f, with the gradient of f + advantage * score.

    Args:
        terms: "log_ratio" f and "log_score", of shape (particle, ...), and "scale".
        advantage: f less its baseline, without a graph.
        loss: what an estimator learns by beside; it adds its gradient, and nothing to the value.
    """
    ratio, scale = terms["log_ratio"], terms["scale"][0]
    value = (scale * ratio).sum() / len(ratio)
    surrogate = (scale * (ratio + advantage * terms["log_score"])).sum() / len(ratio)
    return with_gradient_of(-value, loss - surrogate)
