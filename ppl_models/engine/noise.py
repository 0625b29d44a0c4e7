"""Standard noise as an input: random calls read from a tape in place of a generator."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch.overrides import TorchFunctionMode


class NoiseTape(TorchFunctionMode):
    """Serve standard normal and uniform numbers from two vectors, in the order in which they are asked for.

    Without vectors it only counts what is asked for, in `num_normal` and `num_uniform`, and serves constants. Other
    random operations (gamma, Poisson, …) keep torch's generator.
    """

    def __init__(self, normal: torch.Tensor | None = None, uniform: torch.Tensor | None = None):
        super().__init__()
        self.normal, self.uniform = normal, uniform
        self.num_normal = self.num_uniform = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in (torch.randn, torch.rand):
            take = self._take_normal if func is torch.randn else self._take_uniform
            return take(_shape_of(args, kwargs), kwargs.get("dtype"))
        if func in (torch.randn_like, torch.rand_like):
            take = self._take_normal if func is torch.randn_like else self._take_uniform
            return take(args[0].shape, kwargs.get("dtype", args[0].dtype))
        if func is torch.normal:
            return self._general_normal(func, args, kwargs)
        return func(*args, **kwargs)

    def _general_normal(self, func: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> torch.Tensor:
        given: dict[str, Any] = {**dict(zip(("mean", "std"), args, strict=False)), **kwargs}
        mean, std = given.get("mean"), given.get("std")
        if not (isinstance(mean, torch.Tensor) and isinstance(std, torch.Tensor)):
            return func(*args, **kwargs)
        return mean + std * self._take_normal(torch.broadcast_shapes(mean.shape, std.shape), mean.dtype)

    def _take_normal(self, shape: torch.Size, dtype: torch.dtype | None) -> torch.Tensor:
        start, self.num_normal = self.num_normal, self.num_normal + shape.numel()
        if self.normal is None:
            return torch.zeros(shape, dtype=dtype)
        return self.normal[start : self.num_normal].reshape(shape).to(dtype or self.normal.dtype)

    def _take_uniform(self, shape: torch.Size, dtype: torch.dtype | None) -> torch.Tensor:
        start, self.num_uniform = self.num_uniform, self.num_uniform + shape.numel()
        if self.uniform is None:
            return torch.full(shape, 0.5, dtype=dtype)
        return self.uniform[start : self.num_uniform].reshape(shape).to(dtype or self.uniform.dtype)


class SubsampleTape(Messenger):
    """Serve the indices of subsampled plates, by the plate's name.

    A plate that wants fewer gets the first of them (a batch may be smaller than the one before). One that is not
    served draws its own, and is noted in `sizes`: name -> (size, subsample size).
    """

    def __init__(self, indices: dict[str, torch.Tensor] | None = None):
        super().__init__()
        self.indices = indices or {}
        self.sizes: dict[str, tuple[int, int]] = {}

    def _pyro_sample(self, msg):
        if not site_is_subsample(msg) or msg["value"] is not None:
            return
        size, subsample_size = msg["fn"].size, msg["fn"].subsample_size
        if subsample_size is None or subsample_size >= size:
            return
        self.sizes[msg["name"]] = (size, subsample_size)
        if msg["name"] in self.indices:
            msg["value"], msg["done"] = self.indices[msg["name"]][:subsample_size], True


def draw_normal(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """Standard normal numbers, seeded by torch's generator; on the CPU by NumPy, which is three times as fast."""
    if torch.get_default_device().type != "cpu":
        return torch.randn(*shape, dtype=dtype)
    real = np.float64 if dtype == torch.float64 else np.float32
    return torch.from_numpy(_numpy_generator().standard_normal(tuple(shape), dtype=real))


def draw_subsamples(sizes: Sequence[tuple[int, int]], count: int) -> list[torch.Tensor]:
    """Indices without repetition, uniform over subsets, in random order: for each plate, shape (count, subsample size).

    Seeded by torch's generator. The cost grows with the subsample, not with the plate (Floyd's method).
    """
    if not sizes:
        return []
    generator = _numpy_generator()
    where = torch.get_default_device()
    return [
        torch.from_numpy(np.stack([generator.choice(size, wanted, replace=False) for _ in range(count)])).to(where)
        for size, wanted in sizes
    ]


def _numpy_generator() -> np.random.Generator:
    return np.random.Generator(np.random.SFC64(int(torch.randint(2**62, (), device="cpu"))))


def _shape_of(args: tuple, kwargs: dict[str, Any]) -> torch.Size:
    size = kwargs.get("size", args)
    if len(size) == 1 and not isinstance(size[0], int):
        size = size[0]
    return torch.Size(size)
