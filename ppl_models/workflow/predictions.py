"""`ppl.check_predictions`: can the fitted model produce data like those observed?"""

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyro.poutine as poutine
import torch
from torch.distributions import constraints

from ppl_models.diagnostics import Check
from ppl_models.diagnostics.predictive import check_predictive
from ppl_models.diagnostics.statistics import STATISTICS, spread_along, suited
from ppl_models.errors import DataError, OptionError, UnknownNameError, first_line
from ppl_models.inference import Fit
from ppl_models.options import check_count
from ppl_models.program import Site
from ppl_models.program.handlers import FromValues
from ppl_models.program.nodes import nodes_of
from ppl_models.seeds import check_seed

Statistics = Sequence[str] | Mapping[str, Callable[[np.ndarray], Any]]
MOST_NUMBERS = 100_000_000
"""Replicated data that are held at once, and the log densities of as many; 0.8 GB in double precision."""
COLUMNS = ("observed", "q5", "q50", "q95", "tail_probability", "mcse")


@dataclass(frozen=True, eq=False)
class Predictions:
    """Statistics of the data beside those of data that the fitted model produces.

    Attributes:
        table: one row per site and statistic: `observed`, the 5 %, 50 % and 95 % quantiles of the replicates, the
            two-sided `tail_probability` and its Monte Carlo error `mcse`.
        checks: one per row.
        num_draws: replicates of the data.
        seed: of the replicates.
    """

    table: pd.DataFrame
    checks: tuple[Check, ...]
    num_draws: int
    seed: int

    @property
    def failed(self) -> tuple[Check, ...]:
        """The statistics that the model does not reproduce."""
        return tuple(check for check in self.checks if check.passed is False)

    def _title(self) -> str:
        return f"{len(self.failed)} of {len(self.checks)} statistics fail, {self.num_draws:,} replicates of the data"

    def _marked(self) -> pd.DataFrame:
        return self.table.assign(mark=[check.mark for check in self.checks])

    def __str__(self) -> str:
        rows = self._marked().to_string(float_format=lambda value: f"{value:.4g}")
        said = [f"{check.name}: {check.detail}; {check.advice}" for check in self.failed]
        return "\n".join([f"Predictions: {self._title()}", rows, *said])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = self._marked().to_html(escape=True, float_format=lambda value: f"{value:.4g}")
        said = "".join(
            f"<p>{html.escape(f'{check.name}: {check.detail}; {check.advice}')}</p>" for check in self.failed
        )
        return f"<div><h4>Predictions: {html.escape(self._title())}</h4>{rows}{said}</div>"


def check_predictions(
    fit: Fit, *, statistics: Statistics | None = None, num_draws: int = 1_000, seed: int = 0
) -> Predictions:
    """Compare statistics of the data with those of data replicated from the fit's posterior.

    The data are seen twice, by the fit and by the check: a true model fails less often than the limit says, and a model
    that reproduces a statistic need not be right. Observations that the model masks do not count.

    Args:
        fit: what `ppl.fit` returned.
        statistics: names among mean, sd, min, max, median, zeros (share of them), runs and autocorrelation (both in
            the order of the data), or a mapping from a name of your own to a function of one data set, an array of the
            site's shape (without the masked values, if any), to a number. None takes what suits each site: mean, sd,
            min and max; of counts mean, sd, max and zeros; of binary data mean and runs; and where a site has several
            axes, the sd of means along each.
        num_draws: replicates of the data; at least 100, better 1,000.
        seed: of the replicates.

    Returns:
        The table and its checks.

    Raises:
        OptionError, UnknownNameError: an option is out of its range, or a statistic is not known.
        DataError: a statistic of yours fails, or gives no number.
        ModelError: the model fails at the posterior's draws.

    Gelman, Meng and Stern (1996), Posterior predictive assessment of model fitness, Statistica Sinica 6.
    """
    if not isinstance(fit, Fit):
        raise OptionError(f"fit: found {type(fit).__name__}, wanted the result of ppl.fit.")
    check_count("num_draws", num_draws, least=100)
    chosen = _chosen(statistics)
    if not fit.program.sites.observed:
        raise OptionError("fit: its model observes nothing, so there is nothing to predict.")
    check_size(fit, num_draws)
    tree = fit.predict(num_draws, seed=check_seed(seed))
    masks = _masks(fit)
    rows, checks = {}, []
    for site in fit.program.sites.observed:
        observed = tree["observed_data"][site.name].to_numpy().astype(float)
        replicated = tree["posterior_predictive"][site.name].to_numpy()[0].astype(float)
        keep = masks[site.name]
        if keep is not None and not keep.any():
            continue
        for name, statistic in _functions(chosen, site, keep):
            figures, figure = statistic(replicated), float(statistic(observed[None])[0])
            check = check_predictive(f"{name} of '{site.name}'", figure, figures)
            quantiles = np.quantile(figures, [0.05, 0.5, 0.95])
            rows[site.name, name] = dict(zip(COLUMNS, (figure, *quantiles, check.value, check.mcse), strict=True))
            checks.append(check)
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(COLUMNS))
    table.index = pd.MultiIndex.from_tuples(list(rows), names=["site", "statistic"])
    return Predictions(table, tuple(checks), num_draws, seed)


