"""Features that are real numbers."""

from typing import Any

import pyro.distributions as dist
import torch
from torch import nn

from ppl_models.autoencoders.likelihoods.likelihood import Likelihood
from ppl_models.errors import OptionError
from ppl_models.options import check_positive

SCALES = ("shared", "feature", "output")
MIN_SCALE = 1e-3


class Gaussian(Likelihood):
    """x_j ~ Normal(outputs_j, scale).

    The decoder gives 1 output for each feature, its mean: num_outputs = num_features. With scale="output" it gives 2:
    all means, then all scales (before softplus), num_outputs = 2 * num_features.

    Kingma and Welling (2014), Auto-encoding variational Bayes, appendix C.2; on one learnt scale, Lucas et al. (2019),
    Don't blame the ELBO!

    Args:
        num_features: length of one row of the data.
        scale: "shared": one learnt scale; "feature": one for each feature; "output": the decoder gives a scale for each
            row and feature, in a second half of its outputs; a positive number: that scale, not learnt.
        init_scale: where a learnt scale starts, in the units of the data.
        min_scale: no learnt scale is smaller, in the units of the data: of a feature that never changes the density is
            unbounded without it.

    Raises:
        OptionError: `scale` is none of these, or a start is not above the minimum.
    """

    def __init__(
        self,
        num_features: int,
        *,
        scale: str | float = "shared",
        init_scale: float = 1.0,
        min_scale: float = MIN_SCALE,
    ):
        super().__init__(num_features)
        if isinstance(scale, str) and scale not in SCALES:
            raise OptionError(f"scale: found {scale!r}, wanted {', '.join(map(repr, SCALES))} or a positive number.")
        self.kind = scale if isinstance(scale, str) else "fixed"
        self.min_scale = check_positive("min_scale", min_scale)
        self.fixed_scale = None if isinstance(scale, str) else check_positive("scale", scale)
        if self.kind in ("shared", "feature"):
            self.log_excess = nn.Parameter(torch.zeros(1 if self.kind == "shared" else self.num_features))
            self.set_scale(init_scale)

    @property
    def num_outputs(self) -> int:
        """One location for each feature, and with scale="output" a scale."""
        return 2 * self.num_features if self.kind == "output" else self.num_features

    @property
    def scale(self) -> torch.Tensor | float:
        """The scale that all rows share, in the units of the data: a number, or shape (1,) or (num_features,).

        Raises:
            OptionError: each row has scales of its own.
        """
        if self.kind == "output":
            raise OptionError("scale: with scale='output' each row has its own; the distribution's stddev tells it.")
        return self.min_scale + self.log_excess.exp() if self.fixed_scale is None else self.fixed_scale

    @torch.no_grad()
    def set_scale(self, scale: float | torch.Tensor) -> None:
        """Put a learnt scale somewhere: a number or shape (1,) or (num_features,), in the units of the data.

        Raises:
            OptionError: nothing is learnt, or a scale is not above the minimum.
        """
        if self.kind not in ("shared", "feature"):
            raise OptionError(f"set_scale: the scale is {self.kind!r}, only 'shared' and 'feature' are parameters.")
        excess = torch.as_tensor(scale).to(self.log_excess) - self.min_scale
        if not bool((excess > 0).all()):
            raise OptionError(f"scale: found {scale!r}, wanted more than min_scale={self.min_scale!r}.")
        self.log_excess.copy_(excess.log())

    def distribution(self, outputs: torch.Tensor) -> Any:
        """Normal distributions, batch shape (..., num_features)."""
        if self.kind != "output":
            return dist.Normal(outputs, self.scale)
        location, raw = outputs.chunk(2, -1)
        return dist.Normal(location, self.min_scale + nn.functional.softplus(raw))
