"""A short NUTS that starts from the fit and runs in its coordinates."""

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import torch
import xarray as xr

from ppl_models.diagnostics import Moments, baseline_gates, khat_limit, psis_weights
from ppl_models.diagnostics.labelled import labelled_draws
from ppl_models.errors import DataError
from ppl_models.inference import Fit, sample_chains
from ppl_models.inference.draws import unconstrained
from ppl_models.inference.private import private_copy
from ppl_models.program import Data
from ppl_models.seeds import child_seed
from ppl_models.workflow.correction.chain_moments import chain_moments
from ppl_models.workflow.correction.checks import advise, check_effective, check_precision
from ppl_models.workflow.correction.outcome import Outcome, Request
from ppl_models.workflow.correction.proposals import Proposals

CHAINS = 4
WARM, COLD = 300, 1_000
"""Draws of the warm-up: in the coordinates of a fit, and without any."""
TARGET, STRICTER = 0.9, 0.99
"""Acceptance statistic that warm-up aims at; the stricter one where chains with the usual one diverged."""
LEAST_LENGTH = 500
"""Draws of a chain, thinned where fewer are wanted: fewer do not tell that they have converged."""
LONGER = 4
"""Times as many draws, thinned again, and of the warm-up, in a second try."""
NUM_STARTS = 400
WIDER = 1.5
"""Starts lie so much further from their mean than the fit's own draws where these have no weights to be chosen by: as
R-hat wants them."""
LEAST_SECONDS = 0.1
ADVICE = "raise num_draws or max_seconds, or reparametrise the model (ppl.sample has more options)"


def correct_by_nuts(request: Request) -> Outcome:
    """Run NUTS from the fit; once more, longer, where the chains do not pass the gates of a baseline.

    Raises:
        TimeoutError: the seconds were used up before there were any draws.
        ModelError: no start was found.
    """
    options, length = _options(request), math.ceil(request.num_draws / CHAINS)
    tree, outcome, target = None, None, TARGET
    for attempt in range(2):
        if outcome is not None and request.seconds_left < LEAST_SECONDS:
            break
        thin = LONGER**attempt * math.ceil(LEAST_LENGTH / length)
        try:
            tree = _sample(request, options, thin, target, attempt)
        except TimeoutError:
            if outcome is None:
                raise
            break
        outcome = _judged(request, tree, thin)
        if outcome.passed:
            break
        target = STRICTER if _diverged(tree) else TARGET
    assert outcome is not None
    return outcome


def from_chains(request: Request, tree: xr.DataTree) -> Outcome:
    """Chains that are there already, judged like those of a short NUTS."""
    return _judged(request, tree, 1)


def _sample(request: Request, options: Mapping[str, Any], thin: int, target: float, attempt: int) -> xr.DataTree:
    warmup = (WARM if options["init"] is not None else COLD) * LONGER**attempt
    return sample_chains(
        chains=CHAINS,
        warmup=warmup,
        draws=thin * math.ceil(request.num_draws / CHAINS),
        target_accept=target,
        max_seconds=max(LEAST_SECONDS, request.seconds_left),
        seed=child_seed(request.seed, f"nuts {attempt}"),
        backend=request.backend,
        **options,
    )


def _options(request: Request) -> dict[str, Any]:
    """The fit's own program, and what the fit knows of where its posterior lies."""
    fit, program = request.fit, request.fit.program
    original: Any = getattr(program.model, "__wrapped__", program.model)
    pilot = request.pilot
    usable = not fit.point and bool(np.isfinite(pilot.matrix).all())
    return {
        "model": private_copy(original, {}, program.dtype, torch.device("cpu")),
        "data": data_of(fit),
        "parameters": {name: value.cpu() for name, value in fit.parameters.items()},
        "dtype": program.dtype,
        "coords": fit.labels.coords,
        "dims": fit.labels.dims,
        # the covariance of a point or of some particles is no measure of the posterior's
        "init": fit if usable and fit.has_density else None,
        "starts": _begin(request, usable),
    }


def _begin(request: Request, usable: bool) -> np.ndarray | None:
    if request.starts is not None:
        return request.starts
    return _starts(request.pilot, child_seed(request.seed, "starts")) if usable else None


def data_of(fit: Fit) -> Data:
    """The data of a fit as they are passed to `ppl_models.sample`."""
    arguments = fit.program.arguments
    return tuple(arguments.args) if arguments.args else dict(arguments.kwargs)


def _starts(pilot: Proposals, seed: int) -> np.ndarray:
    """Flat unconstrained points: draws chosen by their weights, else draws of the fit, spread a little."""
    rng, weights = np.random.default_rng(seed), None
    try:
        log_weights, khat = psis_weights(pilot.log_ratio)
    except DataError:
        pass
    else:
        weights = np.exp(log_weights) if khat <= khat_limit(len(pilot)) else None
    chosen = rng.choice(len(pilot), NUM_STARTS, p=None if weights is None else weights / weights.sum())
    points = _unconstrained(pilot, chosen)
    if weights is not None:
        return points
    centre = points.mean(axis=0)
    return centre + WIDER * (points - centre)


def _unconstrained(pilot: Proposals, chosen: np.ndarray) -> np.ndarray:
    program = pilot.fit.program
    values = {
        site.name: torch.as_tensor(pilot.values[site.name][chosen], device=program.device)
        for site in program.sites.latent
    }
    with program.isolated(seed=0):
        return unconstrained(program, values)


def _judged(request: Request, tree: xr.DataTree, thin: int) -> Outcome:
    kept = _thinned(tree, thin)
    posterior = kept["posterior"].to_dataset()
    found = labelled_draws(posterior)
    moments = chain_moments(found.values)
    diverging = tree["sample_stats"]["diverging"].to_numpy() if "diverging" in tree["sample_stats"] else None
    checks = (
        *baseline_gates(posterior, diverging),
        check_effective(moments, found.labels),
        check_precision(moments, found.labels),
    )
    for attrs in (kept.attrs, kept["posterior"].attrs):
        attrs["correction"] = "nuts"
    attrs = {
        "kernel_backend": tree.attrs.get("backend", ""),
        "warmup": tree.attrs.get("tuning_steps", 0),
        "steps_per_draw": thin,
    }
    return Outcome(kept, moments, _raw(request.pilot, found.labels), found.labels, advise(checks, ADVICE), attrs=attrs)


def _thinned(tree: xr.DataTree, thin: int) -> xr.DataTree:
    if thin == 1:
        return tree.copy()
    kept = tree.copy()
    for group in ("posterior", "sample_stats"):
        every = tree[group].to_dataset().isel(draw=slice(thin - 1, None, thin))
        kept[group] = xr.DataTree(every.assign_coords(draw=np.arange(every.sizes["draw"])))
    return kept


def _diverged(tree: xr.DataTree) -> bool:
    return "diverging" in tree["sample_stats"] and bool(tree["sample_stats"]["diverging"].any())


def _raw(pilot: Proposals, labels: tuple[str, ...]) -> Moments:
    """The fit's own moments, in the order of the chains' parameters; NaN for what the fit does not have."""
    order = {label: number for number, label in enumerate(pilot.labels)}
    places = np.array([order.get(label, -1) for label in labels])
    parts = (getattr(pilot.raw, part.name) for part in fields(Moments))
    return Moments(*(np.where(places < 0, np.nan, part[places]) for part in parts))
