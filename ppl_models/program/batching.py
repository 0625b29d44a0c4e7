"""Apply a function of one draw to many: vectorised where the model allows it, in a loop where not."""

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

Tree = Any

NOT_VECTORISABLE = (RuntimeError, ValueError, NotImplementedError, AssertionError, TypeError, IndexError, KeyError)
"""How operations say that they do not know the extra axis: control flow on values, `.item()`, no batching rule."""

CHUNK_ELEMENTS = 2_000_000
"""How many numbers one vectorised call may hold per input and output, roughly; bounds memory."""


def map_draws(function: Callable[..., Tree], num_draws: int, *batches: Tree, size_hint: int = 1) -> Tree:
    """Apply `function` to every draw.

    Args:
        function: takes one draw of each batch (or nothing) and returns a tensor or a dict of tensors.
        num_draws: how many times to apply it.
        batches: tensors, or dicts of tensors, of shape (draw, *event).
        size_hint: about how many numbers one call holds, for the choice of chunk size.

    Returns:
        The results, stacked along a first axis `draw`. Random operations differ between draws.
    """
    chunk = max(1, min(num_draws, CHUNK_ELEMENTS // max(size_hint, 1)))
    parts, use_vmap = [], True
    for start in range(0, num_draws, chunk):
        stop = min(start + chunk, num_draws)
        part = tuple(_slice(batch, start, stop) for batch in batches)
        if use_vmap:
            try:
                parts.append(_vectorised(function, stop - start, part))
                continue
            except NOT_VECTORISABLE:
                # A real error comes again from the loop, which speaks of one draw only.
                use_vmap = False
        parts.append(_stack([function(*(_pick(batch, i) for batch in part)) for i in range(stop - start)]))
    return _concatenate(parts)


def can_vmap(function: Callable[..., Tree], *batches: Tree) -> bool:
    """Whether `torch.func.vmap` can apply `function` to several draws at once."""
    try:
        _vectorised(function, 2, batches)
    except NOT_VECTORISABLE:
        return False
    return True


def _vectorised(function: Callable[..., Tree], count: int, batches: tuple) -> Tree:
    # The index is there because vmap needs an input even where the function only draws random numbers.
    mapped = torch.func.vmap(lambda _, *draws: function(*draws), randomness="different")
    with OutOfPlaceRandomness(), warnings.catch_warnings():
        # Operations without a batching rule are looped over inside torch: slower, and right.
        warnings.filterwarnings("ignore", message="There is a performance drop")
        warnings.filterwarnings("ignore", message="An output with one or more elements was resized")
        return mapped(torch.arange(count), *batches)


class OutOfPlaceRandomness(TorchFunctionMode):
    """Draw into new tensors where torch.distributions fills an empty one: vmap refuses the latter."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        fresh = _FRESH.get(func)
        if fresh is None:
            return func(*args, **(kwargs or {}))
        drawn = fresh(*args, **(kwargs or {}))
        try:
            return args[0].copy_(drawn)  # whoever ignores the result reads the tensor
        except RuntimeError:
            return drawn  # under vmap, a tensor of one draw cannot take the numbers of all


def _normal(tensor: torch.Tensor, mean: float = 0.0, std: float = 1.0) -> torch.Tensor:
    return mean + std * torch.randn(tensor.shape, dtype=tensor.dtype, device=tensor.device)


def _uniform(tensor: torch.Tensor, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
    return low + (high - low) * torch.rand(tensor.shape, dtype=tensor.dtype, device=tensor.device)


def _exponential(tensor: torch.Tensor, rate: float = 1.0) -> torch.Tensor:
    return -torch.log1p(-_uniform(tensor)) / rate


def _cauchy(tensor: torch.Tensor, median: float = 0.0, sigma: float = 1.0) -> torch.Tensor:
    return median + sigma * torch.tan(math.pi * (_uniform(tensor) - 0.5))


_FRESH = {
    torch.Tensor.normal_: _normal,
    torch.Tensor.uniform_: _uniform,
    torch.Tensor.exponential_: _exponential,
    torch.Tensor.cauchy_: _cauchy,
}


def _map(change: Callable[[torch.Tensor], torch.Tensor], tree: Tree) -> Tree:
    return {k: change(v) for k, v in tree.items()} if isinstance(tree, Mapping) else change(tree)


def _slice(batch: Tree, start: int, stop: int) -> Tree:
    return _map(lambda value: value[start:stop], batch)


def _pick(batch: Tree, index: int) -> Tree:
    return _map(lambda value: value[index], batch)


def _stack(results: list[Tree]) -> Tree:
    if isinstance(results[0], Mapping):
        return {k: torch.stack([result[k] for result in results]) for k in results[0]}
    return torch.stack(results)


def _concatenate(parts: list[Tree]) -> Tree:
    if isinstance(parts[0], Mapping):
        return {k: torch.cat([part[k] for part in parts]) for k in parts[0]}
    return torch.cat(parts)
