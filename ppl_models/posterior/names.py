"""Names in trees: ArviZ's, ours, and those of the user's sites, plates and axes, none of them twice."""

from collections.abc import Collection, Iterable

from ppl_models.errors import ModelError

SAMPLE_DIMS = ("chain", "draw")
"""ArviZ's axes of draws."""
KEPT_DIMS = (*SAMPLE_DIMS, "sample", "pred_id")
"""Axes that mean something to ArviZ, so that no plate has them."""


def free_name(name: str, taken: Collection[str]) -> str:
    """The first of name, name_, name__, ... that is not taken: what a variable or an axis of ours is called."""
    while name in taken:
        name += "_"
    return name


def free_dims(dims: Iterable[str], variables: Collection[str]) -> dict[str, str]:
    """New names for the axes that cannot keep theirs, by the old ones.

    An axis called like a variable, or like an axis of ArviZ's, gets "_plate" after its name ("draw_plate"), and "_" for
    every "/", which trees take for a path.
    """
    every = set(dims)
    taken = {*every, *variables, *KEPT_DIMS}
    found: dict[str, str] = {}
    for dim in sorted(every):
        wanted = f"{dim}_plate" if dim in variables or dim in KEPT_DIMS else dim
        if wanted != dim or "/" in dim:
            found[dim] = free_name(wanted.replace("/", "_"), taken)
            taken.add(found[dim])
    return found


def check_variables(names: Iterable[str]) -> None:
    """Refuse sites that no tree can hold.

    Raises:
        ModelError: a site is called like an axis of draws, or has a "/" in its name.
    """
    for name in names:
        if name in SAMPLE_DIMS:
            raise ModelError(
                f"site '{name}': an axis of every tree of draws is called so (ArviZ's {', '.join(SAMPLE_DIMS)}). "
                f"Rename the site: pyro.sample('{name}_', ...), say."
            )
        if "/" in name:
            raise ModelError(
                f"site '{name}': in a tree of draws a '/' parts a group from what it holds. Rename the site: "
                f"'{name.replace('/', '_')}', say."
            )
