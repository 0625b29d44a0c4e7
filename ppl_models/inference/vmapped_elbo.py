"""`Trace_ELBO` with particles vectorised by `torch.func.vmap`, for models that a particle plate does not suit."""

from typing import Any

import pyro.poutine as poutine
import torch
from pyro.infer import Trace_ELBO

from ppl_models.program import map_draws
from ppl_models.program.elbo import log_ratio
from ppl_models.program.nodes import nodes_of


class VmappedTrace_ELBO(Trace_ELBO):  # noqa: N801 (named like Pyro's)
    """The evidence lower bound of several particles, each seeing the model as if it were alone.

    Works where every site of the guide is reparameterised: the gradient is that of the particles' mean log ratio
    (Kingma and Welling 2014), as in `Trace_ELBO`.
    """

    def loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        """Negative ELBO estimate in nats."""
        with torch.no_grad():
            return float(self.differentiable_loss(model, guide, *args, **kwargs))

    def loss_and_grads(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        """Negative ELBO estimate in nats; its gradients are added to those of the parameters."""
        with poutine.trace(param_only=True) as capture:
            loss = self.differentiable_loss(model, guide, *args, **kwargs)
        learnt = nodes_of(capture.trace).values()
        if loss.requires_grad and any(node["value"].unconstrained().requires_grad for node in learnt):
            loss.backward()
        return float(loss.detach())

    def differentiable_loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Negative ELBO estimate in nats, with its graph."""
        return -map_draws(lambda: log_ratio(model, guide, args, kwargs), self.num_particles).mean()
