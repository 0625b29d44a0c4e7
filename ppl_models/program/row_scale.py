"""Minibatches at the right scale: the rows of a batch stand for all rows of the data."""

from collections.abc import Callable, Mapping
from typing import Any

import pyro.poutine as poutine
import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample

from ppl_models.errors import ModelError
from ppl_models.program.data import Arguments
from ppl_models.program.nodes import sites_of

Callee = Callable[..., Any]
RELATIVE_TOLERANCE = 1e-6
"""Between scales that are equal but for rounding in float32."""
COUNT_TOLERANCE = 0.01
"""Between the rows that a model says its batches stand for, and those of the data."""


class RowScale(Messenger):
    """Scale every site inside the data plate by what one of its rows stands for.

    A plate of size B, over the rows of a batch, is scaled by N / B; one that already counts for `size=N` with a
    `subsample_size` is scaled by Pyro, and is left as it is.

    Args:
        plate: name of the plate over the rows, in model and guide.
        num_rows: how many rows all batches together stand for, N.
    """

    def __init__(self, plate: str, num_rows: int):
        super().__init__()
        self.plate, self.num_rows = plate, num_rows

    def _pyro_sample(self, msg: Any) -> None:
        if site_is_subsample(msg):
            return
        for frame in msg["cond_indep_stack"]:
            if frame.name == self.plate:
                counted = int(frame.full_size or frame.size)
                if counted != self.num_rows:
                    msg["scale"] = msg["scale"] * (self.num_rows / counted)


def row_scale(
    callees: Mapping[str, Callee], plate: str, num_rows: int, batches: tuple[tuple[Arguments, int], ...]
) -> RowScale | None:
    """The scale that model and guide need; None where they scale batches themselves. In the caller's Pyro state.

    Args:
        callees: model and guide, by what errors call them; the guide comes first, and the model sees its draws.
        plate: name of the plate over the rows.
        num_rows: how many rows all batches together stand for.
        batches: two batches of different numbers of rows, with these numbers.

    Raises:
        ModelError: a site's scale is neither the same for every batch nor that of all data.
    """
    handler = RowScale(plate, num_rows)
    with handler:
        wrong, _ = _uneven(callees, plate, batches)
    if wrong is None:
        return handler
    still_wrong, counts = _uneven(callees, plate, batches)
    if still_wrong is None:
        _check_counts(counts, plate, num_rows)
        return None
    raise ModelError(
        f"site '{wrong}': its scale depends on the number of rows in a batch, and not so that every batch stands for "
        f"all {num_rows:,} rows. Leave the scaling of batches to the fit: take poutine.scale away from the plate "
        f"'{plate}', or scale every site in it by {num_rows:,} over the number of rows."
    )


def _check_counts(counts: Mapping[str, torch.Tensor], plate: str, num_rows: int) -> None:
    """Refuse a model whose batches stand for another number of rows than there are; one site in it may be weighted.

    Raises:
        ModelError: what all rows share would be weighed against that number, and figures per row would be off by it.
    """
    share = {name: abs(float(counted) / num_rows - 1.0) for name, counted in counts.items()}
    nearest = min(share, key=lambda name: share[name])
    if share[nearest] > COUNT_TOLERANCE:
        raise ModelError(
            f"site '{nearest}': the model scales its batches to stand for {float(counts[nearest]):,.6g} rows, and "
            f"{num_rows:,} are trained on. Leave the scaling of batches to the fit: take poutine.scale away from the "
            f"plate '{plate}', or scale every site in it by {num_rows:,} over the number of rows."
        )


def _uneven(
    callees: Mapping[str, Callee], plate: str, batches: tuple[tuple[Arguments, int], ...]
) -> tuple[str | None, dict[str, torch.Tensor]]:
    """A site that counts for another number of rows in one batch than in the other; None where all count for as many.

    Model and guide must agree too, since one's densities stand against the other's. Also the numbers, by site.
    """
    counts: dict[str, torch.Tensor] = {}
    for arguments, size in batches:
        replay: Any = None
        with torch.no_grad():
            for callee in callees.values():
                run = callee if replay is None else poutine.replay(callee, trace=replay)
                trace = poutine.trace(run).get_trace(*arguments.args, **arguments.kwargs)
                for name, node in sites_of(trace).items():
                    if not any(frame.name == plate for frame in node["cond_indep_stack"]):
                        continue
                    counted = size * torch.as_tensor(node["scale"]).double().mean()
                    if not torch.isclose(counts.setdefault(name, counted), counted, rtol=RELATIVE_TOLERANCE, atol=0.0):
                        return name, counts
                replay = trace
    return None, counts
