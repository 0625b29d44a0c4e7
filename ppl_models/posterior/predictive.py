"""Draws of the data: prior, prior predictive, posterior predictive, and log likelihoods."""

from collections.abc import Mapping

import numpy as np
import pyro.poutine as poutine
import torch
import xarray as xr

from ppl_models.errors import DataError, ModelError, first_line
from ppl_models.posterior.labels import Labels
from ppl_models.posterior.tree import data_groups, make_tree
from ppl_models.program import Program, map_draws
from ppl_models.program.handlers import FromValues, Unobserve, is_latent
from ppl_models.program.nodes import nodes_of

GROUPS = ("log_likelihood", "posterior_predictive", "prior", "prior_predictive")
"""Groups that can be added to a tree of posterior draws."""


def predictive_draws(
    program: Program, values: Mapping[str, torch.Tensor], seed: int, *, deterministics: bool = False
) -> dict[str, torch.Tensor]:
    """Draw new data for every draw of the latents.

    Args:
        program: the model with the data (for new covariates: the program of the new data).
        values: constrained latents, each of shape (draw, *event).
        seed: seed of the draws.
        deterministics: whether to return these too.

    Returns:
        By observed site (and by latent site that has no values), draws of shape (draw, *event).

    Raises:
        ModelError: the latents do not fit the model's data, for instance in the length of a plate.
    """
    model = Unobserve(site.name for site in program.sites.observed)(program.model)
    names = _predicted(program, values)
    also = [site.name for site in program.sites.deterministic] if deterministics else []

    def one(draw: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        with FromValues(draw):
            trace = poutine.trace(model).get_trace(*program.arguments.args, **program.arguments.kwargs)
        nodes = nodes_of(trace)
        return {name: nodes[name]["value"] for name in names if is_latent(nodes[name])} | {
            name: nodes[name]["value"] for name in also
        }

    num_draws = len(next(iter(values.values())))
    with program.isolated(seed=seed):
        try:
            return map_draws(one, num_draws, dict(values), size_hint=program.size_hint)
        except (RuntimeError, ValueError, IndexError) as error:
            raise ModelError(
                f"predicting: the model fails with the posterior's draws in it: {first_line(error)}. "
                "Check the shapes and indices of the new data; a latent inside a plate over the data belongs to the "
                "rows of the fit, so that new rows need a new fit."
            ) from error


def _predicted(program: Program, values: Mapping[str, torch.Tensor]) -> list[str]:
    free = [site.name for site in program.sites.latent + program.sites.discrete if site.name not in values]
    return [site.name for site in program.sites.observed] + free


def prior_draws(program: Program, num_draws: int, seed: int) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Draw latents and deterministics from the prior, and data from each draw.

    Returns:
        Draws of shape (draw, *event) by site: those of the prior, and those of the data.
    """
    sites = program.sites
    drawn = sites.latent + sites.discrete + sites.deterministic + sites.observed
    model = Unobserve(site.name for site in sites.observed)(program.model)

    def one() -> dict[str, torch.Tensor]:
        trace = poutine.trace(model).get_trace(*program.arguments.args, **program.arguments.kwargs)
        return {site.name: nodes_of(trace)[site.name]["value"] for site in drawn}

    with program.isolated(seed=seed):
        draws = map_draws(one, num_draws, size_hint=program.size_hint)
    # A site that bears the name of an argument given as None would have been observed.
    absent = {name for name, value in program.arguments.named().items() if value is None}
    predicted = {site.name for site in sites.observed} | absent
    return (
        {name: value for name, value in draws.items() if name not in predicted},
        {name: value for name, value in draws.items() if name in predicted},
    )


def prior_tree(program: Program, labels: Labels, num_draws: int, seed: int, attrs: Mapping) -> xr.DataTree:
    """A tree with the groups `prior`, `prior_predictive`, `observed_data` and `constant_data`."""
    complete = labels.of_program(program)
    prior, predictive = prior_draws(program, num_draws, seed)
    groups = {"prior": _one_chain(prior), "prior_predictive": _one_chain(predictive), **data_groups(program)}
    return make_tree(groups, complete, attrs=attrs)


def extra_groups(
    program: Program, values: Mapping[str, torch.Tensor], shape: tuple[int, int], include: tuple[str, ...], seed: int
) -> dict[str, dict[str, np.ndarray]]:
    """The groups named in `include` for draws that stand in `values`, flattened to (chain * draw, *event).

    Args:
        program: the model with its data.
        values: constrained latents, each of shape (chain * draw, *event).
        shape: (number of chains, draws per chain), the shape that the results get back.
        include: names from `GROUPS`.
        seed: seed of the predictive draws.
    """
    found: dict[str, dict[str, torch.Tensor]] = {}
    if "log_likelihood" in include:
        with program.isolated(seed=seed):
            count = shape[0] * shape[1]
            found["log_likelihood"] = map_draws(
                program.log_likelihood, count, dict(values), size_hint=program.size_hint
            )
    if "posterior_predictive" in include:
        found["posterior_predictive"] = predictive_draws(program, values, seed)
    groups = {group: {k: _chains(v, shape) for k, v in draws.items()} for group, draws in found.items()}
    if "prior" in include or "prior_predictive" in include:
        prior, predictive = prior_draws(program, shape[1], seed)
        groups |= {
            name: _one_chain(draws)
            for name, draws in (("prior", prior), ("prior_predictive", predictive))
            if name in include
        }
    return groups


def check_include(include: tuple[str, ...] | list[str] | str) -> tuple[str, ...]:
    """Return the names of the groups asked for.

    Raises:
        DataError: a name is not one of `GROUPS`.
    """
    names = (include,) if isinstance(include, str) else tuple(include)
    unknown = [name for name in names if name not in GROUPS]
    if unknown:
        raise DataError(f"include: found {unknown[0]!r}, wanted names among {', '.join(GROUPS)}.")
    return names


def _one_chain(draws: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: value.detach().cpu().numpy()[None] for name, value in draws.items()}


def _chains(value: torch.Tensor, shape: tuple[int, int]) -> np.ndarray:
    return value.detach().cpu().numpy().reshape(*shape, *value.shape[1:])