def check_size(fit: Fit, num_draws: int) -> None:
    """Refuse more replicated data than memory is likely to hold.

    Raises:
        OptionError: says how many draws would do.
    """
    size = sum(site.shape.numel() for site in fit.program.sites.observed)
    if num_draws * size > MOST_NUMBERS:
        raise OptionError(
            f"num_draws: found {num_draws:,} for {size:,} observed numbers, wanted at most {MOST_NUMBERS // size:,}: "
            "replicated data are held in memory. Draw fewer, or fit a part of the data."
        )


def _chosen(statistics: Statistics | None) -> Statistics | None:
    if statistics is None or isinstance(statistics, Mapping):
        return statistics
    names = (statistics,) if isinstance(statistics, str) else tuple(statistics)
    for name in names:
        if name not in STATISTICS:
            raise UnknownNameError("statistic", name, STATISTICS)
    return names


def _masks(fit: Fit) -> dict[str, np.ndarray | None]:
    """Which elements of each observed site count; None for all."""
    program = fit.program
    with program.isolated(seed=0), torch.no_grad():
        drawn = poutine.trace(fit.guide).get_trace(*program.arguments.args, **program.arguments.kwargs)
        names = [site.name for site in program.sites.latent + program.sites.discrete]
        with FromValues({name: nodes_of(drawn)[name]["value"] for name in names}):
            trace = poutine.trace(program.model).get_trace(*program.arguments.args, **program.arguments.kwargs)
    return {site.name: _mask(site, nodes_of(trace)[site.name]["mask"]) for site in program.sites.observed}


def _mask(site: Site, mask: Any) -> np.ndarray | None:
    if mask is None or mask is True:
        return None
    batch = site.shape[: len(site.shape) - site.event_dim]
    keep = torch.as_tensor(mask).expand(batch).reshape(*batch, *[1] * site.event_dim).expand(site.shape)
    return None if bool(keep.all()) else keep.cpu().numpy()


def _functions(
    chosen: Statistics | None, site: Site, keep: np.ndarray | None
) -> list[tuple[str, Callable[[np.ndarray], np.ndarray]]]:
    """Statistics of data of shape (draw, *event), by name."""
    if isinstance(chosen, Mapping):
        return [(name, _looped(name, function, keep)) for name, function in chosen.items()]
    names = chosen
    if names is None:
        support: Any = site.support
        while hasattr(support, "base_constraint"):
            support = support.base_constraint
        names = suited(discrete=bool(support.is_discrete), binary=support is constraints.boolean)
    found = [(name, _flattened(name, keep)) for name in names]
    if chosen is None and keep is None and len(site.shape) > 1:
        found += [
            (f"sd of means by {dim}", spread_along(axis))
            for axis, (dim, size) in enumerate(zip(site.dims(), site.shape, strict=True))
            if size > 1
        ]
    return found


def _flattened(name: str, keep: np.ndarray | None) -> Callable[[np.ndarray], np.ndarray]:
    return lambda values: STATISTICS[name](values.reshape(len(values), -1) if keep is None else values[:, keep])


def _looped(name: str, function: Callable[[np.ndarray], Any], keep: np.ndarray | None) -> Callable[..., np.ndarray]:
    def each(values: np.ndarray) -> np.ndarray:
        try:
            return np.array([float(function(value if keep is None else value[keep])) for value in values])
        except Exception as error:
            raise DataError(
                f"statistics['{name}']: it fails on data of shape {values.shape[1:]}: {first_line(error)}. Give a "
                "function that takes one data set, a NumPy array, and returns a number."
            ) from error

    return each
