"""The evidence lower bound with the guide's entropy in closed form."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from pyro.distributions import Delta
from pyro.distributions.util import scale_and_mask
from pyro.poutine.util import site_is_subsample

from ppl_models.errors import OptionError
from ppl_models.program.estimators.drawing import Guide, Target, draw, latents_of, log_p
from ppl_models.program.estimators.estimator import Estimator, Terms
from ppl_models.program.nodes import nodes_of


@dataclass(frozen=True, repr=False)
class Entropy(Estimator):
    """E[log p(T(z)) + log |det dT/dz|] + H(q).

    Every site's -log q(z_i | parents) gives way to its entropy at the parents drawn, which has the same mean. Automatic
    guides draw unconstrained sites, and say in point masses what the transforms to the constrained ones stretch: those
    densities are kept.

    Kucukelbir et al. (2017), Automatic differentiation variational inference.
    """

    name: ClassVar[str] = "entropy"
    of_bound: ClassVar[bool] = True

    def particle(self, target: Target, guide: Guide) -> Terms:
        """Log p at one draw plus the entropy, in nats."""
        trace = draw(target, guide)
        total = log_p(target, trace)
        for node in nodes_of(trace).values():
            if node["type"] != "sample" or site_is_subsample(node):
                continue
            if isinstance(node["fn"], Delta):
                part = -node["fn"].log_prob(node["value"])
            else:
                part = _entropy(node).expand(node["fn"].batch_shape)
            total = total + torch.as_tensor(scale_and_mask(part, scale=node["scale"], mask=node["mask"])).sum()
        return {"log_ratio": total}

    def combine(self, terms: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Minus the mean over particles."""
        return -terms["log_ratio"].mean()

    def check(self, target: Target, guide: Guide) -> None:
        """Refuse a guide with a site whose entropy has no closed form."""
        super().check(target, guide)
        for name, node in latents_of(draw(target, guide)).items():
            if isinstance(node["fn"], Delta):
                continue
            try:
                _entropy(node)
            except NotImplementedError:
                raise OptionError(
                    f"estimator: 'entropy' needs a closed form, and the guide's site '{name}' "
                    f"({type(node['fn']).__name__}) has none. Take 'sticking_the_landing' or 'total'."
                ) from None


def _entropy(node: Any) -> torch.Tensor:
    return torch.as_tensor(node["fn"].entropy())
