"""Independence Metropolis-Hastings: chains whose proposals are draws of the fit."""

import math

import numpy as np

from ppl_models.diagnostics import baseline_gates
from ppl_models.diagnostics.khat import valid_log_ratio
from ppl_models.diagnostics.resampling import metropolise
from ppl_models.seeds import child_seed
from ppl_models.workflow.correction.chain_moments import chain_moments
from ppl_models.workflow.correction.checks import (
    RAISE,
    USE_NUTS,
    advise,
    check_acceptance,
    check_effective,
    check_precision,
    check_stay,
    check_weights,
)
from ppl_models.workflow.correction.outcome import Outcome, Request

CHAINS = 4
MOST_PROPOSALS = 200_000
HOPELESS = 10
"""Times as many proposals as there may be: chains that would need more stick, however many they get."""
STEPS_PER_DRAW = 2.0
"""Steps kept apart by this many over the efficiency of importance sampling, which a chain's is about half of at least
(Liu 1996)."""


def correct_by_independence(request: Request) -> Outcome:
    """Run chains that propose independent draws of the fit; each starts at a draw chosen by its importance weight.

    Raises:
        DataError: the weights cannot be computed.

    Tierney (1994), Markov chains for exploring posterior distributions, Annals of Statistics 22(4).
    """
    pilot = request.pilot
    ratio = valid_log_ratio(pilot.log_ratio)
    weights = np.exp(ratio - np.logaddexp.reduce(ratio))
    first = np.random.default_rng(child_seed(request.seed, "start")).choice(len(pilot), CHAINS, p=weights)
    length = math.ceil(request.num_draws / CHAINS)
    thin = _steps_per_draw(request, weights, CHAINS * length)
    proposals = request.propose(CHAINS * thin * length, "chains")
    steps = valid_log_ratio(proposals.log_ratio).reshape(CHAINS, -1)
    path = metropolise(steps, ratio[first], child_seed(request.seed, "path"))

    everything = pilot.and_more(proposals)
    offsets = len(pilot) + steps.shape[1] * np.arange(CHAINS)[:, None]
    kept = slice(thin - 1, None, thin)
    places = np.where(path < 0, first[:, None], offsets + path)[:, kept]
    moved = (path == np.arange(steps.shape[1]))[:, kept]
    tree = everything.tree(places, {"accepted": moved}, {"correction": "imh", "steps_per_draw": thin})
    moments = chain_moments(everything.matrix[places])
    proposed = (check_weights(everything.log_ratio), check_acceptance(path), check_stay(path))
    advice = next((check.advice for check in reversed(proposed) if check.advice), f"{RAISE}; else {USE_NUTS}")
    mixed = (
        *baseline_gates(tree["posterior"].to_dataset()),
        check_effective(moments, pilot.labels),
        check_precision(moments, pilot.labels),
    )
    return Outcome(tree, moments, everything.raw, pilot.labels, advise((*proposed, *mixed), advice), len(everything))


def _steps_per_draw(request: Request, weights: np.ndarray, num_draws: int) -> int:
    """Steps that make a draw kept nearly independent of the one before, if there are the seconds for them."""
    wanted = math.ceil(STEPS_PER_DRAW * len(weights) * float((weights**2).sum()))
    most = max(1, min(MOST_PROPOSALS, request.pilot.most) // num_draws)
    if wanted > HOPELESS * most:
        return 1  # such chains stick, however long they are
    return next((steps for steps in range(min(wanted, most), 1, -1) if request.affords(steps * num_draws)), 1)
