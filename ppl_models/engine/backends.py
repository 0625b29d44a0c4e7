"""The backends, fastest first."""

from collections.abc import Mapping

from ppl_models.engine.inductor import Inductor
from ppl_models.engine.native.native import Native
from ppl_models.engine.protocol import Backend
from ppl_models.errors import UnknownNameError

COMPILERS: Mapping[str, Backend] = {backend.name: backend for backend in (Native(), Inductor())}
"""What runs captured graphs. A further backend is one file and one entry here."""

EAGER, AUTO = "eager", "auto"
NAMES = (AUTO, EAGER, *COMPILERS)


def check_backend(name: str) -> None:
    """Refuse a backend name that is not known.

    Raises:
        UnknownNameError: lists the valid names, nearest first.
    """
    if name not in NAMES:
        raise UnknownNameError("backend", name, NAMES)
