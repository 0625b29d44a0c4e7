"""What methods share that steer the uniform numbers behind the draws."""

import numpy as np
from numpy.typing import NDArray

from ppl_models.errors import OptionError
from ppl_models.inference.monte_carlo.sources import Source

Float64Array = NDArray[np.float64]


def needs_uniforms(method: str, source: Source) -> int:
    """How many uniform numbers make one draw.

    Raises:
        OptionError: the source's draws are no known function of such.
    """
    if source.num_uniforms is None:
        raise OptionError(
            f"method {method!r}: draws of {source.label} are no known function of uniform numbers. Take "
            "method='plain', or a distribution with an inverse cdf."
        )
    return source.num_uniforms


def ratio(variance: Float64Array, of_estimate: Float64Array) -> Float64Array:
    """Plain draws with the same standard error; inf where the estimate has none and f varies, NaN where it does not."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.divide(variance, of_estimate))
