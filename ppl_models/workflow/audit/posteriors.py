"""Audit q(z | x) at some rows: beside optimisation, Markov chains and quadrature, row by row."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ppl_models.diagnostics import khat_by_datum
from ppl_models.diagnostics.khat import relative_ess
from ppl_models.errors import OptionError
from ppl_models.inference import Fit
from ppl_models.inference.by_datum.amortised import OTHER, amortised_normals, amortised_points
from ppl_models.inference.by_datum.best_normals import best_normals
from ppl_models.inference.by_datum.bracket import Bracket, bracket
from ppl_models.inference.by_datum.grid import MOST_DIMS, GridPosteriors, grid_posteriors
from ppl_models.inference.by_datum.held import hold_outside
from ppl_models.inference.by_datum.normals import FAMILIES, FULL_RANK, Normals
from ppl_models.inference.by_datum.nuts import DatumChains, datum_nuts
from ppl_models.inference.by_datum.target import DatumTarget
from ppl_models.inference.chain_limits import ESS_LIMIT, RHAT_LIMIT
from ppl_models.inference.evidence.annealing_options import num_threads
from ppl_models.inference.evidence.importance_bound import draw_weights
from ppl_models.options import check_choice, check_count
from ppl_models.program import Data
from ppl_models.seeds import check_seed, child_seed
from ppl_models.versions import versions
from ppl_models.workflow.audit.checking import audit_checks
from ppl_models.workflow.audit.gaps import amortisation_gap, bounds_by_row, compare_moments, mean_weight, settled
from ppl_models.workflow.audit.posterior_audit import Array, Estimates, PosteriorAudit
from ppl_models.workflow.clock import Clock

AUTO = "auto"
LEAST_DRAWS = 500
LEAST_CHAINS = 2
NUM_IMPORTANCE = (1, 5, 50)
COARSEST = 0.01
"""Nats by which a quadrature may change as its step is halved, and still be taken for log p(x)."""


@dataclass(frozen=True)
class AuditOptions:
    """How to audit; `audit_posteriors` says what each is."""

    num_chains: int
    num_warmup: int
    num_draws: int
    num_importance: tuple[int, ...]
    num_guide_draws: int
    num_temperatures: int
    num_annealing_chains: int
    family: str
    backend: str
    seed: int

    def __post_init__(self) -> None:
        check_count("num_chains", self.num_chains, least=LEAST_CHAINS)
        check_count("num_warmup", self.num_warmup, least=20)
        check_count("num_draws", self.num_draws, least=20)
        for size in self.num_importance:
            check_count("num_importance", size)
        if 1 not in self.num_importance:
            raise OptionError(f"num_importance: found {self.num_importance}, wanted 1, the ELBO, among them.")
        check_count("num_guide_draws", self.num_guide_draws, least=max(LEAST_DRAWS, 10 * max(self.num_importance)))
        check_count("num_temperatures", self.num_temperatures, least=2)
        check_count("num_annealing_chains", self.num_annealing_chains, least=8)
        check_choice("family", self.family, (AUTO, *FAMILIES))
        check_seed(self.seed)

    def child(self, stage: str) -> int:
        """The seed of a stage."""
        return child_seed(self.seed, stage)


@dataclass(frozen=True)
class Amortised:
    """The amortised q at the rows: normals where it is that, and its log weights (draw, row) in nats."""

    family: str
    normals: Normals | None
    start: Normals
    log_weights: Array
    noise: torch.Tensor


def audit_posteriors(
    fit: Fit,
    data: Data | None = None,
    *,
    num_chains: int = 4,
    num_warmup: int = 100,
    num_draws: int = 600,
    num_importance: Sequence[int] = NUM_IMPORTANCE,
    num_guide_draws: int = 2_000,
    num_temperatures: int = 30,
    num_annealing_chains: int = 16,
    family: str = AUTO,
    backend: str = AUTO,
    seed: int = 0,
) -> PosteriorAudit:
    """Hold q(z | x) of some rows against their exact posteriors p(z | x), the learnt parameters held fixed.

    Latents outside of the plate over the rows are held at the guide's mean; the result says so.

    Args:
        fit: of a model with a plate over its rows, latents inside it, and a guide that serves any rows.
        data: the rows to audit, as `ppl.fit` takes them; None takes those of the fit.
        num_chains: chains of the no-U-turn sampler of each row.
        num_warmup: draws of each chain that are thrown away.
        num_draws: draws of each chain that are kept.
        num_importance: numbers of weights K of the bounds L_K; 1 among them.
        num_guide_draws: draws of q that bounds and gaps are estimated from.
        num_temperatures: steps of annealed importance sampling.
        num_annealing_chains: its chains, each way.
        family: of each row's own best normal: "diagonal", "full_rank", or "auto", that of the guide where it is
            normal, else "full_rank".
        backend: as of `ppl_models.inference.by_datum.target.DatumTarget`.
        seed: of everything random.

    Raises:
        OptionError: an option is out of its range; the guide has no density; no rows are given, of a fit of batches.
        ModelError: the model has no plate over its rows, or no posterior of one row; discrete sites are summed out.
        DataError, GuideError: the rows do not suit the model, or the guide does not serve other rows.
    """
    options = AuditOptions(
        num_chains,
        num_warmup,
        num_draws,
        tuple(num_importance),
        num_guide_draws,
        num_temperatures,
        num_annealing_chains,
        family,
        backend,
        seed,
    )
    if not fit.has_density:
        raise OptionError(f"fit: guide '{fit.guide_name}' has no density, so that there is nothing to audit.")
    if data is None and fit.program.batched:
        raise OptionError("data: found None, and the fit saw its data in batches. Give the rows to audit.")
    clock = Clock()
    with clock.on("preparing"):
        local, held = hold_outside(fit if data is None else fit.at(data), seed=options.child("held"))
    threads = num_threads(local.program, num_chains)
    with local.program.isolated(seed=options.child("world"), num_threads=threads), torch.no_grad():
        with clock.on("preparing"):
            target = DatumTarget(local.program, backend)
        with clock.on("weights"):
            amortised = _amortised(local, target, options)
        with clock.on("optimisation"):
            metric = best_normals(target, amortised.start, FULL_RANK, seed=options.child("noise")).normals
        with clock.on("mcmc"):
            chains = datum_nuts(
                target,
                metric,
                num_chains=num_chains,
                num_warmup=num_warmup,
                num_draws=num_draws,
                seed=options.child("mcmc"),
            )
        with clock.on("optimisation"):
            best, best_family = _best(target, amortised, metric, chains, options)
        with clock.on("weights"):
            best_weights = _log_weights(target, best, amortised.noise)
        with clock.on("annealing"):
            found = _bracket(target, chains, options)
        with clock.on("quadrature"):
            grid = _grid(target, amortised, chains, options)
        guide_mean, guide_sd = (_array(one) for one in (amortised.start.mean, amortised.start.sd))
    return _gathered(
        options, target, amortised, best_weights, best_family, chains, found, grid, guide_mean, guide_sd, held, clock
    )


def _amortised(fit: Fit, target: DatumTarget, options: AuditOptions) -> Amortised:
    normals, family = amortised_normals(fit, target, seed=options.child("amortised"))
    shape = (options.num_guide_draws, target.num_data, target.num_dims)
    generator = target.generator(options.child("guide"))
    noise = torch.randn(shape, generator=generator, dtype=fit.program.dtype, device=fit.program.device)
    if normals is not None:
        return Amortised(family, normals, normals, _log_weights(target, normals, noise), noise)
    weights, _ = draw_weights(fit, options.num_guide_draws, options.child("guide"))
    points = amortised_points(fit, target, options.num_guide_draws, seed=options.child("guide"))
    start = Normals.of_draws(points)
    weights = settled(weights.reshape(len(weights), -1), torch.finfo(fit.program.dtype).eps)
    return Amortised(OTHER, None, start, weights, noise)


def _log_weights(target: DatumTarget, normals: Normals, noise: torch.Tensor) -> Array:
    values, _ = target(normals.points(noise))
    return settled(_array(values - normals.log_prob_at(noise)), torch.finfo(values.dtype).eps)


def _best(
    target: DatumTarget, amortised: Amortised, metric: Normals, chains: DatumChains, options: AuditOptions
) -> tuple[Normals, str]:
    """The best normals from three starts: where q is, its best full-rank normal, and the moments of the MCMC draws."""
    family = FULL_RANK if amortised.family == OTHER else amortised.family
    family = family if options.family == AUTO else options.family
    points = target.tensor(chains.points.reshape(-1, target.num_data, target.num_dims))
    starts = (metric if family == FULL_RANK else amortised.start, Normals.of_draws(points))
    first, second = (best_normals(target, one, family, seed=options.child("noise")) for one in starts)
    return first.normals.where(first.objective >= second.objective, second.normals), family


def _bracket(target: DatumTarget, chains: DatumChains, options: AuditOptions) -> Bracket:
    """The path starts at the moments of every other draw, and the reverse run at draws between them."""
    points = target.tensor(chains.points[:, ::2].reshape(-1, target.num_data, target.num_dims))
    return bracket(
        target,
        Normals.of_draws(points),
        chains.points[:, 1::2],
        num_temperatures=options.num_temperatures,
        num_chains=options.num_annealing_chains,
        seed=options.child("annealing"),
    )


def _grid(
    target: DatumTarget, amortised: Amortised, chains: DatumChains, options: AuditOptions
) -> GridPosteriors | None:
    if target.num_dims > MOST_DIMS:
        return None
    draws = chains.points.reshape(-1, target.num_data, target.num_dims)
    return grid_posteriors(target, amortised.normals, draws, seed=options.child("grid"))


def _gathered(
    options: AuditOptions,
    target: DatumTarget,
    amortised: Amortised,
    best_weights: Array,
    best_family: str,
    chains: DatumChains,
    found: Bracket,
    grid: GridPosteriors | None,
    guide_mean: Array,
    guide_sd: Array,
    held: dict[str, str],
    clock: Clock,
) -> PosteriorAudit:
    elbo, best_elbo = mean_weight(amortised.log_weights), mean_weight(best_weights)
    evidence = Estimates(found.log_evidence, found.log_evidence_error)
    if grid is not None:
        # where a box is too wide for its points, annealing may know better
        exact = (grid.error <= np.fmax(evidence.error, COARSEST)) | np.isnan(evidence.value)
        evidence = Estimates(
            np.where(exact, grid.log_evidence, evidence.value), np.where(exact, grid.error, evidence.error)
        )
    rhat = chains.rhat.max(1)
    ess = np.minimum(chains.bulk_ess, chains.tail_ess).min(1)
    reliable = (rhat <= RHAT_LIMIT) & (ess >= ESS_LIMIT) & (chains.divergences == 0)
    config: dict[str, Any] = {
        **options.__dict__,
        "backend": target.backend,
        "mcmc_gradients": chains.gradients,
        "versions": versions(),
    }
    audit = PosteriorAudit(
        num_rows=target.num_data,
        units=target.units,
        elbo=elbo,
        best_elbo=best_elbo,
        best_family=best_family,
        guide_family=amortised.family,
        bounds=bounds_by_row(amortised.log_weights, options.num_importance),
        lower=Estimates(found.lower, found.lower_error),
        upper=Estimates(found.upper, found.upper_error),
        log_evidence=evidence,
        amortisation_gap=amortisation_gap(best_weights, amortised.log_weights, common=amortised.normals is not None),
        approximation_gap=evidence.less(best_elbo),
        inference_gap=evidence.less(elbo),
        khat=khat_by_datum(amortised.log_weights),
        relative_ess=relative_ess(amortised.log_weights),
        moments=compare_moments(
            chains, guide_mean, guide_sd, None if amortised.normals is not None else options.num_guide_draws
        ),
        draws=chains.points,
        rhat=rhat,
        ess=ess,
        divergences=chains.divergences,
        reliable=reliable,
        grid=grid,
        held=held,
        checks=(),
        seconds=dict(clock.seconds),
        config=config,
    )
    return audit_checks(audit)


def _array(values: torch.Tensor) -> Array:
    return values.double().cpu().numpy()
