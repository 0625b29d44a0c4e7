"""Standard noise as an input: torch's random calls read from a tape in place of a generator."""

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class NoiseTape(TorchFunctionMode):
    """Serve standard normal and uniform numbers from two vectors, in the order in which they are asked for.

    Without vectors it only counts what is asked for, in `num_normal` and `num_uniform`, and serves constants. Other
    random operations (gamma, Poisson, …) keep torch's generator, and are counted in `num_other`.
    """

    def __init__(self, normal: torch.Tensor | None = None, uniform: torch.Tensor | None = None):
        super().__init__()
        self.normal, self.uniform = normal, uniform
        self.num_normal = self.num_uniform = self.num_other = 0

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
        if func in OTHER_RANDOM:
            self.num_other += 1
        return func(*args, **kwargs)

    def _general_normal(self, func: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> torch.Tensor:
        mean, std = (*args, kwargs.get("mean"), kwargs.get("std"))[:2]
        if not (isinstance(mean, torch.Tensor) and isinstance(std, torch.Tensor)):
            self.num_other += 1
            return func(*args, **kwargs)
        return mean + std * self._take_normal(torch.broadcast_shapes(mean.shape, std.shape), mean.dtype)

    def _take_normal(self, shape: torch.Size, dtype: torch.dtype | None) -> torch.Tensor:
        start, self.num_normal = self.num_normal, self.num_normal + shape.numel()
        if self.normal is None:
            return torch.zeros(shape, dtype=dtype)
        return self.normal[start : self.num_normal].reshape(shape)

    def _take_uniform(self, shape: torch.Size, dtype: torch.dtype | None) -> torch.Tensor:
        start, self.num_uniform = self.num_uniform, self.num_uniform + shape.numel()
        if self.uniform is None:
            return torch.full(shape, 0.5, dtype=dtype)
        return self.uniform[start : self.num_uniform].reshape(shape)


OTHER_RANDOM = frozenset(
    {
        torch.bernoulli,
        torch.binomial,
        torch.multinomial,
        torch.poisson,
        torch.randint,
        torch.randperm,
        torch._standard_gamma,
        torch._sample_dirichlet,
        torch.Tensor.bernoulli_,
        torch.Tensor.geometric_,
        torch.Tensor.log_normal_,
        torch.Tensor.random_,
    }
)


def _shape_of(args: tuple, kwargs: dict[str, Any]) -> torch.Size:
    size = kwargs.get("size", args)
    if len(size) == 1 and not isinstance(size[0], int):
        size = size[0]
    return torch.Size(size)
