"""Whether compiled numbers are eager's numbers."""

import torch

RELATIVE_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}

BFLOAT16_TOLERANCE = 0.03
"""The same where products are made in bfloat16, which has eight bits."""


def agree(found: torch.Tensor, wanted: torch.Tensor, tolerance: float | None = None) -> bool:
    """Whether two tensors agree to rounding: their finite elements relative to the largest, the others in place."""
    finite = torch.isfinite(wanted)
    if not torch.equal(finite, torch.isfinite(found)):
        return False
    if not finite.any():
        return True
    found, wanted = found[finite], wanted[finite]
    scale = wanted.abs().max().clamp_min(1.0)
    tolerance = RELATIVE_TOLERANCE[wanted.dtype] if tolerance is None else tolerance
    return bool(((found - wanted).abs() <= tolerance * scale).all())


def largest_difference(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """The largest absolute difference."""
    return float((found - wanted).abs().max())
