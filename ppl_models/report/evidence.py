"""What tables and figures are made from: the draws that a verdict was reached on, and what they are held against."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ppl_models.diagnostics import Verdict, elbo_estimate
from ppl_models.diagnostics.labelled import labelled_draws
from ppl_models.errors import DataError, OptionError, PPLError
from ppl_models.inference import Fit
from ppl_models.program import Program, Site
from ppl_models.report.samples import (
    BASELINE,
    GUIDE,
    Sample,
    baseline_sample,
    khat_passed,
    psis_sample,
    reference_sample,
)
from ppl_models.seeds import child_seed
from ppl_models.workflow import AutoFit
from ppl_models.workflow.measuring import log_ratio_of

Float64Array = NDArray[np.float64]
Fits = Sequence[tuple[Fit, Verdict]] | Mapping[str, tuple[Fit, Verdict]]
"""Fits with their verdicts; the keys of a mapping name the guides."""

NUM_PREDICTIONS = 200


@dataclass(frozen=True)
class Predicted:
    """One observed site and what the fit predicts for it.

    Attributes:
        site: its name.
        observed: the data, flattened, shape (observation,).
        draws: predicted data, shape (draw, observation).
    """

    site: str
    observed: Float64Array = field(repr=False)
    draws: Float64Array = field(repr=False)


@dataclass(frozen=True)
class Evidence:
    """One fit with its verdict and draws.

    Attributes:
        name: of the guide, for people.
        samples: the guide's draws first, then those that it is compared with; the last is the reference.
        log_ratio: log p - log q in nats, shape (draw,).
        elbo: estimate and its Monte Carlo error, in nats; NaN for a point estimate.
        positive: labels of the scalar latents that are positive.
        latents: labels of all scalar latents.
        predicted: what is predicted for the data; empty where the model cannot draw them.
    """

    name: str
    fit: Fit
    verdict: Verdict
    samples: tuple[Sample, ...] = field(repr=False)
    log_ratio: Float64Array = field(repr=False)
    elbo: tuple[float, float]
    positive: tuple[str, ...]
    latents: tuple[str, ...] = field(repr=False)
    predicted: tuple[Predicted, ...] = field(repr=False)

    @property
    def reference(self) -> Sample:
        """What the guide's draws are held against."""
        return self.samples[-1]

    def worst(self, count: int) -> list[str]:
        """Labels of the parameters to look at, worst first; in the model's order where nothing was compared."""
        shown = set(self.samples[0].labels) & set(self.reference.labels)
        ranked = [str(label) for label in self.verdict.worst(len(self.verdict.table)).index]
        order = ranked or list(self.samples[0].labels)
        return [label for label in order if label in shown][:count]


def gather(
    fits: Fits, baseline: xr.DataTree | None = None, *, num_draws: int = 10_000, predictions: bool = True
) -> tuple[Evidence, ...]:
    """Draw again what the verdicts were reached on (the same seed gives the same draws).

    Args:
        fits: fits of one posterior with their verdicts.
        baseline: the draws that they were checked against.
        num_draws: draws of each fit, at least 100.
        predictions: whether to predict the data.

    Raises:
        OptionError: `fits` holds something else.
        DataError: the baseline has no posterior.
    """
    named = _named(fits)
    if baseline is not None and (not isinstance(baseline, xr.DataTree) or "posterior" not in baseline.children):
        raise DataError(
            f"baseline: found {type(baseline).__name__} without a group 'posterior', wanted draws as from ppl.sample."
        )
    shown = None if baseline is None else baseline_sample(baseline)
    return tuple(_evidence(name, fit, verdict, shown, num_draws, predictions) for name, fit, verdict in named)


