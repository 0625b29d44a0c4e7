"""What the command line chose, as every part needs it."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """How much to measure.

    Attributes:
        rounds: blocks of every entrant.
        quick: small sizes and short blocks, to see that all works.
        backends: backends of this library, the one to be judged first.
        target: seconds that one block of steps should take.
        say: told what is going on.
    """

    rounds: int
    quick: bool
    backends: tuple[str, ...]
    target: float
    say: Callable[[str], None]
