"""From a decoder's real outputs to the positive means of counts."""

from collections.abc import Callable, Mapping

import torch
from torch.nn.functional import softplus

FAR_BELOW = -20.0
"""Below it, softplus(v) is exp(v) to the precision of float32, and to 1e-9 of it in float64."""


def log_softplus(outputs: torch.Tensor) -> torch.Tensor:
    """Log of softplus, also where softplus itself is zero in floating point."""
    below = outputs < FAR_BELOW
    zeros = torch.zeros_like(outputs)
    # each branch sees only what it is for: an infinite slope of the other would make the gradient NaN
    tail, rest = torch.where(below, outputs, zeros), torch.where(below, zeros, outputs)
    return torch.where(below, tail - tail.exp() / 2, softplus(rest).log())


LOG_MEANS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "exp": lambda outputs: outputs,
    "softplus": log_softplus,
}
"""Log of the mean by the name of the function that makes means of outputs."""
