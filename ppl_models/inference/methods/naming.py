"""Latents by name, for what a method has to say about some of them."""

from collections.abc import Iterable

from ppl_models.program import Program

MOST_NAMED = 5


def latent_names(program: Program, dims: Iterable[int]) -> str:
    """The sites that some dims of the flat vector belong to, quoted, for a sentence."""
    dims = set(dims)
    names = [name for name, (place, _) in program.slices.items() if dims.intersection(range(place.start, place.stop))]
    listed = ", ".join(f"'{name}'" for name in names[:MOST_NAMED])
    return listed + (f" and {len(names) - MOST_NAMED} others" if len(names) > MOST_NAMED else "")
