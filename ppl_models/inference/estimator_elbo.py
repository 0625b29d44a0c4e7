"""An estimator of `ppl_models.program.estimators` as an ELBO of Pyro's, with its draws vectorised."""

from dataclasses import replace
from typing import Any

import torch

from ppl_models.inference.vmapped_elbo import VmappedTrace_ELBO
from ppl_models.program import Program, map_draws
from ppl_models.program.data import Arguments
from ppl_models.program.elbo import Call
from ppl_models.program.estimators import Estimator
from ppl_models.program.isolation import CPU, forked_random


class EstimatorELBO(VmappedTrace_ELBO):
    """A variational bound with an estimator's gradient, for Pyro's `SVI`.

    Args:
        estimator: the bound, and the estimate of its gradient.
        program: the model with its data, where discrete sites of it are summed out; None for any other model.
        num_particles: estimates that are averaged; each takes the draws that the estimator has inside.
    """

    def __init__(self, estimator: Estimator, program: Program | None = None, *, num_particles: int = 1, **options: Any):
        super().__init__(num_particles=num_particles, **options)
        self.estimator, self.program = estimator, program
        self.prepared = False

    def loss_and_grads(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        """Negative bound in nats; its gradients are added to the parameters', and the estimator learns from its own."""
        if not self.prepared:
            self.prepared = True
            with forked_random(self.program.device if self.program is not None else CPU):
                self.estimator.prepare(self._target(model, args, kwargs), guide)
        loss = super().loss_and_grads(model, guide, *args, **kwargs)
        self.estimator.adapt()
        return loss

    def differentiable_loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Negative estimate of the bound in nats, with the estimator's graph."""
        target = self._target(model, args, kwargs)
        count = self.num_particles * self.estimator.draws_inside
        return self.estimator.combine(map_draws(lambda: self.estimator.particle(target, guide), count))

    def _target(self, model: Any, args: tuple[Any, ...], kwargs: Any) -> Program | Call:
        names = tuple(str(number) for number in range(len(args)))
        arguments = Arguments(args, kwargs, names)
        if self.program is None:
            return Call(model, arguments, torch.get_default_dtype())
        return replace(self.program, arguments=arguments)
