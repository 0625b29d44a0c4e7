"""The mean over draws of Markov chains, with the standard error that their correlation leaves."""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from arviz_stats.base import array_stats

from ppl_models.checks import Check
from ppl_models.errors import OptionError
from ppl_models.inference.monte_carlo.chunks import chunk_size
from ppl_models.inference.monte_carlo.integrand import Integrand
from ppl_models.inference.monte_carlo.method import Estimate, Float64Array
from ppl_models.inference.monte_carlo.moments import SPREAD, Moments
from ppl_models.inference.monte_carlo.sources import Source
from ppl_models.inference.monte_carlo.tails import Tails
from ppl_models.inference.monte_carlo.tree_source import TreeSource

MOST_RHAT = 1.01
LEAST_ESS = 100.0
"""For each chain, of the ranks (bulk)."""
LEAST_DRAWS = 4
NOTHING = (math.nan,) * 4


@dataclass(frozen=True)
class MarkovChain:
    """The mean of f over the chains of a tree; its error from the effective sample size of f itself.

    The draws are taken as they stand: where more are asked for than the tree holds, all of it is used. One chain of
    independent draws, as `fit.sample` gives, serves as well. An effective sample size means something only where f has
    a variance, so that the tails of f and the skewness of its mean are checked as for independent draws.

    Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), Rank-normalization, folding, and localization: an improved
    R-hat, Bayesian Analysis 16(2); Geyer (1992), Practical Markov chain Monte Carlo, Statistical Science 7(4).
    """

    name: ClassVar[str] = "mcmc"

    def start(self, integrand: Integrand, source: Source, seed: int) -> "MarkovChainRun":
        """Begin a run.

        Raises:
            OptionError: q is no tree of draws.
        """
        del seed
        if not isinstance(source, TreeSource):
            raise OptionError(
                f"method='mcmc': q is {source.label}, wanted a tree of draws such as ppl.sample returns. Take "
                "method='plain' for what can be drawn from."
            )
        return MarkovChainRun(integrand, source)


class MarkovChainRun:
    """Values of f along the chains."""

    def __init__(self, integrand: Integrand, source: TreeSource):
        self.integrand, self.source = integrand, source
        self.values: list[Float64Array] = []
        self.place = 0

    def extend(self, num_draws: int) -> None:
        """Evaluate f at the next draws of every chain; none are left once the tree is used up."""
        chains, draws = self.source.shape
        last = min(draws, self.place + -(-num_draws // chains))
        step = max(1, chunk_size(self.source) // chains)
        while self.place < last:
            stop = min(last, self.place + step)
            found = self.integrand(self.source.rows(self.place, stop)).double().cpu().numpy()
            self.values.append(found.reshape(chains, stop - self.place, -1))
            self.place = stop

    def estimate(self) -> Estimate:
        """The mean, its error, and R-hat, effective sample sizes, tails and skewness of f."""
        shape: Any = self.integrand.shape
        values = np.concatenate(self.values, axis=1)
        chains, draws, _ = values.shape
        mean = values.mean(axis=(0, 1))
        still = np.ptp(values, axis=(0, 1)) == 0.0
        if draws < LEAST_DRAWS:
            found = np.full((4, len(mean)), math.nan)
        else:
            found = np.array([NOTHING if still[j] else _figures(values[:, :, j]) for j in range(len(mean))]).T
        error, ess, bulk, rhat = (
            np.where(still, at, figure) for at, figure in zip((0.0, 1.0, 1.0, 1.0), found, strict=True)
        )
        ess, bulk = np.where(still, chains * draws, ess), np.where(still, chains * draws, bulk)
        evidence = {"rhat": rhat.reshape(shape), "ess_bulk": bulk.reshape(shape), "chains": chains}
        return Estimate(
            mean.reshape(shape),
            error.reshape(shape),
            chains * draws,
            ess.reshape(shape),
            # the error is known about as well as from so many independent draws
            np.maximum(ess - 1.0, 1.0).reshape(shape),
            (*_checks(rhat, bulk, chains), *_check_values(values, ess)),
            evidence,
        )


def _figures(column: Float64Array) -> tuple[float, float, float, float]:
    """Standard error, effective sample size of the mean, that of the ranks, and R-hat, of (chain, draw)."""
    # one chain has nothing beside it but its own halves
    halves = column[:, : column.shape[1] // 2 * 2].reshape(2, -1) if len(column) == 1 else column
    figures: Any = (
        array_stats.mcse(column, method="mean"),
        array_stats.ess(column, method="mean"),
        array_stats.ess(column, method="bulk"),
        array_stats.rhat(halves, method="rank"),
    )
    error, ess, bulk, rhat = (float(figure) for figure in figures)
    return error, ess, bulk, rhat


def _checks(rhat: Float64Array, bulk: Float64Array, chains: int) -> tuple[Check, Check]:
    worst, least = float(np.max(rhat)), float(np.min(bulk))
    limit, alone = LEAST_ESS * chains, " of the halves of the one chain" if chains == 1 else ""
    mixed = None if math.isnan(worst) else worst <= MOST_RHAT
    enough = None if math.isnan(least) else least >= limit
    return (
        Check(
            "R-hat of f",
            worst,
            MOST_RHAT,
            mixed,
            "" if mixed else "run longer chains",
            detail=f"rank-normalised{alone}",
        ),
        Check("ESS of f", least, limit, enough, "" if enough else "run longer chains", detail="of the ranks (bulk)"),
    )


def _check_values(values: Float64Array, ess: Float64Array) -> tuple[Check, ...]:
    """Tails of f, and the skewness of its mean: from blocks of draws so long that they hardly depend on each other."""
    chains, draws, outputs = values.shape
    tails, moments = Tails(), Moments()
    tails.add(torch.from_numpy(values.reshape(-1, outputs)))
    least = float(np.nan_to_num(ess, nan=math.inf).min())
    length = min(max(math.ceil(chains * draws / least), 1), draws)
    blocks = values[:, : draws // length * length].reshape(chains, -1, length, outputs).mean(axis=2)
    moments.add(torch.from_numpy(blocks.reshape(-1, outputs)))
    what = "values" if length == 1 else f"means of {length:,} draws in a row"
    advice = "run longer chains, or let f grow less in the tails"
    return tuple(
        replace(check, advice=advice) if check.advice and check.name != SPREAD else check
        for check in (*tails.checks(), *moments.checks(what))
    )
