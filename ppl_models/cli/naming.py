"""Guides by name: those of the problem, then the automatic families, the methods, and "auto"."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ppl_models.catalogue import Problem


AUTO = "auto"


def resolve_guide(problem: "Problem", name: str) -> Any:
    """What `ppl.fit` takes as the guide of that name.

    Raises:
        UnknownNameError: neither the problem nor the families have it; lists both, nearest first.
    """
    import guides
    from ppl_models.errors import UnknownNameError
    from ppl_models.inference.methods import METHODS

    if name in problem.guides:
        return problem.guides[name]
    valid = (*guides.names(), *METHODS, AUTO)
    if name in valid:
        return name
    raise UnknownNameError("guide", name, {*problem.guides, *valid})


def all_guides(problem: "Problem") -> list[str]:
    """Every automatic family, then the problem's own guides."""
    import guides

    return list(dict.fromkeys([*guides.names(), *problem.guides]))
