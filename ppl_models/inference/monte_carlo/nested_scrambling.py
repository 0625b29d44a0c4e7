"""Nested uniform scrambling of binary fractions: each bit is flipped at random, as all higher bits together decide.

Owen (1995), Randomly permuted (t, m, s)-nets and (t, s)-sequences; in hashed form, Burley (2020), Practical hash-based
Owen scrambling, Journal of Computer Graphics Techniques 9(4). Unlike the linear scrambling of the usual engines it
leaves the means of replicates nearly normal, so that their spread gives intervals that cover.
"""

import numpy as np
from numpy.typing import NDArray

BITS = 32
FACTORS = (0x3D20ADEA, 0x05526C56, 0x53A22864)
"""Even, so that a product moves information to higher bits alone."""
_SWAPS = ((1, 0x55555555), (2, 0x33333333), (4, 0x0F0F0F0F), (8, 0x00FF00FF), (16, 0x0000FFFF))


def reversed_bits(numbers: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The bits of each number in reverse order."""
    for width, mask in _SWAPS:
        shift, low = np.uint32(width), np.uint32(mask)
        numbers = ((numbers >> shift) & low) | ((numbers & low) << shift)
    return numbers


def scrambled(backwards: NDArray[np.uint32], keys: NDArray[np.uint32]) -> NDArray[np.float64]:
    """One scrambling.

    Args:
        backwards: binary fractions with their bits reversed, shape (point, dim).
        keys: uniform 32-bit numbers, one for each dim; each scrambled point is uniform over them.

    Returns:
        Numbers strictly between 0 and 1, float64, shape (point, dim).
    """
    mixed = backwards ^ (backwards * np.uint32(FACTORS[0]))
    mixed += keys
    mixed *= (keys >> np.uint32(16)) | np.uint32(1)
    for factor in FACTORS[1:]:
        mixed ^= mixed * np.uint32(factor)
    return (reversed_bits(mixed).astype(np.float64) + 0.5) * 2.0**-BITS
