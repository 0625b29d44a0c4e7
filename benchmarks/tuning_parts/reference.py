"""posteriordb's reference draws in the unconstrained space of our models, and fits' draws beside its moments."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from benchmarks.posteriordb import Problem
from ppl_models.program import Program, map_draws


def site_values(draw: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The draw with the latents that stand behind the reference's transformed parameters."""
    behind = {}
    if "tau" in draw:
        behind["theta_trans"] = (draw["theta"] - draw["mu"][..., None]) / draw["tau"][..., None]
    elif "phi" in draw and "mu" in draw:
        behind["theta_quarters"] = 4.0 * draw["theta"]
    elif "theta1" in draw and "mu" in draw:
        behind |= {"mu_low": draw["mu"][..., 0], "mu_gap": draw["mu"][..., 1] - draw["mu"][..., 0]}
    return {**draw, **behind}


def has_all_sites(problem: Problem, program: Program) -> bool:
    """Whether the reference draws give every latent of the model."""
    known = site_values({name: torch.as_tensor(values) for name, values in problem.reference.items()})
    return all(site.name in known for site in program.sites.latent)


def unconstrained_draws(
    problem: Problem, program: Program, draws_of: Mapping[str, np.ndarray] | None = None
) -> np.ndarray:
    """Draws of the posterior, shape (draw, dim).

    Args:
        problem: whose reference draws they are.
        program: the model with its data.
        draws_of: latent -> other draws instead, shape (chain, draw, *shape).
    """
    draws = {
        name: torch.as_tensor(values.reshape(-1, *values.shape[2:]), dtype=program.dtype)
        for name, values in (draws_of or problem.reference).items()
    }
    count = len(next(iter(draws.values())))
    with program.isolated(), torch.no_grad():
        found = map_draws(lambda draw: program.unconstrain(site_values(draw)), count, draws)
    return found.numpy()


def moment_errors(problem: Problem, moments: Mapping[str, tuple[Any, Any]]) -> dict[str, float | str]:
    """Largest error of a mean, in reference sds, and of a ratio of sds from one, with the parameters that have them.

    Args:
        problem: its summary holds the reference's moments.
        moments: parameter -> mean and sd of the guide's draws, each of the parameter's shape.
    """
    worst: dict[str, float | str] = {"mean_error": 0.0, "mean_worst": "", "sd_error": 0.0, "sd_worst": ""}
    for name, (mean, sd) in problem.summary.items():
        found_mean, found_sd = (np.asarray(value).reshape(mean.shape) for value in moments[name])
        errors = {"mean": np.abs(found_mean - mean) / sd, "sd": np.abs(found_sd / sd - 1.0)}
        for kind, error in errors.items():
            index = np.unravel_index(np.argmax(error), error.shape)
            if np.isnan(error[index]) or float(error[index]) > float(worst[f"{kind}_error"]):
                worst[f"{kind}_error"] = float(error[index])
                worst[f"{kind}_worst"] = name + (f"[{', '.join(map(str, index))}]" if index else "")
    return worst
