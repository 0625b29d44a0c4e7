"""Learnt parameters as plain tensors, kept apart from Pyro's global store and from the user's modules."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import pyro
import torch
from torch.distributions import constraints, transform_to


@dataclass(frozen=True)
class Parameters:
    """The content of a param store at one moment.

    Attributes:
        values: unconstrained value of each parameter, by its name in the store.
        supports: the constraint of each parameter.
        holders: the very tensors that the running program used. A module or a closure of the user's may hold them,
            so they carry our values only while `loaded`, and the user's own otherwise.
    """

    values: Mapping[str, torch.Tensor]
    supports: Mapping[str, constraints.Constraint]
    holders: Mapping[str, torch.Tensor] = field(repr=False)

    @classmethod
    def from_store(cls) -> "Parameters":
        """Copy what the param store holds now."""
        state = pyro.get_param_store().get_state()
        values = {name: value.detach().clone() for name, value in state["params"].items()}
        return cls(values, dict(state["constraints"]), dict(state["params"]))

    def constrained(self) -> dict[str, torch.Tensor]:
        """Each parameter in its own support, as `pyro.param` returns it."""
        return {name: transform_to(self.supports[name])(value).clone() for name, value in self.values.items()}

    def replaced(self, values: Mapping[str, torch.Tensor]) -> "Parameters":
        """The same parameters with other constrained values; names that are not here are passed over."""
        new = dict(self.values)
        for name in new.keys() & values.keys():
            free = transform_to(self.supports[name]).inv(values[name].to(new[name].dtype))
            new[name] = free.detach().clone()
        return Parameters(new, self.supports, self.holders)

    def restore(self) -> None:
        """Write these values into the tensors that held them."""
        with torch.no_grad():
            for name, value in self.values.items():
                self.holders[name].copy_(value)

    @contextmanager
    def loaded(self) -> Iterator[None]:
        """Fill the current (empty) param store with these parameters, and give their holders back unchanged."""
        previous = {name: holder.detach().clone() for name, holder in self.holders.items()}
        self.restore()
        pyro.get_param_store().set_state({"params": dict(self.holders), "constraints": dict(self.supports)})
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in previous.items():
                    self.holders[name].copy_(value)
