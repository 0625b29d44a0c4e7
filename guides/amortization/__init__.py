"""Amortised guides: q(z | x) from an encoder, for the latents that each row of the data has for itself.

`guides.amortized(model, encoder=...)` makes one; the heads of the families can be used alone.
"""

from guides.amortization.families import HEADS
from guides.amortization.full_rank import FullRankHead
from guides.amortization.guide import AmortizedGuide
from guides.amortization.inverse_autoregressive import InverseAutoregressiveHead
from guides.amortization.making import amortized
from guides.amortization.normal import NormalHead
from guides.amortization.realnvp import RealNVPHead

__all__ = [
    "HEADS",
    "AmortizedGuide",
    "FullRankHead",
    "InverseAutoregressiveHead",
    "NormalHead",
    "RealNVPHead",
    "amortized",
]
