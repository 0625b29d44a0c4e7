"""Data columns as tensors, and the design matrix of a regression."""

import torch

from benchmarks.posteriordb.problem import Raw


def column(raw: Raw, name: str) -> torch.Tensor:
    """One field of the data as a float64 tensor, with the shape that it has in the file."""
    return torch.tensor(raw[name], dtype=torch.float64)


def design(*columns: torch.Tensor) -> torch.Tensor:
    """The columns after a column of ones, shape (row, 1 + column)."""
    return torch.stack([torch.ones_like(columns[0]), *columns], dim=-1)


def centred(values: torch.Tensor) -> torch.Tensor:
    """The values less their mean over rows, the first axis."""
    return values - values.mean(0)
