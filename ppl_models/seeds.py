"""One child seed per stage, so that stages do not share random numbers and adding one does not move the others."""

import zlib

import numpy as np

from ppl_models.errors import OptionError


def child_seed(seed: int, stage: str) -> int:
    """A seed below 2**31 for the named stage of work under `seed`."""
    return int(np.random.SeedSequence([seed, zlib.crc32(stage.encode())]).generate_state(1)[0] >> 1)


def check_seed(seed: int) -> int:
    """Return the seed if it can be one.

    Raises:
        OptionError: it is not a whole number of at least zero.
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise OptionError(f"seed: found {seed!r}, wanted a whole number of at least 0.")
    return int(seed)
