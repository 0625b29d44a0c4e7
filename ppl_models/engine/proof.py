"""Whether compiled numbers are eager's numbers."""

import torch

RELATIVE_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}


def agree(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    """Whether two tensors agree to rounding: their finite elements relative to the largest, the others in place."""
    finite = torch.isfinite(wanted)
    if not torch.equal(finite, torch.isfinite(found)):
        return False
    if not finite.any():
        return True
    found, wanted = found[finite], wanted[finite]
    scale = wanted.abs().max().clamp_min(1.0)
    return bool(((found - wanted).abs() <= RELATIVE_TOLERANCE[wanted.dtype] * scale).all())


def largest_difference(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """The largest absolute difference."""
    return float((found - wanted).abs().max())
