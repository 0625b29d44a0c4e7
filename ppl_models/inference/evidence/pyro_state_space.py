"""Models written for Pyro's `SMCFilter`, as a particle filter moves them."""

import math
from dataclasses import dataclass
from typing import Any

import pyro
import pyro.poutine as poutine
import torch
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import prune_subsample_sites

from ppl_models.errors import ModelError
from ppl_models.inference.evidence.laws import State, call, check_inside
from ppl_models.program.nodes import nodes_of


@dataclass(frozen=True)
class PyroStateSpace:
    """A model in the protocol of `pyro.infer.SMCFilter`: it keeps what it needs of the past in a dict of tensors.

    Time 0 is the model's `init`, before any observation; each `step` is given one observation, None for a missing one.

    Args:
        model: with the methods `init(state)` and `step(state, observation)`, which write tensors of shape
            (particle, *event) to `state`.
        guide: with the same methods, which read the state and draw the model's latents; None draws from the model.
        max_plate_nesting: how many plates the model nests.
    """

    model: Any
    guide: Any = None
    max_plate_nesting: int = 0

    def begin(self, observed: torch.Tensor | None, count: int) -> tuple[State, torch.Tensor]:
        """States after `init`, and their log weights in nats, shape (particle,)."""
        assert observed is None
        return self._run("init", {}, count)

    def advance(self, time: int, state: State, observed: torch.Tensor | None) -> tuple[State, torch.Tensor]:
        """States after one more `step`, and what it adds to their log weights in nats, shape (particle,)."""
        return self._run(f"step at time {time}", state, len(next(iter(state.values()))), observed)

    def _run(self, where: str, before: State, count: int, *observed: torch.Tensor | None) -> tuple[State, torch.Tensor]:
        method, state = where.split()[0], dict(before)
        drawn = None
        with poutine.block(), pyro.plate("particles", count, dim=-1 - self.max_plate_nesting):
            model = getattr(self.model, method)
            if self.guide is not None:
                guide = poutine.trace(getattr(self.guide, method))
                drawn = prune_subsample_sites(call(f"guide's {where}", guide.get_trace, dict(before), *observed))
                model = poutine.replay(model, trace=drawn)
            trace = prune_subsample_sites(call(where, poutine.trace(model).get_trace, state, *observed))
        wrong = [name for name, value in state.items() if not _for_each(value, count)]
        if not state or wrong:
            what = f"'{wrong[0]}' is no tensor with one row for each" if wrong else "the state is empty after"
            raise ModelError(f"{where}: {what} of {count} particles. Write tensors of shape (particle, *event) to it.")
        return state, _log_weight(where, trace, drawn, count)


def _for_each(value: Any, count: int) -> bool:
    return isinstance(value, torch.Tensor) and value.dim() > 0 and len(value) == count


def _log_weight(where: str, trace: Trace, drawn: Trace | None, count: int) -> torch.Tensor:
    """Densities of what is observed, and of what a guide drew over the guide's."""
    names = {name for name, node in nodes_of(drawn).items() if node["type"] == "sample"} if drawn is not None else set()
    total = torch.zeros(count, dtype=torch.get_default_dtype())
    for name, node in nodes_of(trace).items():
        if node["type"] == "sample" and (node["is_observed"] or name in names):
            total = total + _log_prob(trace, name, count)
            if node["is_observed"]:
                check_inside(f"{where}, '{name}'", node["fn"], node["value"])
    for name in names if drawn is not None else ():
        if name not in nodes_of(trace):
            raise ModelError(f"{where}: the guide draws '{name}', and the model has no such site.")
        total = total - _log_prob(drawn, name, count)
    if (total.isnan() | (total == math.inf)).any():
        raise ModelError(f"{where}: a log density is NaN or +inf. See that parameters are finite, and scales above 0.")
    return total


def _log_prob(trace: Trace | None, name: str, count: int) -> torch.Tensor:
    assert trace is not None
    trace.compute_log_prob(lambda other, _: other == name)
    return nodes_of(trace)[name]["log_prob"].reshape(count, -1).sum(1)
