"""Stratified sampling: equal parts of the unit interval, each with draws of its own.

Cochran (1977), Sampling techniques, chapter 5; the degrees of freedom after Satterthwaite (1946), Biometrics 2(6).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ppl_models.checks import Check
from ppl_models.errors import OptionError
from ppl_models.inference.monte_carlo.chunks import chunk_size
from ppl_models.inference.monte_carlo.integrand import Integrand
from ppl_models.inference.monte_carlo.method import Estimate
from ppl_models.inference.monte_carlo.moments import LEAST_VALUES, check_skewness, skewness_of_mean
from ppl_models.inference.monte_carlo.sources import Source
from ppl_models.inference.monte_carlo.strata import Strata
from ppl_models.inference.monte_carlo.tails import Tails
from ppl_models.inference.monte_carlo.uniforms import needs_uniforms, ratio
from ppl_models.options import check_choice, check_count

MOST_STRATA = 32_768
DRAWS_PER_STRATUM = 128
LEAST_FREEDOM = 20.0
"""Degrees of freedom, by which the error is known within a sixth."""
LEAST_IN_STRATUM, THIN_SHARE = 8, 0.05
"""Draws that show the skewness within a stratum; strata with fewer may carry this share of the variance."""
PILOT_SHARE, PILOT_DRAWS = 0.1, 4
"""Of Neyman's allocation: the pilot takes this share of the first draws, and at least so many in each stratum."""


@dataclass(frozen=True)
class Stratified:
    """Equal strata of the first uniform numbers; the error from the spread within strata.

    Attributes:
        num_strata: along each stratified coordinate; None takes as many as leave 128 of the first batch's draws for
            each, at most 32,768 in all. With fewer draws in each, down to two, the estimate is better and its error
            less well known: where f grows without bound, the error comes from the outermost stratum alone. Fewer than
            eight in each do not show how skewed the estimate is, and that check stays open.
        num_dims: coordinates that are stratified, the first ones.
        allocation: "proportional", the same number of draws in each stratum, or "neyman", in proportion to the standard
            deviation within it, as a pilot finds it. The pilot's draws decide nothing but the allocation, so that the
            estimate stays unbiased.
    """

    name: ClassVar[str] = "stratified"
    num_strata: int | None = None
    num_dims: int = 1
    allocation: Literal["proportional", "neyman"] = "proportional"

    def __post_init__(self) -> None:
        check_count("num_dims", self.num_dims)
        check_choice("allocation", self.allocation, ("proportional", "neyman"))
        if self.num_strata is not None:
            check_count("num_strata", self.num_strata)

    def start(self, integrand: Integrand, source: Source, seed: int) -> "_StratifiedRun":
        """Begin a run.

        Raises:
            OptionError: the source's draws are no function of so many uniform numbers.
        """
        found = needs_uniforms(self.name, source)
        if self.num_dims > found:
            raise OptionError(f"num_dims: found {self.num_dims}, but {found} uniform numbers make a draw. Lower it.")
        return _StratifiedRun(self, integrand, source, found)


