"""Steps of made-up targets in plain NumPy: what the loop around SVI sees, without Pyro's price of a step."""

from dataclasses import dataclass, field

import numpy as np
import pyro
import torch

from ppl_models.engine import EAGER
from ppl_models.inference.course import Plan
from ppl_models.inference.optimisation import optimise
from ppl_models.inference.steps import Steps
from ppl_models.program import isolated


@dataclass
class Quadratic:
    """0.5 Σ curvature (x - mode)² with a random slope and a random constant at each step."""

    mode: np.ndarray
    curvature: np.ndarray
    slope_sd: np.ndarray | float = 0.0
    level_sd: float = 0.0

    def losses(self, x, noise):
        away = x - self.mode
        return (
            0.5 * (self.curvature * away**2).sum()
            + (noise[:, :-1] * self.slope_sd) @ away
            + self.level_sd * noise[:, -1]
        )

    def slope(self, x, noise):
        return self.curvature * (x - self.mode) + self.slope_sd * noise[:-1]

    def gap(self, x):
        return float(0.5 * (self.curvature * (np.asarray(x) - self.mode) ** 2).sum())


@dataclass
class Maker:
    """Adam on a target; counts its steps, and lets a hook do something at one of them."""

    target: object
    start: np.ndarray
    seed: int = 0
    at_step: object = lambda count: None
    at_evaluation: object = lambda count: None
    averaged: bool = True
    failed: object = None
    count: int = 0
    evaluations: int = 0
    factors: list = field(default_factory=list)
    made: list = field(default_factory=list)

    def __post_init__(self):
        self.x = np.array(self.start, dtype=float)
        self.rng = np.random.default_rng(self.seed)
        self.units = torch.ones(len(self.x), dtype=torch.float64)
        self._forget(afresh=True)
        self._total, self._summed = np.zeros_like(self.x), 0

    def _forget(self, *, afresh):
        self.first = np.zeros_like(self.x)
        if afresh:
            self.second, self.age = np.zeros_like(self.x), 0

    def run(self, factors, losses):
        for factor in factors:
            noise = self.rng.normal(size=len(self.x) + 1)
            outcome = self.at_step(self.count)
            loss = outcome if outcome is not None else float(self.target.losses(self.x, noise[None])[0])
            losses.append(loss)
            if not np.isfinite(loss):
                return
            self.count += 1
            self.factors.append(factor)
            slope = self.target.slope(self.x, noise)
            self.age += 1
            self.first = 0.9 * self.first + 0.1 * slope
            self.second = 0.99 * self.second + 0.01 * slope**2
            step = (self.first / (1 - 0.9**self.age)) / (np.sqrt(self.second / (1 - 0.99**self.age)) + 1e-14)
            self.x = self.x - factor * self.units.numpy() * step
            self._total, self._summed = self._total + self.x, self._summed + 1

    def write(self):
        with torch.no_grad():
            pyro.get_param_store()._params["x"].copy_(torch.as_tensor(self.x))

    def position(self):
        return torch.as_tensor(self.x.copy())

    def move(self, flat, *, afresh=False):
        self.x = flat.numpy().copy()
        self._forget(afresh=afresh)
        self._total, self._summed = np.zeros_like(self.x), 0
        self.write()

    def take_mean(self):
        mean = self._total / self._summed if self._summed else self.x.copy()
        self._total, self._summed = np.zeros_like(self.x), 0
        return torch.as_tensor(mean)

    def losses_at(self, flat, num_steps, seed):
        self.evaluations += 1
        self.at_evaluation(self.evaluations)
        noise = np.random.default_rng(seed).normal(size=(num_steps, len(self.x) + 1))
        return self.target.losses(flat.numpy(), noise)

    def gradient_at(self, flat, seed):
        noise = np.random.default_rng(seed).normal(size=len(self.x) + 1)
        return torch.as_tensor(self.target.slope(flat.numpy(), noise))

    def set_units(self, units):
        self.units = units.clone()


def steps_of(maker, *, adjustable=True, backend=EAGER, coordinates=None, fault=""):
    return Steps(
        maker,
        adjustable,
        step_size=1.0,
        backend=backend,
        note="",
        elbo="",
        optimizer="",
        num_particles=1,
        coordinates=coordinates,
        look_for_fault=lambda: fault,
    )


def go(maker, evaluate=None, *, fault="", adjustable=True, coordinates=None, update=lambda *_: None, **plan):
    """Optimise; returns the trajectory and the parameters left in the param store."""
    plan = {"max_steps": 100_000, **plan}
    with isolated():
        pyro.param("x", torch.as_tensor(maker.x.copy()))
        steps = steps_of(maker, adjustable=adjustable, coordinates=coordinates, fault=fault)
        trajectory = optimise(steps, Plan(**plan), update, evaluate)
        return trajectory, pyro.param("x").detach().numpy().copy()


def throw(error):
    raise error


def at(step, outcome):
    """A hook that does something at one step, once."""
    fired = []

    def hook(count):
        if count == step and not fired:
            fired.append(True)
            return outcome()
        return None

    return hook
