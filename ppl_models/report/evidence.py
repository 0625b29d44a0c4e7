"""What tables and figures are made from: the draws that a verdict was reached on, and what they are held against."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ppl_models.diagnostics import Verdict, elbo_estimate, gates_passed, psis_weights
from ppl_models.diagnostics.labelled import labelled_draws
from ppl_models.errors import DataError, OptionError, PPLError
from ppl_models.inference import Fit
from ppl_models.program import Program, Site
from ppl_models.seeds import child_seed
from ppl_models.workflow import AutoFit
from ppl_models.workflow.baseline import tree_gates
from ppl_models.workflow.judging import log_ratio_of

Float64Array = NDArray[np.float64]
Fits = Sequence[tuple[Fit, Verdict]] | Mapping[str, tuple[Fit, Verdict]]
"""Fits with their verdicts; the keys of a mapping name the guides."""

GUIDE, PSIS, BASELINE = "guide", "psis", "baseline"
NUM_PREDICTIONS = 200


@dataclass(frozen=True)
class Sample:
    """Equally weighted draws of scalar parameters, to be shown.

    Attributes:
        kind: "guide", "psis" or "baseline".
        name: for legends.
        labels: one per scalar parameter.
        values: draws, shape (draw, parameter).
        diverging: whether each draw diverged, shape (draw,); None where that has no meaning.
    """

    kind: str
    name: str
    labels: tuple[str, ...]
    values: Float64Array = field(repr=False)
    diverging: NDArray[np.bool_] | None = field(default=None, repr=False)

    def column(self, label: str) -> Float64Array:
        """The draws of one parameter, shape (draw,)."""
        return self.values[:, self.labels.index(label)]


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
    shown = None if baseline is None else _baseline_sample(baseline)
    return tuple(_evidence(name, fit, verdict, shown, num_draws, predictions) for name, fit, verdict in named)


def _named(fits: Fits) -> list[tuple[str, Fit, Verdict]]:
    pairs = list(fits.items()) if isinstance(fits, Mapping) else [(None, pair) for pair in fits]
    named = []
    for name, pair in pairs:
        if len(pair) != 2 or not isinstance(pair[0], Fit) or not isinstance(pair[1], Verdict):
            raise OptionError("fits: wanted pairs (fit, verdict), from ppl.fit and ppl.check.")
        named.append((str(name or pair[0].guide_name), *pair))
    if not named:
        raise OptionError("fits: found none, wanted at least one pair (fit, verdict).")
    return named


def _evidence(
    name: str, fit: Fit, verdict: Verdict, baseline: Sample | None, num_draws: int, predictions: bool
) -> Evidence:
    seed = verdict.config.get("seed", 0)
    # A fit chosen by evidence gives corrected draws; here the guide's own are shown beside the corrected ones.
    tree = (fit.plain if isinstance(fit, AutoFit) and fit.has_density else fit).sample(
        num_draws, seed=child_seed(seed, "check")
    )
    draws = labelled_draws(tree["posterior"].to_dataset())
    own = Sample(GUIDE, name, draws.labels, draws.values.reshape(-1, len(draws.labels)))
    log_ratio = log_ratio_of(tree)
    corrected = _psis_sample(own, log_ratio, verdict, seed) if fit.has_density else None
    # where k-hat is too large these draws are a few points over and over: better than nothing, not beside a baseline
    usable = baseline is None or _khat_passed(verdict)
    samples = [own, *([corrected] if corrected and usable else []), *([baseline] if baseline else [])]
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


def _baseline_sample(tree: xr.DataTree) -> Sample:
    draws = labelled_draws(tree["posterior"].to_dataset(), what="baseline")
    name = "MCMC" if gates_passed(tree_gates(tree)) else "MCMC, gates failed"
    return Sample(BASELINE, name, draws.labels, draws.values.reshape(-1, len(draws.labels)), _diverging(tree))


def _diverging(tree: xr.DataTree) -> NDArray[np.bool_] | None:
    if "sample_stats" not in tree.children or "diverging" not in tree["sample_stats"].to_dataset():
        return None
    return tree["sample_stats"].to_dataset()["diverging"].to_numpy().astype(bool).reshape(-1)


def _psis_sample(own: Sample, log_ratio: Float64Array, verdict: Verdict, seed: int) -> Sample | None:
    """The guide's draws, resampled by their smoothed importance weights."""
    try:
        log_weights, _ = psis_weights(log_ratio)
    except DataError:
        return None
    rng = np.random.default_rng(child_seed(seed, "report"))
    chosen = rng.choice(len(log_ratio), size=len(log_ratio), p=np.exp(log_weights) / np.exp(log_weights).sum())
    note = "" if _khat_passed(verdict) else ", k-hat too large"
    return Sample(PSIS, f"after PSIS{note}", own.labels, own.values[chosen])


def _khat_passed(verdict: Verdict) -> bool:
    return any(check.name == "k-hat" and check.passed is True for check in verdict.checks)


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
