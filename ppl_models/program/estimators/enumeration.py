"""The exact sum over the discrete sites of a guide."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.trace_struct import Trace

from ppl_models.errors import OptionError
from ppl_models.options import check_count
from ppl_models.program.batching import map_draws
from ppl_models.program.estimators.drawing import (
    Guide,
    Target,
    draw,
    is_enumerated,
    model_trace,
)
from ppl_models.program.estimators.estimator import Estimator, Terms
from ppl_models.program.estimators.expected import Expected, base_of
from ppl_models.program.estimators.signals import score_sites, shared_axes, signal_of
from ppl_models.program.nodes import nodes_of


@dataclass(frozen=True, repr=False)
class Enumeration(Estimator):
    """Sum_b q(b) (log p(b) - log q(b)) over all values b of the discrete sites, differentiated as it stands.

    Without noise where the guide draws nothing else; other sites are drawn once for each b, and need `rsample`. Where
    one plate holds every site, each datum's own values are summed, so that the number of runs does not grow with the
    data.

    Args:
        most: most joint values of the sites; beyond, the guide is refused.
    """

    most: int = 4_096

    name: ClassVar[str] = "enumeration"
    needs_reparameterised: ClassVar[bool] = False
    pathwise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_count("estimator_options['most']", self.most)

    def particle(self, target: Target, guide: Guide) -> Terms:
        """The sum, with one draw of the other sites for each value."""
        values, count = self._values(target, draw(target, guide))
        found = map_draws(lambda one: _weighted(target, guide, one), count, values)
        total = (found["probability"] * found["value"]).sum(dim=0)
        return {"log_ratio": (found["scale"][0] * total).sum()}

    def combine(self, terms: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Minus the mean over particles."""
        return -terms["log_ratio"].mean()

    def check(self, target: Target, guide: Guide) -> None:
        """Refuse a guide without discrete sites, or with too many values, or with draws that have no density's path."""
        super().check(target, guide)
        with torch.no_grad():
            self._values(target, draw(target, guide))

    def _values(self, target: Target, trace: Trace) -> tuple[dict[str, torch.Tensor], int]:
        """All joint values of the discrete sites, each of shape (value, *site), and their number."""
        names = sorted(score_sites(trace))
        if not names:
            raise OptionError(f"estimator: '{self.name}' sums over discrete sites, and there are none. Take 'total'.")
        for name in names:
            if not (nodes_of(trace)[name]["mask"] is None or nodes_of(trace)[name]["mask"] is True):
                raise OptionError(f"estimator: 'enumeration' has no masked form, and site '{name}' is. Take 'score'.")
        axes = None
        if not isinstance(target, Expected) and not is_enumerated(target):
            axes = shared_axes(trace, model_trace(target, trace))
        atoms = [_atoms(name, nodes_of(trace)[name]["fn"], axes or []) for name in names]
        sizes = [len(values) for values, shape, _ in atoms for _ in range(shape.numel())]
        if sum(math.log(size) for size in sizes) > math.log(self.most) + 1e-9:
            raise OptionError(
                f"estimator: 'enumeration' sums over at most {self.most:,} joint values, and the guide's sites "
                f"{', '.join(names)} have more. Take 'score', 'nvil' or 'relax', or raise most."
            )
        count = math.prod(sizes)
        found, rest = {}, torch.arange(count, device=atoms[0][0].device)
        for name, (values, shape, whole) in zip(names, atoms, strict=True):
            digits = []
            for _ in range(shape.numel()):
                digits.append(rest % len(values))
                rest = rest // len(values)
            chosen = values[torch.stack(digits, dim=1).reshape(count, *shape)]
            found[name] = chosen.expand(count, *whole)
        return found, count


def _atoms(name: str, fn: Any, axes: list[int]) -> tuple[torch.Tensor, torch.Size, torch.Size]:
    """The values of one element, the shape of those that differ within a datum, and the shape of a draw."""
    base: Any = base_of(fn)
    try:
        values = base.enumerate_support(expand=False)
    except NotImplementedError:
        raise OptionError(
            f"estimator: 'enumeration' needs finitely many values, and the guide's site '{name}' "
            f"({type(base).__name__}) has no list of them. Take 'score' or 'nvil'."
        ) from None
    batch, event = base.batch_shape, base.event_shape
    inner = len(fn.event_shape) - len(event)
    shared = {len(batch) + axis - inner for axis in axes}
    own = torch.Size(1 if number in shared else size for number, size in enumerate(batch))
    return values.reshape(len(values), *event), own, batch + event


class _Given(Messenger):
    """Give sites these values."""

    def __init__(self, values: Mapping[str, torch.Tensor]):
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.values and not msg["is_observed"]:
            msg["value"] = self.values[msg["name"]]


def _weighted(target: Target, guide: Callable[..., Any], values: Mapping[str, torch.Tensor]) -> Terms:
    with _Given(values):
        trace = draw(target, guide)
    signal = signal_of(target, trace)
    return {"value": signal.value, "probability": signal.score.exp(), "scale": signal.scale}
