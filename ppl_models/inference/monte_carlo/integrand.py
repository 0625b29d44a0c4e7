"""The function whose expectation is wanted, checked as it is called."""

import math
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

import numpy as np
import torch

from ppl_models.errors import DataError, PPLError, UnknownNameError, first_line
from ppl_models.inference.monte_carlo.sources import Draws, num_rows, rows_of

PROBE = 32
"""Draws that are evaluated once more, in another order and company."""
NEAR = {torch.float16: 1e-1, torch.bfloat16: 1e-1, torch.float32: 1e-3, torch.float64: 1e-7}
"""Relative differences that rounding explains: vectorised kernels treat the last few numbers of a batch otherwise."""


class Integrand:
    """A function of draws, vectorised over them: `f(draws)`, draws of shape (draw, *event), gives (draw, *shape).

    Tensors and NumPy arrays are taken as results. A function that draws random numbers itself is taken as it is.

    Args:
        function: the user's; or the name of one variable, where draws are of several.
        what: the argument that it was, for messages.

    Attributes:
        shape: of one value; None before the first call.
    """

    def __init__(self, function: Callable[[Any], Any] | str, *, what: str = "f"):
        self.what = what
        if isinstance(function, str):
            function = itemgetter(function)
        if not callable(function):
            raise DataError(f"{what}: found {type(function).__name__}, wanted a function of draws, such as torch.exp.")
        self.function = function
        self.shape: torch.Size | None = None
        self._probed = False

    def __call__(self, draws: Draws) -> torch.Tensor:
        """Values at draws, shape (draw, *shape), floating; truth values become 0 and 1.

        Raises:
            DataError: the values are no tensor with one row for each draw, are not finite, change their shape, or
                depend on the order of the draws.
        """
        values = self._values(draws)
        if self.shape is None:
            self.shape = values.shape[1:]
        elif values.shape[1:] != self.shape:
            raise DataError(
                f"{self.what}: values of shape {tuple(self.shape)} at first, then {tuple(values.shape[1:])}. Return "
                "one shape for each draw, whatever the draws are."
            )
        # a sum is finite only where all its terms are, unless it overflows, and costs less than looking at each
        if not math.isfinite(values.sum().item()):
            self._refuse_infinite(draws, values)
        if not self._probed and values.shape[0] > 1:
            self._probed = True
            self._refuse_dependence(draws, values)
        return values

    def _values(self, draws: Draws) -> torch.Tensor:
        count = num_rows(draws)
        try:
            found = self.function(draws)
        except UnknownNameError as error:
            raise DataError(f"{self.what}: {error}") from error
        except PPLError:
            raise
        except Exception as error:
            if isinstance(error, KeyError) and isinstance(draws, Mapping) and error.args[0] not in draws:
                raise DataError(f"{self.what}: {UnknownNameError('variable', error.args[0], draws)}") from error
            raise DataError(
                f"{self.what}: raised {type(error).__name__} ({first_line(error)}) for draws of shape {_shape(draws)}. "
                "It must take all draws at once, along the first axis."
            ) from error
        if isinstance(found, np.ndarray | np.generic) and found.dtype.kind in "fiub":
            found = torch.as_tensor(found)
        if not isinstance(found, torch.Tensor) or found.is_complex():
            kind = f"{found.dtype}" if isinstance(found, torch.Tensor | np.ndarray) else type(found).__name__
            wanted = f"a real tensor or NumPy array of shape ({count}, ...)"
            raise DataError(f"{self.what}: returned {kind}, wanted {wanted}.")
        if found.ndim == 0 or found.shape[0] != count:
            raise DataError(
                f"{self.what}: returned shape {tuple(found.shape)} for {count} draws of shape {_shape(draws)}, wanted "
                f"({count}, ...). Do not average over the draws; reduce over the other axes, as by sum(-1)."
            )
        if found.requires_grad:
            found = found.detach()
        return found if found.is_floating_point() else found.double()

    def _refuse_dependence(self, draws: Draws, values: torch.Tensor) -> None:
        count = len(values)
        index = torch.linspace(count - 1, 0, min(PROBE, count // 2 + 1), device=values.device).long()
        some = rows_of(draws, index)
        alone = self._values(some)
        if alone.shape[1:] != values.shape[1:]:
            raise DataError(
                f"{self.what}: its value at a draw depends on how many draws there are: shape "
                f"{tuple(values.shape[1:])} for each of {count}, {tuple(alone.shape[1:])} for each of {len(index)}. "
                "Compute each value from its own draw alone."
            )
        if _near(alone, values[index]) or not _near(self._values(some), alone):
            return  # a function that is random by itself says nothing about order
        difference = (
            (alone - values[index]).abs().flatten(1).amax(1) if alone.ndim > 1 else (alone - values[index]).abs()
        )
        place = int(difference.argmax())
        raise DataError(
            f"{self.what}: its value at a draw depends on the other draws or on their order (at draw "
            f"{_text(some, place)}: {_short(values[index][place])} among {count} draws, {_short(alone[place])} among "
            f"{len(index)} in another order). Compute each value from its own draw alone; centre or normalise by known "
            "constants."
        )

    def _refuse_infinite(self, draws: Draws, values: torch.Tensor) -> None:
        """Raise where a value is not finite; a mere overflow of their sum passes."""
        bad = ~torch.isfinite(values)
        rows = bad.flatten(1).any(1) if bad.ndim > 1 else bad
        count = int(rows.sum())
        if not count:
            return
        first = int(torch.nonzero(rows)[0])
        found = values[first][bad[first]].flatten()[0]
        raise DataError(
            f"{self.what}: {count:,} of {len(values):,} values are not finite; the first is {float(found)} at draw "
            f"{_text(draws, first)}. Restrict {self.what} to where it is defined, or compute it on a scale that does "
            "not overflow."
        )


def _near(some: torch.Tensor, others: torch.Tensor) -> bool:
    near = NEAR.get(others.dtype, 1e-7)
    scale = float(others.abs().max()) if others.numel() else 0.0
    return some.shape == others.shape and torch.allclose(
        some, others, rtol=near, atol=1e-3 * near * scale, equal_nan=True
    )


def _shape(draws: Draws) -> str:
    if isinstance(draws, Mapping):
        return "{" + ", ".join(f"{name}: {tuple(value.shape)}" for name, value in draws.items()) + "}"
    return str(tuple(draws.shape))


def _text(draws: Draws, place: int) -> str:
    if isinstance(draws, Mapping):
        return "{" + ", ".join(f"{name}: {_short(value[place])}" for name, value in draws.items()) + "}"
    return _short(draws[place])


def _short(value: torch.Tensor) -> str:
    numbers = [f"{number:.6g}" for number in value.flatten()[:5].tolist()]
    if value.ndim == 0:
        return numbers[0]
    return f"[{', '.join(numbers)}{', ...' if value.numel() > 5 else ''}]"
