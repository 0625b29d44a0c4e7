"""Whether a guide works at any rows, or keeps parameters for each of its own."""

from collections.abc import Callable
from typing import Any

import pyro.poutine as poutine
import torch

from ppl_models.errors import GuideError, ModelError, first_line
from ppl_models.program import Program, Rows, find_rows
from ppl_models.program.batching import NOT_VECTORISABLE
from ppl_models.program.nodes import nodes_of

PROBE = 32
"""Most rows at which the guide is tried."""


def check_amortised(program: Program, guide: Callable[..., Any], name: str, rows: Rows | None = None) -> None:
    """Try a guide at another number of rows than the program has: at its own number it always works.

    Args:
        program: the model with its data.
        guide: the guide.
        name: the guide's, for people.
        rows: the plate over the data; None looks for it, and without one or without latents in it all is well.

    Raises:
        GuideError: the guide keeps parameters for each row.
    """
    if rows is None:
        try:
            rows = find_rows(program)
        except ModelError:
            return
    if not rows.latents:
        return
    number = min(rows.num_rows - 1, PROBE) or 2
    arguments = rows.take(program.arguments, torch.arange(number) % rows.num_rows)
    with program.isolated(seed=0), torch.no_grad():
        try:
            nodes = nodes_of(poutine.trace(guide).get_trace(*arguments.args, **arguments.kwargs))
            found = {site: tuple(nodes[site]["value"].shape) for site in rows.latents if site in nodes}
        except NOT_VECTORISABLE as error:
            raise GuideError(not_amortised(name, first_line(error))) from error
    for latent, shape in found.items():
        site = program.sites[latent]
        wanted = list(site.shape)
        wanted[len(wanted) - site.event_dim + rows.dim] = number
        if shape != tuple(wanted):
            raise GuideError(not_amortised(name, f"'{latent}' has shape {shape} at {number} rows"))


def not_amortised(name: str, found: str) -> str:
    """What to say of a guide that works at its own rows only."""
    return (
        f"guide '{name}' cannot be used at other data: {found}. Its parameters belong to the rows of its own data; fit "
        "an amortised guide (guides.amortized(model)), or fit again."
    )
