"""The table of rules by which checks become a verdict."""

PSIS = "Correct the draws by PSIS (ppl.correct)."
NUTS = "ppl.correct(fit, method='nuts') samples it from there"
RICHER = "Use a richer guide or another parametrisation, or let MCMC go on from it (ppl.correct)."
UNSEEN = "a mode that the guide missed"
UNFOUND = "A mode that neither the guide nor any of eight other starts found cannot be seen; a baseline can see it."
MARGINALS_ONLY = "so do not importance-weight: start MCMC from the fit (ppl.correct) for anything but marginals."

# What the draws are held against; whether its moments (of the marginals, and jointly) are right, wrong (one failed at
# least) or unclear (the rest); k-hat: good, bad, unknown, or too near its limit to tell -> verdict, what to do.
# What is not here is rejected. The reference is the first that there is of: a baseline that passed its gates; a pool of
# the guide's draws and Pathfinder's whose weights are reliable; the guide's own weighted draws, where k-hat is good or
# near; the scores. Before any of these: failed draws or optimisation and point estimates are rejected.
RULES = {
    ("baseline", "right", "good"): ("trust", "Use the fit as it is."),
    ("baseline", "right", "near"): (
        "trust",
        "Use the fit as it is, but do not importance-weight it: whether that is safe is too near the limit to tell.",
    ),
    ("baseline", "right", "bad"): (
        "correct",
        f"The marginals match the baseline; the joint tails do not, {MARGINALS_ONLY}",
    ),
    ("baseline", "right", "unknown"): (
        "correct",
        "The marginals match the baseline; of the joint tails nothing is known, so do not importance-weight.",
    ),
    ("baseline", "unclear", "good"): ("correct", "The baseline is too short to tell: sample it longer (draws=)."),
    ("baseline", "wrong", "good"): ("correct", PSIS),
    ("pool", "right", "good"): ("trust", UNFOUND),
    ("pool", "right", "near"): ("trust", f"Do not importance-weight it. {UNFOUND}"),
    ("pool", "right", "bad"): ("correct", f"The marginals are right; the joint tails are not, {MARGINALS_ONLY}"),
    ("pool", "right", "unknown"): (
        "correct",
        f"The marginals are right; of the joint tails nothing is known, {MARGINALS_ONLY}",
    ),
    ("pool", "unclear", "good"): ("correct", "Too few draws to tell: raise num_draws, or correct them (ppl.correct)."),
    ("pool", "unclear", "near"): ("correct", "Judge it against a baseline, or raise num_draws."),
    ("pool", "wrong", "good"): ("correct", PSIS),
    ("psis", "right", "good"): (
        "trust",
        f"No diagnostic of the fit's own draws can see {UNSEEN}; a baseline can.",
    ),
    ("psis", "unclear", "good"): ("correct", "Too few draws to tell: raise num_draws."),
    ("psis", "unclear", "near"): ("correct", "Judge it against a baseline, or raise num_draws."),
    ("psis", "wrong", "good"): ("correct", f"{PSIS} Not even then is {UNSEEN} seen; a baseline can see it."),
    ("scores", "right", "bad"): (
        "correct",
        f"The gradients of the log density ask for no other means and sds, and yet the weights are unreliable: {NUTS}.",
    ),
    ("scores", "right", "unknown"): (
        "correct",
        f"The gradients of the log density ask for no other means and sds, and there are no weights: {NUTS}.",
    ),
}
OTHERWISE = {
    "baseline": "Use a richer guide, another parametrisation, or the baseline itself.",
    "pool": RICHER,
    "psis": "The fit cannot vouch for itself: use a richer guide, or check it with a baseline.",
    "scores": RICHER,
}
# What takes a "trust" away: (what the draws are held against, the name of a check that failed) -> verdict, what to do.
ELSEWHERE = (
    "reject",
    "Proposals from other starts found probability where the guide has none: use a guide with several modes (mixture), "
    "or MCMC.",
)
NO_WEIGHT = ("correct", f"The weights see nothing wrong, but what a guide does not reach has no weight: {NUTS}.")
SEVERAL = ("correct", "Independent starts ended apart, with bounds as good: use a guide with several modes (mixture).")
VETOES = {
    ("baseline", "classifier"): (
        "correct",
        f"The marginals match the baseline; how the parameters vary together does not, {MARGINALS_ONLY}",
    ),
    ("pool", "other starts"): ELSEWHERE,
    ("pool", "starts"): SEVERAL,
    ("psis", "other starts"): ELSEWHERE,
    ("psis", "starts"): SEVERAL,
    ("psis", "score mean"): NO_WEIGHT,
    ("psis", "score sd"): NO_WEIGHT,
}
# Instead of trusting draws for which nothing speaks but their own weights.
NOBODY_VOUCHES = (
    "correct",
    "Nothing but the guide's own weights speaks for it, and they cannot see what it does not reach: judge it against a "
    "baseline (ppl.sample), or sample from it by MCMC (ppl.correct).",
)
# Instead of rejecting a fit that was still improving, where a baseline or a pool agrees with its draws all the same.
AGREES_ANYHOW = (
    "correct",
    "The reference agrees with the draws all the same: raise max_steps, or correct them (ppl.correct).",
)
# instead of PSIS, where the draws so corrected do not agree with the reference either
UNREPAIRED = {
    "wrong": (
        "reject",
        "Importance weighting does not repair it, as when the guide misses a mode: use another guide or MCMC.",
    ),
    "unclear": (
        "correct",
        "Weighting the draws by PSIS goes wrong nowhere, but whether it repairs everything is not resolved: raise "
        "num_draws, or sample the baseline longer (draws=), before you rely on it, or use a richer guide.",
    ),
}
