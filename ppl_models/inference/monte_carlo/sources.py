"""What an expectation is taken over, behind one face."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from ppl_models.errors import DataError, OptionError, first_line

Draws = torch.Tensor | Mapping[str, torch.Tensor]
"""Draws of one variable, shape (draw, *event), or of several by name."""


class Source(Protocol):
    """Draws from q. What a source cannot do is None, or raises an `OptionError` that says so."""

    @property
    def num_uniforms(self) -> int | None:
        """How many uniform (or standard normal) numbers make one draw; None where draws are no function of such."""
        ...

    @property
    def independent(self) -> bool:
        """Whether the draws are independent; those of MCMC are not."""
        ...

    @property
    def size_hint(self) -> int:
        """About how many numbers one draw holds."""
        ...

    @property
    def label(self) -> str:
        """What it is, for people."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the draws stand."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Of the standard normal numbers that `from_normal` wants: float64 where their tails pass through a cdf."""
        ...

    def draw(self, num_draws: int) -> Draws:
        """Independent draws, with torch's global generators."""
        ...

    def from_uniform(self, uniform: torch.Tensor) -> Draws:
        """Draws as a function of numbers strictly between 0 and 1, float64, shape (draw, num_uniforms)."""
        ...

    def from_normal(self, normal: torch.Tensor) -> Draws:
        """Draws as the same function of standard normal numbers: `from_uniform` of their cdf."""
        ...

    def log_prob(self, draws: Draws) -> torch.Tensor:
        """Log density in nats at draws, shape (draw,)."""
        ...


class DrawsAlone:
    """Defaults of a source that is no function of uniform numbers and has no density."""

    num_uniforms: int | None = None
    independent = True
    device = torch.device("cpu")
    dtype = torch.float64
    label = "q"

    def from_uniform(self, uniform: torch.Tensor) -> Draws:
        """Not possible.

        Raises:
            OptionError: always.
        """
        raise OptionError(
            f"q: draws of {self.label} are no known function of uniform numbers. Take method='plain', or a "
            "distribution with an inverse cdf."
        )

    def from_normal(self, normal: torch.Tensor) -> Draws:
        """Not possible.

        Raises:
            OptionError: always.
        """
        return self.from_uniform(torch.special.ndtr(normal.double()))

    def log_prob(self, draws: Draws) -> torch.Tensor:
        """Not possible.

        Raises:
            OptionError: always.
        """
        raise OptionError(f"q: {self.label} has no density. Give a distribution, or a fit.")


@dataclass(frozen=True)
class SamplerSource(DrawsAlone):
    """A function `num_draws -> draws` that uses torch's, NumPy's or Python's global generator.

    Attributes:
        sampler: the function.
        size_hint: about how many numbers one draw holds.
    """

    sampler: Callable[[int], Any]
    size_hint: int = 1

    @property
    def label(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The function's name."""
        return f"the sampler {getattr(self.sampler, '__name__', type(self.sampler).__name__)!r}"

    def draw(self, num_draws: int) -> Draws:
        """What the function returns, as tensors.

        Raises:
            DataError: it fails, or does not return `num_draws` draws.
        """
        try:
            found = self.sampler(num_draws)
            if isinstance(found, Mapping):
                draws = {name: torch.as_tensor(value) for name, value in found.items()}
            else:
                draws = torch.as_tensor(found)
        except (TypeError, ValueError, RuntimeError) as error:
            raise DataError(
                f"q: {self.label} failed for {num_draws:,} draws: {first_line(error)}. It must take a number of draws "
                "and return a tensor of shape (draw, ...)."
            ) from error
        for name, value in draws.items() if isinstance(draws, Mapping) else [("", draws)]:
            if value.ndim == 0 or len(value) != num_draws:
                what = f"of {name!r} " if name else ""
                raise DataError(
                    f"q: {self.label} returned draws {what}of shape {tuple(value.shape)}, wanted ({num_draws}, ...). "
                    "Put the draws along the first axis."
                )
        return draws


def num_rows(draws: Draws) -> int:
    """How many draws there are."""
    return (next(iter(draws.values())) if isinstance(draws, Mapping) else draws).shape[0]


def rows_of(draws: Draws, index: torch.Tensor | slice) -> Draws:
    """Some of the draws."""
    if isinstance(draws, Mapping):
        return {name: value[index] for name, value in draws.items()}
    return draws[index]
