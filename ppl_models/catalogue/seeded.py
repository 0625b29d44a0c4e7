"""Networks of a problem begin at the same weights each time, and draw them without moving anyone's random numbers."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def fixed_seed(seed: int = 0) -> Iterator[None]:
    """Draw torch's random numbers on the CPU from this seed inside, and go on as before afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
