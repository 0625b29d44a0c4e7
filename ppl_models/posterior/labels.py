"""Names of axes and their coordinates for draws, from plates or as given."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ppl_models.errors import DataError
from ppl_models.posterior.names import SAMPLE_DIMS, check_variables, free_dims, free_name
from ppl_models.program import Program
from ppl_models.program.sites import Site

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
            DataError: a dim's coordinates are not as many as the axis is long, or axes of one name differ in length.
            ModelError: a site has a name that no tree can hold.
        """
        sites = program.sites
        every = sites.latent + sites.enumerated + sites.discrete + sites.observed + sites.deterministic
        check_variables(site.name for site in every)
        dims: dict[str, tuple[str, ...]] = {}
        sizes: dict[str, int] = dict(sites.plate_sizes)
        owners: dict[str, str] = {}
        for site in every:
            given = self.dims.get(site.name)
            dims[site.name] = _own_dims(site, sites.plate_sizes) if given is None else site.dims(tuple(given))
            for dim, size in zip(dims[site.name], site.shape, strict=True):
                self._check(site.name, dim, size)
                if dim in owners and sizes[dim] != size:
                    raise DataError(
                        f"dims: '{dim}' is an axis of '{owners[dim]}', of length {sizes[dim]}, and of '{site.name}', "
                        f"of length {size}. Give them different names."
                    )
                sizes[dim] = size
                owners |= {} if site in sites.enumerated else {dim: site.name}
        for name, tensor in program.arguments.tensors().items():
            if name in self.dims and name not in dims:
                dims[name] = tuple(self.dims[name])
                for dim, size in zip(dims[name], tensor.shape, strict=False):
                    self._check(name, dim, size)
        coords = {dim: self.coords[dim] if dim in self.coords else np.arange(size) for dim, size in sizes.items()}
        complete = Labels({**coords, **{k: v for k, v in self.coords.items() if k not in coords}}, dims)
        return complete.apart_from(site.name for site in every)

    def apart_from(self, variables: Iterable[str]) -> "Labels":
        """The same, with other names for the dims that are called like one of these variables or like ArviZ's axes.

        Such a dim gets "_plate" after its name, in all variables alike: a plate "draw" is the axis "draw_plate".
        """
        every = {*self.coords, *(dim for axes in self.dims.values() for dim in axes)}
        new = free_dims(every, set(variables))
        if not new:
            return self
        return Labels(
            {new.get(dim, dim): values for dim, values in self.coords.items()},
            {name: tuple(new.get(dim, dim) for dim in axes) for name, axes in self.dims.items()},
        )

    def names(self) -> set[str]:
        """All names of variables and axes, with those of the draws' axes: what an axis of ours must not be called."""
        return {*SAMPLE_DIMS, *self.dims, *self.coords, *(dim for axes in self.dims.values() for dim in axes)}

    def _check(self, name: str, dim: str, size: int) -> None:
        if dim in self.coords and len(self.coords[dim]) != size:
            raise DataError(
                f"coords['{dim}']: found {len(self.coords[dim])} labels, wanted {size}, the length of that axis of "
                f"'{name}'."
            )


def _own_dims(site: Site, plates: Collection[str]) -> tuple[str, ...]:
    """Plates by name and other axes numbered, none of these called like a plate."""
    named = (*site.plates, *(None for _ in range(site.event_dim)))
    return tuple(dim if plate else free_name(dim, plates) for dim, plate in zip(site.dims(), named, strict=True))
