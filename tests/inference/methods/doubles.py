"""Targets in closed form, as methods see them, and the work to be done on them."""

import time
from types import SimpleNamespace

import numpy as np
import torch

from ppl_models.inference.methods import Method, Work, check_options


class Double:
    """A log density written in torch, for points of shape (point, dim), as `ppl_models.engine.Target` gives it."""

    backend = "closed form"

    def __init__(self, density, num_dims):
        self.density, self.num_dims, self.evaluations = density, num_dims, 0
        slices = {f"z{i}": (slice(i, i + 1), torch.Size([])) for i in range(num_dims)}
        self.program = SimpleNamespace(slices=slices, dtype=torch.float64)

    def __call__(self, points):
        self.evaluations += len(points)
        given = torch.tensor(points, dtype=torch.float64, requires_grad=True)
        values = self.density(given)
        (gradients,) = torch.autograd.grad(values.sum(), given)
        return values.detach().numpy(), gradients.numpy()

    def at(self, point):
        values, gradients = self(point[None])
        return float(values[0]), gradients[0]

    def hessian_products(self, points, vectors):
        self.evaluations += 2 * len(points)
        given = torch.tensor(points, dtype=torch.float64, requires_grad=True)
        (gradients,) = torch.autograd.grad(self.density(given).sum(), given, create_graph=True)
        if not gradients.requires_grad:
            return np.zeros_like(points)
        found = torch.autograd.grad(gradients, given, torch.as_tensor(np.array(vectors)), materialize_grads=True)
        return found[0].numpy()

    def hessian(self, point):
        eye = np.eye(self.num_dims)
        found = self.hessian_products(np.broadcast_to(point, eye.shape).copy(), eye)
        return 0.5 * (found + found.T)


def normal_density(mean, root):
    """Log density of N(mean, root rootᵀ), root lower triangular."""
    distribution = torch.distributions.MultivariateNormal(
        torch.as_tensor(mean), scale_tril=torch.as_tensor(root), validate_args=False
    )
    return distribution.log_prob


def work_on(target, method: Method, *, start=None, begin=None, seed=0, max_steps=None, seconds=60.0, **options):
    """Work from zero, with wide normal draws for the prior's."""
    rng = np.random.default_rng(seed + 1_000)
    return Work(
        target=target,
        start=np.zeros(target.num_dims) if start is None else np.asarray(start, dtype=float),
        begin=begin,
        prior_draw=lambda: 4.0 * rng.standard_normal(target.num_dims),
        seed=seed,
        max_steps=max_steps,
        deadline=time.perf_counter() + seconds,
        options=check_options(method, options),
        update=lambda done, text="": None,
    )


def run(target, method: Method, **given):
    """What a method finds on a target."""
    return method.run(work_on(target, method, **given))
