"""Bernoulli and categorical sites as hard functions of continuous ones, and their smooth relatives."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from pyro.distributions import OneHotCategorical
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch.distributions import Bernoulli, Categorical
from torch.distributions import OneHotCategorical as TorchOneHot

from ppl_models.program.estimators.expected import base_of
from ppl_models.program.estimators.signals import Signal

BINARY, ONE_HOT, INDEX = "binary", "one_hot", "index"
LEAST_UNIFORM = 1e-7


@dataclass(frozen=True)
class Perturbed:
    """A discrete draw as a function of its logits and of noise.

    With logits l and standard logistic (or Gumbel) noise e the draw is hard(z), z = l + e: whether z > 0, or where z is
    largest. The `given` z has the distribution of z once the draw is known.

    Attributes:
        kind: "binary", "one_hot" or "index".
        logits: as the guide gives them, with their graph; over categories, normalised.
        hard: the draw in zeros and ones, without a graph.
        uniform: what z is made of.
        given_uniform: what the given z is made of.
        inner: axes of the logits to the right of the site's batch shape.
    """

    kind: str
    logits: torch.Tensor
    hard: torch.Tensor
    uniform: torch.Tensor
    given_uniform: torch.Tensor
    inner: int

    @classmethod
    def of(cls, kind: str, site: Any) -> "Perturbed":
        """A draw of a site's distribution."""
        fn = base_of(site)
        inner = len(site.event_shape) + (kind == INDEX)
        logits = fn.logits
        shape = fn.batch_shape if kind == BINARY else (*fn.batch_shape, logits.shape[-1])
        logits = logits.expand(shape)
        uniform, again = (_uniform(shape, logits) for _ in range(2))
        drawn = cls(kind, logits, torch.zeros(()), uniform, again, inner)
        z = drawn.free(logits).detach()
        hard = (z > 0).to(z.dtype) if kind == BINARY else F.one_hot(z.argmax(-1), z.shape[-1]).to(z.dtype)
        return cls(kind, logits, hard, uniform, again, inner)

    @property
    def value(self) -> torch.Tensor:
        """The draw as its site has it."""
        return self.hard.argmax(-1) if self.kind == INDEX else self.hard

    @property
    def other(self) -> "Perturbed":
        """The same with another draw everywhere."""
        hard = 1.0 - self.hard if self.kind == BINARY else self.hard.roll(1, -1)
        return replace(self, hard=hard)

    def elements(self, signal: Signal) -> torch.Tensor:
        """Which element of a signal each logit belongs to, shape (logit,)."""
        shape = [1] * self.logits.dim()
        for axis, size in zip(signal.axes, signal.value.shape, strict=True):
            shape[axis - self.inner] = size
        place = torch.arange(signal.value.numel(), device=self.logits.device).reshape(shape)
        return place.expand(self.logits.shape).reshape(-1)

    def free(self, logits: torch.Tensor) -> torch.Tensor:
        """Z, with a path to the logits."""
        if self.kind == BINARY:
            return logits + self.uniform.logit()
        return logits.log_softmax(-1) - (-self.uniform.log()).log()

    def given(self, logits: torch.Tensor) -> torch.Tensor:
        """Z given the draw, with a path to the logits."""
        if self.kind == BINARY:
            noise = self.given_uniform.logit()
            return torch.where(
                self.hard > 0.5, F.softplus(noise + F.softplus(logits)), -F.softplus(noise + F.softplus(-logits))
            )
        exponential = -self.given_uniform.log()
        top = (self.hard * exponential).sum(-1, keepdim=True)
        rest = exponential * (-logits.log_softmax(-1)).exp() + top
        return -torch.where(self.hard > 0.5, top, rest).log()

    def log_prob(self, logits: torch.Tensor) -> torch.Tensor:
        """Log density of the draw in nats."""
        if self.kind == BINARY:
            return (self.hard * logits - F.softplus(logits)).sum()
        return (self.hard * logits.log_softmax(-1)).sum()

    def soft(self, z: torch.Tensor, temperature: torch.Tensor | float) -> torch.Tensor:
        """What tends to hard(z) as the temperature falls."""
        return (z / temperature).sigmoid() if self.kind == BINARY else (z / temperature).softmax(-1)


def _uniform(shape: Any, like: torch.Tensor) -> torch.Tensor:
    drawn = torch.rand(shape, dtype=like.dtype, device=like.device)
    return drawn.clamp(LEAST_UNIFORM, 1.0 - LEAST_UNIFORM)


class Perturb(Messenger):
    """Draw the discrete sites of a guide by `Perturbed`.

    Attributes:
        drawn: what it drew, by site.
        refused: sites without rsample that it cannot draw.
    """

    def __init__(self):
        super().__init__()
        self.drawn: dict[str, Perturbed] = {}
        self.refused: list[str] = []

    def _pyro_sample(self, msg: Any) -> None:
        if msg["is_observed"] or site_is_subsample(msg) or msg["fn"].has_rsample:
            return
        kind = kind_of(msg["fn"])
        if kind is None:
            self.refused.append(f"'{msg['name']}' ({type(base_of(msg['fn'])).__name__})")
            return
        self.drawn[msg["name"]] = drawn = Perturbed.of(kind, msg["fn"])
        msg["value"] = drawn.value


class Relaxed(Messenger):
    """Give discrete sites smooth values, in guide and model alike, and densities that are linear in them."""

    def __init__(self, values: Mapping[str, torch.Tensor]):
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] not in self.values or msg["is_observed"]:
            return
        msg["value"], msg["done"] = self.values[msg["name"]], True
        base = base_of(msg["fn"])
        if isinstance(base, TorchOneHot):
            linear: Any = _LinearOneHot(logits=base.logits, validate_args=False)
            msg["fn"] = linear.to_event(len(msg["fn"].event_shape) - 1)


class _LinearOneHot(OneHotCategorical):
    """Log density at values between the corners, linear in them."""

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        return (value * self.logits).sum(-1)


def kind_of(fn: Any) -> str | None:
    """What kind of site it is; None for one that has no relative among continuous ones."""
    base = base_of(fn)
    for kind, classes in ((BINARY, Bernoulli), (ONE_HOT, TorchOneHot), (INDEX, Categorical)):
        if isinstance(base, classes):
            return kind
    return None
