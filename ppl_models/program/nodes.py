"""The sites of a Pyro trace as plain mappings."""

from collections.abc import Mapping
from typing import Any

from pyro.poutine.trace_struct import Trace


def nodes_of(trace: Trace) -> Mapping[str, Any]:
    """Every site of a trace by name. Pyro types each entry of a site as optional; in a finished trace none is."""
    return trace.nodes
