"""What a guide learns of its model by running it: which elements its plates hold at a call, and its supports.

Pyro's autoguides make plates of their own, with indices of their own. Where the model computes a plate's indices from
its arguments, `pyro.plate("rows", N, subsample=indices)`, the guide's then overrule the model's, silently, and latents
and data of different rows meet (pyro issue 3468). Here the model is asked.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch.distributions import biject_to
from torch.distributions.constraints import Constraint

from guides.enumeration import is_enumerated


@dataclass(frozen=True)
class Elements:
    """The elements of a plate that the model asks for.

    Attributes:
        size: full size of the plate.
        subsample_size: how many of them; fewer than `size` where Pyro draws them.
        indices: the ones that the model names itself, shape (element,); None where it names none.
    """

    size: int
    subsample_size: int
    indices: torch.Tensor | None = None

    def plate(self, name: str, dim: int) -> pyro.plate:
        """A plate that holds them. One whose indices Pyro draws draws them here, for the model to replay."""
        if self.indices is not None:
            return pyro.plate(name, self.size, subsample=self.indices, dim=dim)
        return pyro.plate(name, self.size, subsample_size=self.subsample_size, dim=dim)

    def rows(self, plate: pyro.plate) -> torch.Tensor | None:
        """The indices that such a plate holds, shape (element,); None for the whole plate."""
        return None if self.stand_in is None else torch.as_tensor(plate.indices)

    @property
    def stand_in(self) -> torch.Tensor | None:
        """Indices of these elements, for looking; the first ones where Pyro would draw; None for the whole plate."""
        if self.indices is not None:
            return self.indices
        return torch.arange(self.subsample_size) if self.subsample_size < self.size else None


class Walk(Messenger):
    """Run a model at given values, without a draw from any generator, and note its plates' elements and its supports.

    What it observes is noted as well.

    Args:
        unconstrained: function of a latent's name, and of the indices by plate so far (None for a whole plate), that
            returns the latent's unconstrained value.
        indices: the indices to give to the plates that Pyro would draw, by name; others get the first ones.
        until: names of plates and latents behind the last of which the run may end; None for a whole run.
    """

    def __init__(
        self,
        unconstrained: Callable[[str, Mapping[str, torch.Tensor | None]], torch.Tensor],
        indices: Mapping[str, torch.Tensor] | None = None,
        until: Collection[str] | None = None,
    ):
        super().__init__()
        self.unconstrained = unconstrained
        self.given = indices or {}
        self.left = None if until is None else set(until)
        self.elements: dict[str, Elements] = {}
        self.supports: dict[str, Constraint] = {}
        self.observed: dict[str, torch.Tensor] = {}
        self._indices: dict[str, torch.Tensor | None] = {}

    def run(self, model: Callable[..., Any], *args: Any, **kwargs: Any) -> "Walk":
        """Run the model, hidden from whoever traces the caller."""
        try:
            with hidden(), self:
                model(*args, **kwargs)
        except _EnoughSeen:
            pass
        return self

    def _pyro_sample(self, msg: Any) -> None:
        if site_is_subsample(msg):
            self._see_plate(msg)
        elif msg["is_observed"]:
            self.observed[msg["name"]] = msg["value"]
        elif msg["value"] is not None:
            return
        elif is_enumerated(msg):
            msg["value"] = msg["fn"].enumerate_support(expand=True)[0]
        else:
            support = self.supports[msg["name"]] = msg["fn"].support
            msg["value"] = biject_to(support)(self.unconstrained(msg["name"], self._indices))

    def _see_plate(self, msg: Any) -> None:
        name, size, wanted = msg["name"], msg["fn"].size, msg["fn"].subsample_size
        if msg["value"] is not None:
            indices = torch.as_tensor(msg["value"])
            found = Elements(size, len(indices), indices)
        else:
            found = Elements(size, size if wanted is None else min(size, wanted))
            if found.subsample_size < size:
                msg["value"] = self.given.get(name, found.stand_in)
        self.elements[name] = found
        self._indices[name] = found.stand_in if msg["value"] is None else torch.as_tensor(msg["value"])

    def _pyro_post_sample(self, msg: Any) -> None:
        if self.left is None:
            return
        self.left.discard(msg["name"])
        if not self.left:
            raise _EnoughSeen


def hidden() -> Any:
    """A context that hides sample sites, observed ones too, from whoever traces the caller; parameters are seen."""
    return poutine.block(hide_fn=_is_sample)


def _is_sample(msg: Any) -> bool:
    return msg["type"] == "sample"


class _EnoughSeen(BaseException):
    """Ends a model's run behind the last site of interest. No Exception, which a model may catch."""
