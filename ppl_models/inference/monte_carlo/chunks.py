"""Work in chunks, so that memory does not grow with the number of draws."""

from collections.abc import Iterator

from ppl_models.inference.monte_carlo.sources import Source

NUMBERS = {"cpu": 1 << 17, "cuda": 1 << 22}
"""Numbers in one chunk: few enough for a core's cache, or enough to keep an accelerator busy."""
LEAST = 256


def chunk_size(source: Source) -> int:
    """How many draws to hold at once."""
    numbers = NUMBERS.get(source.device.type, NUMBERS["cuda"])
    return max(LEAST, numbers // max(1, source.size_hint))


def chunks(num_draws: int, size: int) -> Iterator[int]:
    """Sizes of the chunks that together make `num_draws`."""
    for _ in range(num_draws // size):
        yield size
    if num_draws % size:
        yield num_draws % size
