"""`ppl.audit`: can the inference of this autoencoder be believed, datum by datum?"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
import xarray as xr

from ppl_models.checks import Check
from ppl_models.errors import DataError, ModelError, OptionError
from ppl_models.inference import Fit
from ppl_models.inference.by_datum.held import hold_outside
from ppl_models.options import check_count
from ppl_models.seeds import check_seed, child_seed
from ppl_models.versions import versions
from ppl_models.workflow.audit.audit_result import Audit
from ppl_models.workflow.audit.checking import BRACKET, CHAINS, WIDEST, audit_checks
from ppl_models.workflow.audit.encoder_parts import EncoderParts, encoder_parts
from ppl_models.workflow.audit.encoding import Encoded, encoded, rows_of
from ppl_models.workflow.audit.gaps import settled
from ppl_models.workflow.audit.judging import (
    GAPS,
    MEAN_LIMIT,
    SD_LIMIT,
    gap_checks,
    gap_limit,
    khat_check,
    moment_checks,
    not_measured,
    verdict,
)
from ppl_models.workflow.audit.posterior_audit import PosteriorAudit
from ppl_models.workflow.audit.posteriors import LEAST_DRAWS, NUM_IMPORTANCE, audit_posteriors
from ppl_models.workflow.audit.rows_table import full_table, weights_table
from ppl_models.workflow.clock import Clock
from ppl_models.workflow.representation.coordinates import RowCoordinates
from ppl_models.workflow.representation.new_rows import rows_to_encode
from ppl_models.workflow.representation.representation import Representation, representation_of

MOST_ROWS = 2_000
"""Rows for what needs the encoder alone."""
NUM_GUIDE_DRAWS = 2_000
LEFT_OUT = "mcmc=False"
UNHEALTHY = {CHAINS: 0.0, BRACKET: WIDEST}


def audit(
    fit: Fit,
    data: Any = None,
    *,
    num_rows: int = 100,
    num_chains: int = 4,
    num_warmup: int = 100,
    num_draws: int = 400,
    num_guide_draws: int = NUM_GUIDE_DRAWS,
    num_encoder_draws: int = 200,
    num_simulations: int = 500,
    mcmc: bool = True,
    backend: str = "auto",
    seed: int = 0,
) -> Audit:
    """Hold q(z | x) of some rows against their exact posteriors, and the model against the data.

    For each row, the decoder frozen: the amortised q beside the best q of that row alone (amortisation gap), that
    beside log p(x) (approximation gap), log p(x) between bounds from below and above, MCMC draws, k-hat of the weights,
    and quadrature where the latents are one or two. Over up to 2,000 rows: active units, rate and distortion, the
    aggregated posterior against the prior, left-out features against their predictions. With rows of the model's own
    making: SBC.

    The verdict is on q(z | x) at these rows, the learnt parameters taken as they are; the model has checks of its own:

    - reject: every unit collapsed (whatever else holds), densities that are not finite, or weights of a typical row
      that cannot be used (median k-hat beyond its limit) and are needed: the gap fails or was not measured. A collapsed
      fit is rejected even where its q, the prior, is the posterior: it represents nothing.
    - trust: the mean gap to log p(x) is within 0.02 nats per unit (what means 0.2 posterior sds off cost), k-hats are
      within their limit where weights are needed (they are not nearly constant, and the row's gap is not surely small),
      means and sds of every unit are those of MCMC, and SBC passed; and the audit's own chains and bounds are sound.
      What was not measured is no pass.
    - correct: all else. Weight the draws row by row, and take MCMC for the rows beyond the limit of k-hat.

    Args:
        fit: of a model with a plate over its rows, with latents in it, and an amortised guide.
        data: the rows, as `ppl.fit` takes them; better rows that the fit has not seen, since an encoder is best at
            those that it has. None takes rows of the fit's own.
        num_rows: how many rows to audit one by one, chosen at random.
        num_chains: MCMC chains of each row.
        num_warmup: draws of each chain that are thrown away.
        num_draws: draws of each chain that are kept.
        num_guide_draws: draws of q(z | x) at each row for bounds, gaps and k-hat.
        num_encoder_draws: draws of q(z | x) for what needs the encoder alone.
        num_simulations: rows of the model's own making, for SBC.
        mcmc: whether to look for the exact posteriors; without, gaps, brackets and moments are not measured, and the
            verdict is not "trust".
        backend: of the log densities of rows: "auto", "inductor" or "eager".
        seed: of everything random.

    Returns:
        The audit, which prints as a table.

    Raises:
        OptionError: an option is out of its range, or the guide has no density.
        ModelError: the model has no latents of rows, or discrete ones.
        GuideError: the guide is not amortised.
        DataError: the rows do not suit the model.

    Cremer, Li and Duvenaud (2018), Inference suboptimality in variational autoencoders; Wu, Burda, Salakhutdinov and
    Grosse (2017), On the quantitative analysis of decoder-based generative models.
    """
    check_count("num_rows", num_rows)
    check_count("num_guide_draws", num_guide_draws, least=LEAST_DRAWS)
    check_count("num_encoder_draws", num_encoder_draws, least=100)
    check_count("num_simulations", num_simulations, least=20)
    check_seed(seed)
    clock = Clock()
    with clock.on("rows"):
        whole, few, places, held = _rows(fit, data, num_rows, seed)
    coordinates = RowCoordinates(whole, whole.program)
    if not coordinates.exists:
        raise ModelError(
            f"latents {', '.join(whole.rows.latents)}: one is discrete, or its support depends on another, and a row's "
            "posterior is taken over continuous latents."
        )
    parts = encoder_parts(
        whole,
        coordinates,
        rows_of(whole, whole.arguments),
        num_draws=num_encoder_draws,
        num_simulations=num_simulations,
        seed=child_seed(seed, "encoder"),
        clock=clock,
    )
    with clock.on("weights"):
        drawn = encoded(few, coordinates, rows_of(few, few.arguments), num_guide_draws, child_seed(seed, "rows"))
    found = None
    if mcmc:
        found = audit_posteriors(
            few.fit,
            num_chains=num_chains,
            num_warmup=num_warmup,
            num_draws=num_draws,
            num_guide_draws=num_guide_draws,
            backend=backend,
            seed=child_seed(seed, "posteriors"),
        )
    options = {
        "num_rows": num_rows,
        "num_chains": num_chains,
        "num_warmup": num_warmup,
        "num_draws": num_draws,
        "num_guide_draws": num_guide_draws,
        "num_encoder_draws": num_encoder_draws,
        "num_simulations": num_simulations,
        "mcmc": mcmc,
        "backend": backend,
        "seed": seed,
        "own_data": data is None,
        "held": held,
        "versions": versions(),
        "fit": dict(fit.config),
    }
    return _gathered(few, parts, drawn, found, places, clock, options)


def _rows(
    fit: Fit, data: Any, num_rows: int, seed: int
) -> tuple[Representation, Representation, np.ndarray, dict[str, str]]:
    """The fit at the rows for the encoder, at those audited one by one, the places of the latter, and what is held."""
    if not isinstance(fit, Fit):
        raise OptionError(f"fit: found {type(fit).__name__}, wanted the result of ppl.fit.")
    if not fit.has_density:
        raise OptionError(f"fit: guide '{fit.guide_name}' has no density, so that there is nothing to audit.")
    given, new = rows_to_encode(representation_of(_without_row_names(fit)), data)
    if new.num_rows < 2:
        raise DataError("data: found one row, wanted at least two, and a hundred for what is said of rows in general.")
    order = np.random.default_rng(child_seed(seed, "choice")).permutation(new.num_rows)
    places = np.sort(order[:num_rows])
    rows = replace(given.rows, num_rows=new.num_rows)
    whole, few = (
        given.at(rows.take(new.arguments, torch.from_numpy(index.copy())))
        for index in (np.sort(order[:MOST_ROWS]), places)
    )
    local, _ = hold_outside(whole, seed=child_seed(seed, "held"))
    local_few, held = hold_outside(few, seed=child_seed(seed, "held"))
    return representation_of(local), representation_of(local_few), places, held


def _without_row_names(fit: Fit) -> Fit:
    """The fit without names for its rows, which are others now, and for the axes of their latents."""
    representation = representation_of(fit)
    rows = {
        fit.labels.dims[name][representation.axis(name)]
        for name in (*representation.rows.latents, *representation.rows.observed)
        if name in fit.labels.dims
    }
    coords = {dim: values for dim, values in fit.labels.coords.items() if dim not in rows}
    # A user's name of a latent's axis may be one that a result gives to another axis: "latent", say.
    dims = {name: axes for name, axes in fit.labels.dims.items() if name not in representation.rows.latents}
    return replace(fit, labels=replace(fit.labels, coords=coords, dims=dims))


def _gathered(
    few: Representation,
    parts: EncoderParts,
    drawn: Encoded,
    found: PosteriorAudit | None,
    places: np.ndarray,
    clock: Clock,
    options: dict[str, Any],
) -> Audit:
    labels = [int(place) for place in places]
    if found is None:
        log_weight = settled(drawn.log_weight, torch.finfo(few.program.dtype).eps)
        table = weights_table(log_weight, NUM_IMPORTANCE, labels)
        gaps = [not_measured(name, gap_limit(len(drawn.labels)), LEFT_OUT) for name in GAPS]
        moments = [
            not_measured(name, limit, LEFT_OUT)
            for name, limit in (("means against MCMC", MEAN_LIMIT), ("sds against MCMC", SD_LIMIT))
        ]
        health = tuple(not_measured(name, limit, LEFT_OUT) for name, limit in UNHEALTHY.items())
    else:
        table = full_table(found, labels)
        gaps, moments = gap_checks(found), moment_checks(found, labels)
        health = audit_checks(found, labels).checks
    num_guide_draws = options["num_guide_draws"]
    khat = khat_check(table, num_guide_draws, gap_limit(len(drawn.labels)))
    inference: tuple[Check, ...] = (parts.units.check, khat, *gaps, *moments, parts.calibration)
    word, reasons = verdict(parts.units, table, inference, health, num_guide_draws)
    seconds = {**clock.seconds, **({} if found is None else {f"rows: {k}": v for k, v in found.seconds.items()})}
    return Audit(
        verdict=word,
        reasons=reasons,
        table=table,
        units=parts.units,
        point=parts.point,
        aggregated=parts.aggregated,
        ranks=parts.ranks,
        pit=parts.pit,
        posteriors=found,
        draws=_draws(drawn, found, labels),
        inference_checks=inference,
        model_checks=parts.model_checks,
        health=health,
        fit=few.fit,
        data=rows_of(few, few.arguments),
        rows=tuple(labels),
        seconds=seconds,
        config=options,
    )


def _draws(drawn: Encoded, found: PosteriorAudit | None, labels: list[int]) -> xr.DataTree:
    """Both sets of draws, unconstrained, dims (chain, draw, row, unit)."""
    arrays = {"amortised": drawn.points[None]}
    if found is not None:
        arrays["mcmc"] = found.draws
    coords = {"row": labels, "unit": list(drawn.labels)}
    dims = ("chain", "draw", "row", "unit")
    return xr.DataTree.from_dict(
        {f"/{name}/posterior": xr.Dataset({"z": (dims, values)}, coords=coords) for name, values in arrays.items()}
    )
