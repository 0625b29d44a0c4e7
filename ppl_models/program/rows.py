"""The rows of the data: the plate with one element for each, and the arguments whose first axis they are."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyro.poutine as poutine
import torch

from ppl_models.errors import ModelError
from ppl_models.program.batching import NOT_VECTORISABLE
from ppl_models.program.data import Arguments
from ppl_models.program.nodes import sites_of
from ppl_models.program.program import Program


@dataclass(frozen=True)
class Rows:
    """The plate over the data of a model, and what has one row for each of its elements.

    Attributes:
        plate: name of the plate.
        dim: its axis, counted from the right of batch shapes.
        tensors: arguments whose first axis are the rows.
        counts: arguments that say as a whole number how many rows there are.
        num_rows: how many there are.
        latents: local latents: those inside the plate, in the model's order.
        outside: latents outside of it, which all rows share.
        observed: observed sites inside the plate.
    """

    plate: str
    dim: int
    tensors: tuple[str, ...]
    counts: tuple[str, ...]
    num_rows: int
    latents: tuple[str, ...]
    outside: tuple[str, ...]
    observed: tuple[str, ...]

    def take(self, arguments: Arguments, index: torch.Tensor | slice | Sequence[int]) -> Arguments:
        """Some of the rows, in the order of the index; a row may come several times."""
        where = index if isinstance(index, slice) else torch.as_tensor(index, dtype=torch.long)
        chosen = {name: arguments.named()[name][where] for name in self.tensors}
        count = len(next(iter(chosen.values())))
        return _with_values(arguments, {**chosen, **dict.fromkeys(self.counts, count)})

    def chunks(self, arguments: Arguments, size: int) -> Iterator[Arguments]:
        """All rows in order, at most `size` at a time."""
        for start in range(0, self.num_rows, size):
            yield self.take(arguments, slice(start, start + size))


def find_rows(program: Program) -> Rows:
    """Find the plate over the data: the one whose size follows the first axis of the observed arguments.

    The model is run once with one row less (or one row twice) and otherwise the same arguments.

    Raises:
        ModelError: no plate follows the rows of the data; the message says what the model needs.
    """
    sizes = _plates(program, program.arguments)
    for name, (dim, size) in sizes.items():
        for tensors, counts in _candidates(program, size):
            other = size - 1 if size > 1 else 2
            index = torch.arange(other) % size
            found = Rows(name, dim, tensors, counts, size, *_parts(program, name))
            if found.observed and _plates(program, found.take(program.arguments, index)).get(name) == (dim, other):
                return found
    raise ModelError(
        f"the model has no plate over the rows of its data (plates: {', '.join(sizes) or 'none'}; arguments: "
        f"{', '.join(program.arguments.named())}). Put what belongs to one row into a plate whose size is the "
        "number of rows of the observed argument: with pyro.plate('datum', len(x)): ..."
    )


def _plates(program: Program, arguments: Arguments) -> dict[str, tuple[int, int]]:
    """Axis and number of elements of the plates around observed sites, by name; empty where the model fails."""
    with program.isolated(seed=0, full_data=False), torch.no_grad():
        try:
            trace = poutine.trace(program.model).get_trace(*arguments.args, **arguments.kwargs)
        except NOT_VECTORISABLE:
            return {}
    return {
        frame.name: (frame.dim, int(frame.size))
        for node in sites_of(trace).values()
        if node["is_observed"]
        for frame in node["cond_indep_stack"]
        if frame.vectorized
    }


def _candidates(program: Program, size: int) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Arguments that may have a row for each element: tensors alone, with counts, then single tensors."""
    named = program.arguments.named()
    tensors = tuple(name for name, value in program.arguments.tensors().items() if value.dim() and len(value) == size)
    counts = tuple(name for name, value in named.items() if type(value) is int and value == size)
    if not tensors:
        return
    yield tensors, ()
    if counts:
        yield tensors, counts
    if len(tensors) > 1:
        for name in tensors:
            yield (name,), ()
            if counts:
                yield (name,), counts


def _parts(program: Program, plate: str) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    sites = program.sites
    latent = sites.latent + sites.discrete + sites.enumerated
    return (
        tuple(site.name for site in latent if plate in site.plates),
        tuple(site.name for site in latent if plate not in site.plates),
        tuple(site.name for site in sites.observed if plate in site.plates),
    )


def _with_values(arguments: Arguments, values: Mapping[str, Any]) -> Arguments:
    args = tuple(values.get(name, value) for name, value in zip(arguments.names, arguments.args, strict=True))
    kwargs = {name: values.get(name, value) for name, value in arguments.kwargs.items()}
    return Arguments(args, kwargs, arguments.names)
