"""What every likelihood of an autoencoder is: a module that turns a decoder's outputs into a distribution of data."""

from typing import Any

import torch
from torch import nn

from ppl_models.errors import ModelError
from ppl_models.options import check_count


class Likelihood(nn.Module):
    """p(x | outputs) of one row: independent features whose parameters a decoder gives.

    A subclass gives `distribution`, and `num_outputs` and `mean` where they differ from those here. Numbers that all
    rows share (a scale, a dispersion) are its own parameters, and are learnt with the decoder's.

    Args:
        num_features: length of one row of the data.
    """

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = check_count("num_features", num_features)

    @property
    def num_outputs(self) -> int:
        """How many numbers the decoder gives for each row."""
        return self.num_features

    def forward(self, outputs: torch.Tensor) -> Any:
        """The distribution of the data.

        Args:
            outputs: the decoder's, shape (..., num_outputs).

        Returns:
            A Pyro distribution of batch shape (...) and event shape (num_features,).

        Raises:
            ModelError: the decoder gives another number of outputs.
        """
        return self.distribution(self._checked(outputs)).to_event(1)

    def mean(self, outputs: torch.Tensor) -> torch.Tensor:
        """Mean of the data, in their units, shape (..., num_features); outputs as for `forward`."""
        return self.distribution(self._checked(outputs)).mean

    def distribution(self, outputs: torch.Tensor) -> Any:
        """The features' distributions, batch shape (..., num_features)."""
        raise NotImplementedError

    def _checked(self, outputs: torch.Tensor) -> torch.Tensor:
        if outputs.shape[-1:] == (self.num_outputs,):
            return outputs
        raise ModelError(
            f"decoder: gave outputs of shape {tuple(outputs.shape)}, but {type(self).__name__} of {self.num_features} "
            f"features needs {self.num_outputs} numbers in the last axis. Make its last layer that wide."
        )
