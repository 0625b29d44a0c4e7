"""Which of Pyro's optimizers the engine knows, and how they read there."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from pyro.optim import PyroLRScheduler, PyroOptim
from pyro.optim.clipped_adam import ClippedAdam

from ppl_models.engine import Adam, CaptureError

KNOWN = "Adam and ClippedAdam, with schedules of the step size and clipping"


def optimizer_name(optimizer: PyroOptim | None) -> str:
    """The name of an optimizer's rule; Adam where none was given."""
    if optimizer is None:
        return "Adam"
    # Pyro's optimizers are mostly functions that make a PyroOptim of another class.
    return getattr(optimizer.pt_optim_constructor, "__name__", type(optimizer).__name__)


def as_rule(optimizer: PyroOptim) -> Adam:
    """A Pyro optimizer as the engine's rule.

    Raises:
        CaptureError: it is none that the engine knows.
    """
    if optimizer.optim_objs:
        raise CaptureError("the optimizer has made steps before; give a fresh one")
    constructor, options = optimizer.pt_optim_constructor, optimizer.pt_optim_args
    if not isinstance(options, Mapping) or not isinstance(optimizer.pt_clip_args, Mapping):
        raise CaptureError("options that differ from parameter to parameter are run by Pyro")
    clip = dict(optimizer.pt_clip_args)
    found = {**_rule(constructor, dict(options)), "clip_norm": clip.pop("clip_norm", None)}
    if (value := clip.pop("clip_value", None)) is not None:
        found["clip_gradient"] = min(value, found.get("clip_gradient") or value)
    if clip:
        raise CaptureError(f"clipping by {', '.join(clip)} is run by Pyro")
    if not isinstance(optimizer, PyroLRScheduler):
        return Adam(**found)
    if (
        found.get("decay", 1.0) != 1.0
        or optimizer.pt_scheduler_constructor is torch.optim.lr_scheduler.ReduceLROnPlateau
    ):
        raise CaptureError("a schedule that depends on the losses, or on top of lrd, is run by Pyro")
    return Adam(**found, rates=_Rates(optimizer, options))


def _rule(constructor: Any, options: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "step_size": float(options.pop("lr", 1e-3)),
        "betas": tuple(options.pop("betas", (0.9, 0.999))),
    }
    found["epsilon"] = float(options.pop("eps", 1e-8))
    found["weight_decay"] = float(options.pop("weight_decay", 0.0))
    if constructor is ClippedAdam:
        found["clip_gradient"] = float(options.pop("clip_norm", 10.0))  # Pyro's name for a bound of each element
        found["decay"] = float(options.pop("lrd", 1.0))
        found["epsilon_inside"] = True
    elif constructor is not torch.optim.Adam:
        raise CaptureError(f"{getattr(constructor, '__name__', constructor)} is run by Pyro; compiled are {KNOWN}")
    unknown = [name for name, value in options.items() if value]
    if unknown:
        raise CaptureError(f"the optimizer's option {unknown[0]} is run by Pyro")
    return found


class _Rates:
    """The step size at each step over the first one, as a torch scheduler decides it."""

    def __init__(self, optimizer: PyroLRScheduler, options: Mapping[str, Any]):
        self.first = float(options.get("lr", 1e-3))
        betas = tuple(options.get("betas", (0.9, 0.999)))
        plain = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=self.first, betas=betas)
        self.optimizer, self.scheduler = plain, optimizer.pt_scheduler_constructor(plain, **optimizer.kwargs)
        if tuple(plain.param_groups[0]["betas"]) != betas:
            raise CaptureError("a schedule of momentum is run by Pyro (cycle_momentum=False leaves it out)")
        plain.step()  # torch warns of schedulers that step before their optimizer
        self.known: list[float] = []

    def __call__(self, first: int, count: int) -> np.ndarray:
        """Factors of `count` steps, after `first` steps."""
        while len(self.known) < first + count:
            self.known.append(self.optimizer.param_groups[0]["lr"] / self.first)
            self.scheduler.step()
        return np.asarray(self.known[first : first + count])
