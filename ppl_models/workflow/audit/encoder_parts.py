"""The parts of an audit that cost draws of q(z | x) alone: activity, rate, aggregate, calibration, generation."""

from dataclasses import dataclass

import numpy as np
import torch

from ppl_models.checks import Check
from ppl_models.diagnostics import (
    ActiveUnits,
    AggregatedPosterior,
    EncoderRanks,
    FeaturePIT,
    RateDistortion,
    active_units_of_draws,
    aggregated_posterior,
    rate_distortion,
)
from ppl_models.diagnostics.encoder_calibration import NAME as SBC
from ppl_models.diagnostics.generated import LIMIT as GENERATED_LIMIT
from ppl_models.diagnostics.generated import NAME as GENERATED
from ppl_models.diagnostics.generated import check_generated
from ppl_models.diagnostics.loo_pit import PIT_LIMIT
from ppl_models.seeds import child_seed
from ppl_models.workflow.audit.encoding import Generated, encoded, generated, observed_features
from ppl_models.workflow.audit.features import left_out, masked_features, pit_of_encoded, pit_of_prior
from ppl_models.workflow.audit.judging import not_measured
from ppl_models.workflow.audit.self_calibration import FALSE_ALARM_RATE, self_calibration
from ppl_models.workflow.clock import Clock
from ppl_models.workflow.representation.coordinates import RowCoordinates
from ppl_models.workflow.representation.representation import Representation

PIT_NAME = "predictive calibration"
LEAST_GENERATED = 1_000
MOST_LEFT_OUT, LEFT_OUT_DRAWS = 400, 2_000
"""Rows of which a feature is left out, and draws at each: weights that leave something out need many."""


@dataclass(frozen=True)
class EncoderParts:
    """What was found; the checks say why where a part is None."""

    units: ActiveUnits
    point: RateDistortion
    aggregated: AggregatedPosterior
    ranks: EncoderRanks | None
    pit: FeaturePIT | None
    calibration: Check
    model_checks: tuple[Check, ...]


def encoder_parts(
    representation: Representation,
    coordinates: RowCoordinates,
    data: dict[str, torch.Tensor],
    *,
    num_draws: int,
    num_simulations: int,
    seed: int,
    clock: Clock,
) -> EncoderParts:
    """Audit what needs no more than the encoder.

    Args:
        representation: of a fit at these rows, without latents outside of their plate.
        coordinates: of its latents.
        data: the rows, by argument.
        num_draws: of q(z | x) at each row.
        num_simulations: rows that the model makes itself for SBC.
        seed: of everything random.
        clock: counts the seconds.
    """
    with clock.on("encoding"):
        drawn = encoded(representation, coordinates, data, num_draws, child_seed(seed, "encode"))
    with clock.on("generation"):
        number = max(LEAST_GENERATED, num_simulations, drawn.points.shape[1])
        made = generated(representation, coordinates, data, number, child_seed(seed, "generate"))
        centre, scale = made.points.mean(axis=0), made.points.std(axis=0, ddof=1)
    with clock.on("aggregated posterior"):
        # The last draw of each row: independent of one another, as the rows are.
        aggregate = aggregated_posterior(drawn.points[-1], made.points, labels=drawn.labels, seed=seed)
        seen = _generated(representation, made)
    with clock.on("calibration"):
        few = made.first(representation, num_simulations)
        ranks = self_calibration(representation, coordinates, few, num_draws, child_seed(seed, "simulations"))
        pit = _left_out(representation, coordinates, data, child_seed(seed, "features"))
    point = rate_distortion(drawn.log_prior, drawn.log_likelihood, drawn.log_q)
    rate = point.rate + 2.0 * point.mcse[0]
    return EncoderParts(
        units=active_units_of_draws(drawn.points, labels=drawn.labels, prior_mean=centre, prior_sd=scale, rate=rate),
        point=point,
        aggregated=aggregate,
        ranks=None if isinstance(ranks, str) else ranks,
        pit=None if isinstance(pit, str) else pit,
        calibration=not_measured(SBC, FALSE_ALARM_RATE, ranks) if isinstance(ranks, str) else ranks.check,
        model_checks=(
            aggregate.check,
            not_measured(PIT_NAME, PIT_LIMIT, pit) if isinstance(pit, str) else pit.check,
            *seen,
        ),
    )


def _generated(representation: Representation, made: Generated) -> list[Check]:
    name, values = next(iter(observed_features(representation.fit, representation).items()))
    if masked_features(representation.fit, name):
        return [not_measured(GENERATED, GENERATED_LIMIT, f"the model masks values of '{name}'")]
    return [check_generated(made.observed[name], values)]


def _left_out(
    representation: Representation, coordinates: RowCoordinates, data: dict[str, torch.Tensor], seed: int
) -> FeaturePIT | str:
    """By draws of q(z | x), and by draws of the prior where their weights are too heavy, or one feature is all."""
    rows, number = representation.rows, min(representation.rows.num_rows, MOST_LEFT_OUT)
    few = {name: value[:number] for name, value in data.items()}
    fit = representation.at(rows.take(representation.arguments, slice(0, number)))
    chosen = left_out(fit, rows, seed)
    if isinstance(chosen, str):
        return chosen
    by_prior = child_seed(seed, "prior")
    if chosen.alone:
        return pit_of_prior(fit, rows, chosen, LEFT_OUT_DRAWS, by_prior)
    drawn = encoded(representation, coordinates, few, LEFT_OUT_DRAWS, child_seed(seed, "encode"))
    if not np.isfinite(drawn.log_weight).all():
        return "the densities of some rows are not finite"
    found = pit_of_encoded(fit, rows, chosen, drawn, seed)
    heavy = np.flatnonzero(~found.usable)
    if not len(heavy):
        return found
    places = np.flatnonzero(chosen.kept)[heavy]
    least = np.resize(places, max(2, len(places)))
    again = representation.at(rows.take(representation.arguments, torch.from_numpy(least)))
    return found.with_better(heavy, pit_of_prior(again, rows, chosen.of_rows(least), LEFT_OUT_DRAWS, by_prior))
