"""A fit seen as a representation: rows of data with latents of their own, and a guide that knows them from the data."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyro.poutine as poutine
import torch
from pyro.poutine.messenger import Messenger

from ppl_models.errors import ModelError, OptionError
from ppl_models.inference import Fit
from ppl_models.inference.amortised import check_amortised
from ppl_models.program import Arguments, Program, Rows, find_rows, with_data
from ppl_models.program.handlers import FromValues
from ppl_models.program.nodes import sites_of

BATCH_SIZE = 256
"""Rows that are worked on at once."""
PROBE = 32
"""Rows at which is tried what the model reads."""


@dataclass(frozen=True)
class Representation:
    """A fit with a latent for each row of its data.

    Attributes:
        fit: the fit.
        rows: the plate over the data, and what has a row for each of its elements.
        observing: by observed site, the argument that holds its values; sites of computed values are left out.
        inputs: arguments that have rows and that the model reads other than as observations: covariates.
    """

    fit: Fit
    rows: Rows
    observing: dict[str, str]
    inputs: tuple[str, ...]

    @property
    def program(self) -> Program:
        """The model with the fit's data."""
        return self.fit.program

    @property
    def arguments(self) -> Arguments:
        """The fit's own data."""
        return self.fit.program.arguments

    def axis(self, name: str) -> int:
        """The axis of the rows in the values of a site, counted from the left."""
        site = self.program.sites[name]
        return len(site.shape) - site.event_dim + self.rows.dim

    def at(self, arguments: Arguments) -> Fit:
        """The same fit at other rows."""
        data = arguments.args if arguments.args else dict(arguments.kwargs)
        return replace(self.fit, program=with_data(self.fit.program, data))

    def blocks(self, arguments: Arguments, num_rows: int, size: int) -> Iterator[Fit]:
        """The fit at rows of data, at most `size` at a time."""
        for chunk in replace(self.rows, num_rows=num_rows).chunks(arguments, size):
            yield self.at(chunk)


def representation_of(fit: Any) -> Representation:
    """See a fit as a representation.

    Args:
        fit: what `ppl.fit` returned.

    Raises:
        OptionError: `fit` is no fit.
        ModelError: the model has no plate over the rows of its data, or no latent in it.
        GuideError: the guide keeps parameters for each row of its own data.
    """
    if not isinstance(fit, Fit):
        raise OptionError(f"fit: found {type(fit).__name__}, wanted the result of ppl.fit.")
    rows = find_rows(fit.program)
    if not rows.latents:
        raise ModelError(
            f"the model has no latent for each row of its data (plate '{rows.plate}'; latents outside of it: "
            f"{', '.join(rows.outside)}). Representations need one: pyro.sample('z', ...) inside the plate."
        )
    check_amortised(fit.program, fit.guide, fit.guide_name, rows)
    observing = _observing(fit.program, rows)
    return Representation(fit, rows, observing, _inputs(fit.program, rows, observing))


def _observing(program: Program, rows: Rows) -> dict[str, str]:
    """The argument of each observed site: the very tensor, or one of the same numbers."""
    found = {}
    for site, value in program.observed_values.items():
        if site in rows.observed:
            argument = next((name for name in rows.tensors if _same(program.arguments.named()[name], value)), None)
            if argument is not None:
                found[site] = argument
    return found


def _same(argument: torch.Tensor, value: torch.Tensor) -> bool:
    if argument is value:
        return True
    if argument.numel() != value.numel():
        return False
    return torch.equal(argument.reshape(-1).to(value.dtype), value.reshape(-1))


def _inputs(program: Program, rows: Rows, observing: dict[str, str]) -> tuple[str, ...]:
    """Row by row arguments that some distribution depends on: it changes when their rows change places."""
    few = rows.take(program.arguments, torch.arange(min(rows.num_rows, PROBE)))
    with program.isolated(seed=0), torch.no_grad():
        first = _trace(program, few, {})
        fixed = {name: node["value"] for name, node in first.items()}
        own = _terms(first, fixed)
        found = []
        for name in rows.tensors:
            moved = few.named()[name].roll(1, 0)
            alike = torch.equal(moved, few.named()[name])
            if alike and name not in observing.values():
                found.append(name)  # constant rows tell nothing
            elif not alike and _differ(own, _terms(_trace(program, few.with_tensors({name: moved}), fixed), fixed)):
                found.append(name)
    return tuple(found)


def reads(
    program: Program, arguments: Arguments, others: dict[str, torch.Tensor], *, names: Sequence[str]
) -> tuple[str, ...]:
    """Which arguments the distributions of these sites depend on, by trying other values of them.

    Args:
        program: the model.
        arguments: what it is called with.
        others: other values of some arguments.
        names: sites.
    """
    with program.isolated(seed=0), torch.no_grad():
        first = _trace(program, arguments, {})
        fixed = {name: node["value"] for name, node in first.items()}
        own = [first[name]["fn"].log_prob(fixed[name]) for name in names]
        found = []
        for name, value in others.items():
            trace = _trace(program, arguments.with_tensors({name: value}), fixed)
            if _differ(own, [trace[site]["fn"].log_prob(fixed[site]) for site in names]):
                found.append(name)
    return tuple(found)


def _trace(program: Program, arguments: Arguments, fixed: dict[str, torch.Tensor]) -> dict[str, Any]:
    with FromValues(fixed), Reobserve(fixed):
        return sites_of(poutine.trace(program.model).get_trace(*arguments.args, **arguments.kwargs))


def _terms(nodes: dict[str, Any], fixed: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    return [node["fn"].log_prob(fixed[name]) for name, node in nodes.items()]


def _differ(own: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> bool:
    return any(not torch.allclose(a, b, rtol=1e-6, equal_nan=True) for a, b in zip(own, other, strict=True))


class Reobserve(Messenger):
    """Let observed sites observe other values, by name."""

    def __init__(self, values: dict[str, torch.Tensor]):
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Any):
        if msg["is_observed"] and msg["name"] in self.values:
            msg["value"] = self.values[msg["name"]]