def _named(fits: Fits) -> list[tuple[str, Fit, Verdict]]:
    if not isinstance(fits, Mapping | Sequence) or isinstance(fits, str):
        raise OptionError(f"fits: found {type(fits).__name__}, wanted a list of pairs (fit, verdict), or them by name.")
    pairs = list(fits.items()) if isinstance(fits, Mapping) else [(None, pair) for pair in fits]
    named = []
    for name, pair in pairs:
        is_pair = isinstance(pair, Sequence) and len(pair) == 2
        if not is_pair or not isinstance(pair[0], Fit) or not isinstance(pair[1], Verdict):
            raise OptionError(
                f"fits: found {type(pair).__name__} among them, wanted pairs (fit, verdict) of ppl.fit and ppl.check, "
                "as in write_report(path, [(fit, verdict)])."
            )
        named.append((str(name or pair[0].guide_name), *pair))
    if not named:
        raise OptionError("fits: found none, wanted at least one pair (fit, verdict).")
    return named


def _evidence(
    name: str, fit: Fit, verdict: Verdict, baseline: Sample | None, num_draws: int, predictions: bool
) -> Evidence:
    seed = verdict.config.get("seed", 0)
    # A fit chosen by evidence gives corrected draws; here the guide's own are shown beside the corrected ones.
    plain = fit.plain if isinstance(fit, AutoFit) and fit.chains is None else fit
    tree = plain.sample(num_draws, seed=child_seed(seed, "check"))
    draws = labelled_draws(tree["posterior"].to_dataset())
    own = Sample(GUIDE, name, draws.labels, draws.values.reshape(-1, len(draws.labels)))
    log_ratio = log_ratio_of(tree)
    samples = [own, *_compared(plain, verdict, own, log_ratio, baseline)]
    labels = _latent_labels(fit.program, draws.labels)
    return Evidence(
        name=name,
        fit=fit,
        verdict=verdict,
        samples=tuple(samples),
        log_ratio=log_ratio,
        # the log density at a point bounds no evidence
        elbo=_elbo(log_ratio) if fit.has_density else (float("nan"), float("nan")),
        positive=tuple(site.name for site in fit.program.sites.latent if _is_positive(site, own)),
        latents=labels,
        predicted=_predicted(fit, seed) if predictions else (),
    )


def _compared(
    fit: Fit, verdict: Verdict, own: Sample, log_ratio: Float64Array, baseline: Sample | None
) -> list[Sample]:
    """Corrected draws where they are of use, the baseline, and last what the verdict held the draws against."""
    reference = None if fit.point else reference_sample(fit, verdict, own)
    corrected = psis_sample(own, log_ratio, verdict) if fit.has_density else None
    # where k-hat is too large these draws are a few points over and over: better than nothing, not beside others
    weighted = [corrected] if corrected and (khat_passed(verdict) or (baseline is None and reference is None)) else []
    others = [sample for sample in (baseline, reference) if sample is not None]
    if baseline is not None and reference is None and verdict.reference != BASELINE and khat_passed(verdict):
        return [*others, *weighted]
    return [*weighted, *others]


def _elbo(log_ratio: Float64Array) -> tuple[float, float]:
    try:
        return elbo_estimate(log_ratio)
    except DataError:
        return float("nan"), float("nan")


def _is_positive(site: Site, own: Sample) -> bool:
    """Whether a site is a scalar that is positive without an upper bound, as scales are."""
    low, high = (getattr(site.support, name, None) for name in ("lower_bound", "upper_bound"))
    bounded = low is not None and float(low) == 0.0 and high is None
    return bounded and not site.shape and site.name in own.labels and bool((own.column(site.name) > 0).all())


def _latent_labels(program: Program, labels: Sequence[str]) -> tuple[str, ...]:
    names = {site.name for site in program.sites.latent}
    return tuple(label for label in labels if label.split("[", 1)[0] in names)


def _predicted(fit: Fit, seed: int) -> tuple[Predicted, ...]:
    try:
        tree = fit.predict(NUM_PREDICTIONS, seed=child_seed(seed, "predict"))
    except PPLError:
        return ()
    drawn, data = tree["posterior_predictive"].to_dataset(), tree["observed_data"].to_dataset()
    return tuple(
        Predicted(str(name), data[name].to_numpy().astype(float).ravel(), _flat(drawn[name].to_numpy()))
        for name in data.data_vars
        if name in drawn
    )


def _flat(values: np.ndarray) -> Float64Array:
    """(chain, draw, *event) to (draw, observation)."""
    return values.astype(float).reshape(values.shape[0] * values.shape[1], -1)
