"""Matrix products and convolutions in bfloat16, everything else in float32."""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as functions
from torch.overrides import TorchFunctionMode

PRODUCTS = frozenset(
    {
        functions.linear,
        functions.bilinear,
        torch.matmul,
        torch.Tensor.matmul,
        torch.Tensor.__matmul__,
        torch.Tensor.__rmatmul__,
        torch.mm,
        torch.Tensor.mm,
        torch.bmm,
        torch.Tensor.bmm,
        torch.addmm,
        torch.Tensor.addmm,
        torch.baddbmm,
        functions.conv1d,
        functions.conv2d,
        functions.conv3d,
        functions.conv_transpose1d,
        functions.conv_transpose2d,
        functions.conv_transpose3d,
    }
)


class MixedPrecision(TorchFunctionMode):
    """Make the products of float32 tensors in bfloat16, with results (and gradients) back in float32.

    Micikevicius et al. (2018), Mixed precision training; bfloat16 has float32's range, so that no loss is scaled.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func not in PRODUCTS:
            return func(*args, **kwargs)
        found = func(*(_lowered(value) for value in args), **{name: _lowered(value) for name, value in kwargs.items()})
        return found.float() if found.dtype == torch.bfloat16 else found


def _lowered(value: Any) -> Any:
    return value.bfloat16() if isinstance(value, torch.Tensor) and value.dtype == torch.float32 else value


class InMixedPrecision:
    """A model or guide that makes its products in bfloat16.

    Args:
        callee: the model or guide.
    """

    def __init__(self, callee: Callable[..., Any]):
        self.__wrapped__ = callee

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it."""
        with MixedPrecision():
            return self.__wrapped__(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.__wrapped__, name)
