"""A backend of the tests' own in one class, and steps made by hand: what compiled steps are compared with."""

from contextlib import contextmanager

import numpy as np
import pyro
import torch

import guides as families
from ppl_models.engine import Adam, CompiledSteps, SviGraph, elbo_function
from ppl_models.program import build_program
from ppl_models.program.estimators import Total

BETAS = (0.9, 0.99)


class Plain:
    """Runs a graph by torch, operation by operation.

    Args:
        disturb: takes a step's number, counted over all runners, and its results; called behind every step.
    """

    name = "plain"

    def __init__(self, disturb=lambda step, results: None):
        self.disturb, self.num_steps, self.graphs, self.counts = disturb, 0, [], []

    def available(self):
        return None

    def is_compiled(self, graph):
        return True

    def compile(self, graph):
        self.graphs.append(graph)
        return _PlainCode(self, graph.module)


class _PlainCode:
    def __init__(self, backend, module):
        self.backend, self.module = backend, module

    def bind(self, state, fixed):
        return _PlainRunner(self.backend, self.module, state, fixed)


class _PlainRunner:
    def __init__(self, backend, module, state, fixed):
        self.backend, self.module, self.state, self.fixed = backend, module, state, fixed

    def run(self, count, streams, results, *, guard=False):
        self.backend.counts.append(count)
        for step in range(count):
            with torch.no_grad():
                found = self.module(*self.state, *(stream[step] for stream in streams), *self.fixed)
            for result, value in zip(results, found, strict=True):
                result[step] = value
            self.backend.num_steps += 1
            self.backend.disturb(self.backend.num_steps, [result[step] for result in results])
            if guard and not torch.isfinite(results[0][step]):
                return step + 1
        return count


@contextmanager
def elbo_of(model, data, guide="normal", *, particles=1, estimator=None, dtype=torch.float64):
    """The ELBO of a guide, inside its program's world."""
    program = build_program(model, data, dtype=dtype)
    with program.isolated(seed=1, full_data=False, num_threads=1):
        used = families.make(guide, program.model) if isinstance(guide, str) else guide
        used(*program.arguments.args, **program.arguments.kwargs)
        program.model(*program.arguments.args, **program.arguments.kwargs)
        yield elbo_function(program, used, estimator or Total(), particles)


def compiled(elbo, backend, optimizer=None, batches=None):
    """Steps of an ELBO on a backend, with torch's generator seeded behind all preparation."""
    optimizer = Adam(0.05, BETAS) if optimizer is None else optimizer
    steps = CompiledSteps(SviGraph(elbo, optimizer, minibatches=batches is not None), backend, batches)
    torch.manual_seed(7)
    return steps


def losses_of(steps, *counts):
    """Losses of steps made in several calls."""
    losses = []
    for count in counts:
        steps.run(np.ones(count), losses)
    return losses


def by_hand(elbo, num_steps, *, factors=None, arguments=None, noise=None):
    """The same steps by autograd and `torch.optim.Adam`: losses, and the parameters before each and at the end."""
    torch.manual_seed(7)
    noise = elbo.draw_noise(1_000) if noise is None else noise
    leaf = elbo.flat_parameters().requires_grad_(True)
    adam = torch.optim.Adam([leaf], lr=0.05, betas=BETAS)
    losses, passed = [], []
    for step in range(num_steps):
        here = elbo if arguments is None else elbo.with_arguments(arguments[step])
        adam.param_groups[0]["lr"] = 0.05 * (1.0 if factors is None else factors[step])
        adam.zero_grad()
        loss = here(leaf, *(part[step] for part in noise))
        loss.backward()
        passed.append(leaf.detach().clone())
        losses.append(loss.item())
        adam.step()
    return losses, [*passed, leaf.detach().clone()]


def delta_guide(*_args, **_kwargs):
    """A guide whose only parameter is the value of the site `w`."""
    pyro.sample("w", pyro.distributions.Delta(pyro.param("a", torch.zeros(()))))
