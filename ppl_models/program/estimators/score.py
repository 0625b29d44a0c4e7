"""The score function with a leave-one-out baseline, for guides with sites that have no reparameterised draw."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from ppl_models.program.estimators.drawing import Guide, Target, draw, latents_of, log_p, log_q
from ppl_models.program.estimators.estimator import Estimator, Terms, with_gradient_of


@dataclass(frozen=True)
class Score(Estimator):
    """E[log p(z) - log q(z)], by the score of the sites without `rsample` and by the path of the others.

    With f the log ratio and s the log density of the sites without `rsample` at their parents' draws, the gradient is
    E[df + f ds], where df goes through the reparameterised draws, and so does ds where such a draw is a parent. Each
    particle's f is compared with the mean of the others', which depends on none of its draws.

    Mnih and Rezende (2016), Variational inference for Monte Carlo objectives; Kool, van Hoof and Welling (2019), Buy 4
    REINFORCE samples, get a baseline for free.
    """

    name: ClassVar[str] = "score"
    needs_reparameterised: ClassVar[bool] = False
    fewest: ClassVar[int] = 2

    def particle(self, target: Target, guide: Guide) -> Terms:
        """The log ratio, and the log density of the sites that are not reparameterised, in nats."""
        trace = draw(target, guide)
        ratio = log_p(target, trace) - log_q(trace)
        blocked = {name for name, node in latents_of(trace).items() if not node["fn"].has_rsample}
        score = torch.as_tensor(trace.log_prob_sum(lambda name, _: name in blocked), dtype=ratio.dtype)
        return {"log_ratio": ratio, "log_score": score}

    def combine(self, terms: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Minus the mean over particles."""
        ratio, score = terms["log_ratio"], terms["log_score"]
        advantage = (ratio - ratio.mean()).detach() * (len(ratio) / max(len(ratio) - 1, 1))
        return with_gradient_of(-ratio.mean(), -(ratio + advantage * score).mean())
