"""A tree of draws as what an expectation is taken over."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
import xarray as xr

from ppl_models.errors import DataError, OptionError
from ppl_models.inference.monte_carlo.sources import Draws, DrawsAlone

DIMS = ("chain", "draw")


@dataclass(frozen=True)
class TreeSource(DrawsAlone):
    """The draws of a tree's posterior by variable, chains one after the other.

    Attributes:
        tree: with a group `posterior` of dims chain, draw and those of each variable.
    """

    tree: xr.DataTree = field(repr=False)

    independent = False
    label = "a tree of draws"

    def __post_init__(self) -> None:
        if "posterior" not in self.tree.children:
            groups = ", ".join(self.tree.children) or "none"
            raise DataError(f"q: the tree has the groups {groups}, wanted 'posterior'. Give draws of a posterior.")
        for name, variable in self._posterior.items():
            if tuple(variable.dims[:2]) != DIMS:
                raise DataError(f"q: '{name}' has the dims {variable.dims}, wanted chain and draw first.")

    @property
    def size_hint(self) -> int:
        """How many numbers one draw holds."""
        return sum(value[0, 0].numel() for value in self.variables.values())

    @property
    def shape(self) -> tuple[int, int]:
        """Number of chains, and of draws of each."""
        return self._posterior.sizes["chain"], self._posterior.sizes["draw"]

    @cached_property
    def variables(self) -> Mapping[str, torch.Tensor]:
        """Every numeric variable, shape (chain, draw, *event)."""
        return {
            str(name): torch.tensor(variable.to_numpy())
            for name, variable in self._posterior.items()
            if variable.dtype.kind in "fiub"
        }

    def rows(self, start: int, stop: int) -> Draws:
        """Some draws of every chain, shape (chain * draw, *event), chain by chain."""
        return {name: value[:, start:stop].flatten(0, 1) for name, value in self.variables.items()}

    def draw(self, num_draws: int) -> Draws:
        """Not possible: draws of a chain depend on one another.

        Raises:
            OptionError: always.
        """
        raise OptionError("q: draws of a tree may depend on one another and cannot be made anew. Take method='mcmc'.")

    @property
    def _posterior(self) -> Any:
        return self.tree["posterior"].to_dataset()
