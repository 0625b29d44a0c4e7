"""SBC of the encoder with data that the model made itself."""

import numpy as np

from ppl_models.diagnostics import EncoderRanks, encoder_ranks
from ppl_models.seeds import child_seed
from ppl_models.workflow.audit.encoding import Generated, encoded
from ppl_models.workflow.representation.coordinates import RowCoordinates
from ppl_models.workflow.representation.decoding import LOG_LIKELIHOOD, decoded
from ppl_models.workflow.representation.new_rows import rows_to_encode
from ppl_models.workflow.representation.representation import Representation

FALSE_ALARM_RATE = 0.01
JOINT = "log p(x, z)"


def self_calibration(
    representation: Representation, coordinates: RowCoordinates, made: Generated, num_draws: int, seed: int
) -> EncoderRanks | str:
    """Rank the latents that made each row among draws of q(z | x) at it; no refit, for the decoder stays as it is.

    Args:
        representation: of a fit without latents outside of the plate.
        coordinates: of its latents.
        made: rows from the model, with their latents.
        num_draws: to rank among.
        seed: of the draws.

    Returns:
        The ranks of every unit and of the joint density, or why there are none.
    """
    if made.data is None:
        return "an observed site is not the value of an argument, so that no data can be put in its place"
    found = encoded(representation, coordinates, made.data, num_draws, child_seed(seed, "encode"))
    _, new = rows_to_encode(representation, dict(made.data))
    fit = representation.at(new.arguments)
    truth = {name: value[None] for name, value in made.latents.items()}
    model = decoded(fit, representation.rows, truth, 1, child_seed(seed, "truth"), wanted=(LOG_LIKELIHOOD,))
    joint = np.asarray(sum(model.log_likelihood.values(), start=model.log_prior)[0].double().cpu())
    if not (np.isfinite(found.points).all() and np.isfinite(joint).all()):
        return "latents or densities are not finite"
    return encoder_ranks(
        made.points,
        found.points,
        found.labels,
        scores={JOINT: (joint, found.log_prior + found.log_likelihood)},
        false_alarm_rate=FALSE_ALARM_RATE,
        seed=child_seed(seed, "ties"),
    )
