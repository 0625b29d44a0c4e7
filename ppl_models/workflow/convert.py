"""`ppl.to_datatree`: Pyro's own draws, from `MCMC`, `Predictive` or a dict, as an ArviZ tree."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr
from pyro.infer import MCMC

from ppl_models.errors import DataError
from ppl_models.inference.private import private_copy
from ppl_models.posterior import Coords, Dims, Labels, data_groups, make_tree
from ppl_models.program import Data, Program, build_program, map_draws
from ppl_models.versions import versions

Samples = Mapping[str, torch.Tensor | np.ndarray]


def to_datatree(
    samples: MCMC | Samples,
    *,
    model: Callable[..., Any] | None = None,
    data: Data | None = None,
    prior: Samples | None = None,
    posterior_predictive: Samples | None = None,
    coords: Coords | None = None,
    dims: Dims | None = None,
    by_chain: bool = False,
) -> xr.DataTree:
    """Put draws that Pyro made into ArviZ's schema (ArviZ no longer has a converter of its own for Pyro).

    Args:
        samples: a `pyro.infer.MCMC` that has run, or posterior draws by site as `MCMC.get_samples` or `Predictive`
            return them.
        model: with `data`, names the axes by the model's plates and adds deterministics, observed_data, constant_data.
        data: what the model was called with.
        prior: draws of the prior by site.
        posterior_predictive: draws of the data by site, as many as the posterior's.
        coords: labels of the elements along each dim.
        dims: names of a site's axes, with "_plate" after a name that is a site's or ArviZ's own
            ("draw_plate").
        by_chain: whether arrays are of shape (chain, draw, *event); else they are (draw, *event), one chain.

    Raises:
        DataError: the draws are no arrays of equal length, or only one of `model` and `data` is given.
    """
    if (model is None) != (data is None):
        raise DataError("model and data: give both, to name axes by the model's plates, or neither.")
    stats: dict[str, np.ndarray] = {}
    from_mcmc = isinstance(samples, MCMC)
    if isinstance(samples, MCMC):
        stats = _mcmc_stats(samples)
        samples, by_chain = samples.get_samples(group_by_chain=True), True
    groups = {"posterior": _by_chain("posterior", samples, by_chain)}
    chains = next(iter(groups["posterior"].values())).shape[0] if from_mcmc else 1
    for name, draws in (("prior", prior), ("posterior_predictive", posterior_predictive)):
        if draws is not None:
            # `Predictive` runs the chains of an MCMC into one row of draws.
            split = chains if name == "posterior_predictive" else 1
            groups[name] = _by_chain(name, draws, by_chain and not from_mcmc, split)
    labels = Labels(coords or {}, dims or {})
    if model is not None and data is not None:
        program = build_program(private_copy(model, {}, torch.float64), data)
        labels = labels.of_program(program)
        groups = {group: _in_shape(program, draws) for group, draws in groups.items()}
        known = {site.name for site in program.sites.latent}
        groups["posterior"] |= _deterministics(program, {k: v for k, v in groups["posterior"].items() if k in known})
        groups |= data_groups(program)
    attrs = {"inference_library": "pyro-ppl", "inference_library_version": versions().get("pyro-ppl", "")}
    return make_tree({**groups, "sample_stats": stats}, labels, attrs=attrs)


def _by_chain(group: str, draws: Samples, by_chain: bool, chains: int = 1) -> dict[str, np.ndarray]:
    if not isinstance(draws, Mapping) or not draws:
        raise DataError(f"{group}: found {type(draws).__name__}, wanted draws by site name, as a dict of tensors.")
    arrays = {
        name: value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        for name, value in draws.items()
    }
    uneven = [name for name, value in arrays.items() if value.ndim and not by_chain and len(value) % chains]
    if uneven:
        raise DataError(
            f"{group}: '{uneven[0]}' has {len(arrays[uneven[0]])} draws, not a multiple of the {chains} chains."
        )
    arrays = {
        name: value if by_chain else value.reshape(chains, -1, *value.shape[1:])
        for name, value in arrays.items()
        if value.ndim
    }
    shapes = {name: value.shape[:2] for name, value in arrays.items()}
    if len(set(shapes.values())) > 1:
        raise DataError(f"{group}: the sites differ in their (chain, draw): {shapes}. Pass draws of one run.")
    return arrays


def _in_shape(program: Program, draws: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Draws without the axes of length one that `Predictive` gives to sites outside the plates."""
    sites = program.sites
    shapes = {site.name: site.shape for site in sites.latent + sites.discrete + sites.deterministic + sites.observed}
    return {
        name: value.reshape(*value.shape[:2], *shapes[name])
        if name in shapes and value[0, 0].size == shapes[name].numel()
        else value
        for name, value in draws.items()
    }


def _mcmc_stats(mcmc: MCMC) -> dict[str, np.ndarray]:
    samples: Samples | None = mcmc.get_samples(group_by_chain=True)
    if samples is None:
        raise DataError("samples: this MCMC has not run yet. Call mcmc.run(...) first.")
    chains, draws = next(iter(samples.values())).shape[:2]
    marks = np.zeros((chains, draws), dtype=bool)
    divergences: Mapping[str, Any] = mcmc.diagnostics().get("divergences", {})
    for chain, indices in enumerate(divergences.values()):
        marks[chain, list(indices)] = True
    return {"diverging": marks}


def _deterministics(program, latents: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    if not program.sites.deterministic or len(latents) < len(program.sites.latent):
        return {}
    chains, draws = next(iter(latents.values())).shape[:2]
    flat = {name: torch.as_tensor(v, dtype=program.dtype).flatten(0, 1) for name, v in latents.items()}
    with program.isolated(seed=0), torch.no_grad():
        found = map_draws(
            lambda values: program.log_joint_and_deterministics(values)[1],
            chains * draws,
            flat,
            size_hint=program.size_hint,
        )
    return {name: value.numpy().reshape(chains, draws, *value.shape[1:]) for name, value in found.items()}