class _StratifiedRun:
    def __init__(self, method: Stratified, integrand: Integrand, source: Source, num_uniforms: int):
        self.method, self.integrand, self.source, self.num_uniforms = method, integrand, source, num_uniforms
        self.strata: Strata | None = None
        self.shares: NDArray[np.float64] | None = None
        self.num_draws = 0
        self.tails = Tails()

    def extend(self, num_draws: int) -> None:
        if self.strata is None:
            self.strata = self._divide(num_draws)
            if self.method.allocation == "neyman":
                num_draws -= self._look(num_draws)
        count = self.strata.count
        if self.shares is None:
            amounts = np.full(count, num_draws // count)
        elif num_draws < 2 * count:
            return
        else:
            amounts = np.floor(self.shares * (num_draws - 2 * count)).astype(int) + 2
        for cells, values in self._evaluate(amounts):
            self.strata.add(cells, values)

    def _divide(self, num_draws: int) -> Strata:
        dims, least = self.method.num_dims, 2 if self.method.allocation == "proportional" else 4 + PILOT_DRAWS
        per_dim = self.method.num_strata
        if per_dim is None:
            wanted = min(max(1, num_draws // DRAWS_PER_STRATUM), MOST_STRATA)
            per_dim = max(1, int((wanted + 0.5) ** (1.0 / dims)))
        if num_draws < least * per_dim**dims:
            raise OptionError(
                f"num_draws: found {num_draws:,} for {per_dim**dims:,} strata, wanted at least {least} in each. Raise "
                "it, or lower num_strata."
            )
        return Strata(per_dim, dims)

    def _look(self, num_draws: int) -> int:
        """Find the shares of Neyman's allocation; returns the draws that it took."""
        assert self.strata is not None
        each = max(PILOT_DRAWS, int(PILOT_SHARE * num_draws) // self.strata.count)
        for cells, values in self._evaluate(np.full(self.strata.count, each)):
            self.strata.add(cells, values)
        _, _, variance, _ = self.strata.moments()
        self.strata.clear()
        spread = np.sqrt(variance.reshape(self.strata.count, -1).mean(1))
        total = spread.sum()
        # a stratum that looked constant to a few draws keeps a tenth of its proportional share
        shares = 0.9 * spread / total if total > 0.0 else 0.9 / self.strata.count
        self.shares = shares + 0.1 / self.strata.count
        return each * self.strata.count

    def _evaluate(self, amounts: NDArray[np.int64]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        assert self.strata is not None
        ends = torch.as_tensor(np.cumsum(amounts), device=self.source.device)
        total, size = int(ends[-1]), chunk_size(self.source)
        for start in range(0, total, size):
            places = torch.arange(start, min(start + size, total), device=self.source.device)
            cells = torch.searchsorted(ends, places, right=True)
            values = self.integrand(self.source.from_uniform(self.strata.uniforms(cells, self.num_uniforms)))
            self.num_draws += len(values)
            if self.shares is None:  # else the draws are not spread as those of q
                self.tails.add(values)
            yield cells, values

    def estimate(self) -> Estimate:
        assert self.strata is not None
        count, mean, variance, central = self.strata.moments()
        each = count.reshape(-1, *[1] * (mean.ndim - 1))
        of_means = variance / each / self.strata.count**2
        squared, value = of_means.sum(0), mean.mean(0)
        with np.errstate(divide="ignore", invalid="ignore"):
            parts = (of_means**2 / (each - 1)).sum(0)
            freedom = np.where(squared > 0.0, squared**2 / parts, count.sum() - len(count))
            thin = (np.where(each < LEAST_IN_STRATUM, of_means, 0.0).sum(0) > THIN_SHARE * squared).any()
        too_few = f"wanted {LEAST_IN_STRATUM} in each stratum" if thin else ""
        if self.num_draws <= LEAST_VALUES - self.strata.count:  # equal shares leave a remainder
            too_few = f"wanted {LEAST_VALUES:,}"
        skewness, mcse = skewness_of_mean(count, np.concatenate([variance[None], central[1:]]))
        moving = squared > 0.0
        return Estimate(
            value=value,
            standard_error=np.sqrt(squared),
            num_draws=self.num_draws,
            ess=ratio(variance.mean(0) + np.square(mean - value).mean(0), squared),
            degrees_of_freedom=freedom,
            checks=(
                *self.tails.checks(),
                check_skewness(
                    np.where(moving, skewness, 0.0),
                    f"{self.num_draws:,} draws",
                    np.where(moving, mcse, 0.0),
                    too_few if moving.any() else "",
                ),
                _freedom(freedom),
            ),
            evidence={"strata": self.strata.count},
        )


def _freedom(freedom: NDArray[np.float64]) -> Check:
    """Whether enough draws stand in the strata from which the error comes."""
    least = float(np.min(freedom))
    passed = True if least >= LEAST_FREEDOM else None
    advice = "" if passed else "lower num_strata, or raise num_draws"
    return Check(
        "degrees of freedom", least, LEAST_FREEDOM, passed, advice, detail="in the strata that the error is from"
    )
