"""Names of axes and their coordinates for draws, from plates or as given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ppl_models.errors import DataError
from ppl_models.program import Program

Coords = Mapping[str, Sequence[Any] | np.ndarray]
Dims = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Labels:
    """Dim names by variable and coordinate values by dim, as given by a user.

    Attributes:
        coords: labels of the elements along each dim.
        dims: names of a variable's axes (chain and draw not among them).
    """

    coords: Coords = field(default_factory=dict)
    dims: Dims = field(default_factory=dict)

    def of_program(self, program: Program) -> "Labels":
        """Complete: every site and every tensor argument of the program gets dims, every plate coords.

        Raises:
            DataError: a dim's coordinates are not as many as the axis is long.
        """
        sites = program.sites
        dims: dict[str, tuple[str, ...]] = {}
        sizes: dict[str, int] = dict(sites.plate_sizes)
        for site in sites.latent + sites.enumerated + sites.discrete + sites.observed + sites.deterministic:
            given = self.dims.get(site.name)
            dims[site.name] = site.dims(tuple(given) if given is not None else None)
            for dim, size in zip(dims[site.name], site.shape, strict=True):
                self._check(site.name, dim, size)
                sizes[dim] = size
        for name, tensor in program.arguments.tensors().items():
            if name in self.dims and name not in dims:
                dims[name] = tuple(self.dims[name])
                for dim, size in zip(dims[name], tensor.shape, strict=False):
                    self._check(name, dim, size)
        coords = {dim: self.coords[dim] if dim in self.coords else np.arange(size) for dim, size in sizes.items()}
        return Labels({**coords, **{k: v for k, v in self.coords.items() if k not in coords}}, dims)

    def _check(self, name: str, dim: str, size: int) -> None:
        if dim in self.coords and len(self.coords[dim]) != size:
            raise DataError(
                f"coords['{dim}']: found {len(self.coords[dim])} labels, wanted {size}, the length of that axis of "
                f"'{name}'."
            )
