"""Randomised quasi-Monte Carlo: Sobol points under several independent nested scramblings.

Owen (1997), Scrambled net variance for integrals of smooth functions, Annals of Statistics 25(4); the t interval over
replicates after L'Ecuyer, Nakayama, Owen and Tuffin (2023), Confidence intervals for randomized quasi-Monte Carlo
estimators, Winter Simulation Conference.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.quasirandom import SobolEngine

from ppl_models.checks import Check
from ppl_models.errors import OptionError
from ppl_models.inference.monte_carlo.chunks import chunk_size, chunks
from ppl_models.inference.monte_carlo.integrand import Integrand
from ppl_models.inference.monte_carlo.method import Estimate
from ppl_models.inference.monte_carlo.moments import Moments, check_skewness, merged
from ppl_models.inference.monte_carlo.nested_scrambling import BITS, reversed_bits, scrambled
from ppl_models.inference.monte_carlo.sources import Source
from ppl_models.inference.monte_carlo.tails import Tails
from ppl_models.inference.monte_carlo.uniforms import needs_uniforms, ratio
from ppl_models.options import check_count
from ppl_models.seeds import child_seed

Float64Array = NDArray[np.float64]

ROUNDING = 1e-13
REPLICATES = "skewness over replicates"
"""Name of a check that more points do not mend."""
LEAST_REPLICATES = 20
"""Replicates that can show that their means are skewed, and that know the error within a sixth."""


@dataclass(frozen=True)
class Quasi:
    """Scrambled Sobol points; the error from the spread of the means of independent scramblings, with a t interval.

    Each scrambling takes a power of two of points: the largest that does not exceed its share of the draws by more than
    a tenth.

    Where f grows without bound, a replicate's error comes from its few most extreme points, and its distribution stays
    skewed however many points there are; more replicates, not more points, then make the interval cover.

    Attributes:
        num_replicates: independent scramblings, at least 2. With fewer than 20 the error bar stays unchecked: they
            cannot show how skewed their means are.
    """

    name: ClassVar[str] = "quasi"
    num_replicates: int = 32

    def __post_init__(self) -> None:
        check_count("num_replicates", self.num_replicates, least=2)

    def start(self, integrand: Integrand, source: Source, seed: int) -> "_QuasiRun":
        """Begin a run.

        Raises:
            OptionError: the source's draws are no function of uniform numbers, or of too many.
        """
        dims = needs_uniforms(self.name, source)
        if dims > SobolEngine.MAXDIM:
            raise OptionError(
                f"method 'quasi': {dims:,} uniform numbers make a draw, wanted at most {SobolEngine.MAXDIM:,}. Take "
                "method='plain'."
            )
        return _QuasiRun(self, integrand, source, dims, seed)


class _QuasiRun:
    def __init__(self, method: Quasi, integrand: Integrand, source: Source, dims: int, seed: int):
        self.integrand, self.source = integrand, source
        self.engine = SobolEngine(dims)
        random = np.random.default_rng(child_seed(seed, "scramblings"))
        self.keys = random.integers(0, 2**BITS, (method.num_replicates, dims), dtype=np.uint32)
        self.means = [Moments() for _ in self.keys]
        self.tails = Tails()

    def extend(self, num_draws: int) -> None:
        count, done = len(self.means), self.means[0].count
        wanted = (num_draws // count) + done
        if wanted < 1:
            raise OptionError(
                f"num_draws: found {num_draws}, wanted at least one for each of {count} replicates. Raise it, or lower "
                "num_replicates."
            )
        more = (1 << ((wanted + wanted // 10).bit_length() - 1)) - done  # a net is balanced at powers of two
        for size in chunks(max(0, more), chunk_size(self.source)):
            points = self.engine.draw(size, dtype=torch.float64).numpy()
            backwards = reversed_bits((points * 2.0**BITS).astype(np.uint32))
            for keys, means in zip(self.keys, self.means, strict=True):
                uniform = torch.from_numpy(scrambled(backwards, keys)).to(self.source.device)
                values = self.integrand(self.source.from_uniform(uniform))
                means.add(values)
                self.tails.add(values)

    def estimate(self) -> Estimate:
        each, count = self.means[0].count, len(self.means)
        means = np.stack([replicate.mean for replicate in self.means])
        squared = means.var(axis=0, ddof=1) / count
        value = means.mean(0)
        together = merged(self.means)
        return Estimate(
            value=value,
            standard_error=np.sqrt(squared),
            num_draws=each * count,
            ess=ratio(together.variance, squared),
            degrees_of_freedom=count - 1,
            checks=(*self.tails.checks(), *together.checks(), *_skewness(means)),
            evidence={"replicates": means},
        )


def _skewness(means: Float64Array) -> tuple[Check, ...]:
    """Whether the mean of the replicates is near enough to normal for Student's interval."""
    rest = (means - means.mean(0)).reshape(len(means), -1)
    second = np.square(rest).mean(0)
    moving = second > (ROUNDING * np.abs(means).reshape(len(means), -1).max(0)) ** 2
    if not moving.any():
        return ()
    skewness = (rest[:, moving] ** 3).mean(0) / second[moving] ** 1.5 / math.sqrt(len(means))
    too_few = "" if len(means) >= LEAST_REPLICATES else f"wanted {LEAST_REPLICATES}"
    found = check_skewness(skewness, f"{len(means)} replicates", None, too_few, "raise num_replicates")
    # the skewness of so few is itself uncertain
    return (replace(found, name=REPLICATES, passed=found.passed or None),)
