"""`ppl.sample`: MCMC draws that have been through their own gates."""

import json
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr

from ppl_models.diagnostics import Check, baseline_gates, gates_passed
from ppl_models.errors import BaselineWarning, PPLWarning
from ppl_models.inference import Fit, sample_chains
from ppl_models.posterior import Coords, Dims
from ppl_models.program import Data


def sample(
    model: Callable[..., Any],
    data: Data,
    *,
    chains: int = 4,
    warmup: int = 1_000,
    draws: int = 1_000,
    kernel: str = "nutpie",
    target_accept: float = 0.9,
    parameters: Mapping[str, torch.Tensor] | None = None,
    init: Fit | None = None,
    max_seconds: float | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    backend: str = "auto",
    coords: Coords | None = None,
    dims: Dims | None = None,
    include: tuple[str, ...] | str = (),
    progress: bool = False,
) -> xr.DataTree:
    """Draw from a model's posterior by MCMC: a baseline for variational fits.

    Args:
        model: a Pyro model, function or `PyroModule`; it is not changed. Sites marked for enumeration are summed out;
            plates hold all their data, whatever their `subsample_size`.
        data: a mapping, for `model(**data)`, or a tuple, for `model(*data)`.
        chains: number of chains.
        warmup: draws per chain that adapt the kernel and are thrown away.
        draws: draws kept per chain.
        kernel: "nutpie" (Rust; the log density compiled where a C++ compiler is present) or "pyro_nuts".
        target_accept: acceptance statistic that warm-up aims the step size at. Higher than most samplers' 0.8, as a
            baseline must not diverge; nearer to 1 for funnels.
        parameters: values of the model's `pyro.param`s, for instance `fit.parameters`; None holds them at their
            initial values.
        init: a fit of the same model: the chains run in coordinates in which it is a standard normal, and start around
            it, which shortens warm-up and takes correlations out. They sample the same posterior.
        max_seconds: nutpie gives up after this time; None waits.
        seed: seed of everything random.
        dtype: floating dtype of the log density.
        backend: what computes the log density: "auto", "native", "inductor" or "eager".
        coords: labels of the elements along each dim.
        dims: names of a site's axes; plates name theirs, with "_plate" after a name that is a site's or ArviZ's own
            ("draw_plate").
        include: further groups: "log_likelihood", "posterior_predictive", "prior", "prior_predictive".
        progress: show one bar.

    Returns:
        A tree with the groups posterior (latents and deterministics, dims chain, draw, *event), sample_stats
        (`diverging`, `lp`, `energy` and more), observed_data and constant_data. Its attrs tell what made it, and
        `gates` (also on sample_stats) holds the worst R-hat, the least bulk and tail ESS and the number of divergences,
        as JSON.

    Raises:
        DataError, ModelError, OptionError, UnknownNameError: the message names the argument or site.
        TimeoutError: `max_seconds` were used up.

    Warns:
        PPLWarning: the model has `pyro.param`s, and no `parameters` were given for them.
        BaselineWarning: R-hat above 1.01, bulk or tail ESS below 400, or a divergence.
    """
    tree = sample_chains(
        model,
        data,
        chains=chains,
        warmup=warmup,
        draws=draws,
        kernel=kernel,
        target_accept=target_accept,
        parameters=parameters,
        init=init,
        max_seconds=max_seconds,
        seed=seed,
        dtype=dtype,
        backend=backend,
        coords=coords,
        dims=dims,
        include=include,
        progress=progress,
    )
    held = json.loads(tree.attrs["config"])["fixed_parameters"]
    if held and parameters is None:
        warnings.warn(
            f"the model's parameters {', '.join(map(repr, held))} are held at their initial values. For a baseline of "
            "a fit that learnt them, pass parameters=fit.parameters.",
            PPLWarning,
            stacklevel=2,
        )
    gates = tree_gates(tree)
    # Not a number is not JSON.
    record = {
        gate.name: {"value": gate.value if np.isfinite(gate.value) else None, "passed": gate.passed} for gate in gates
    }
    tree.attrs["gates"] = json.dumps(record)
    tree["sample_stats"].attrs["gates"] = tree.attrs["gates"]
    if not gates_passed(gates):
        warnings.warn(
            f"these draws do not pass the gates of a baseline: {failed_gates(gates)}. Draw more (draws=, warmup=), or "
            "reparameterise the model; ppl.check will not take them for the truth.",
            BaselineWarning,
            stacklevel=2,
        )
    return tree


def tree_gates(tree: xr.DataTree) -> tuple[Check, ...]:
    """The gates of a baseline, on the draws and statistics of a tree."""
    stats = tree["sample_stats"].to_dataset() if "sample_stats" in tree.children else xr.Dataset()
    diverging = stats["diverging"].values if "diverging" in stats else None
    return baseline_gates(tree["posterior"].to_dataset(), diverging)


def failed_gates(gates: tuple[Check, ...]) -> str:
    """The gates that were not passed, with their values."""
    return ", ".join(f"{gate.name} {gate.measured}" for gate in gates if gate.passed is not True)
