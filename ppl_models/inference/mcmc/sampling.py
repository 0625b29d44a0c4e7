"""Run MCMC on a model and return its draws as a tree: the baseline that fits are judged against."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import xarray as xr

from ppl_models.engine import check_backend, compile_density
from ppl_models.errors import ModelError, OptionError
from ppl_models.inference.fit_result import Fit
from ppl_models.inference.mcmc.chains import ChainSettings, Kernel
from ppl_models.inference.mcmc.nutpie_kernel import run_nutpie
from ppl_models.inference.mcmc.pyro_nuts import run_pyro_nuts
from ppl_models.inference.preconditioning.initial import normal_of_fit
from ppl_models.inference.private import private_copy
from ppl_models.options import check_choice, check_count, check_positive
from ppl_models.posterior import Coords, Dims, Labels, check_include, data_groups, extra_groups, make_tree
from ppl_models.program import Data, PlacedProgram, Program, build_program, map_draws, placed
from ppl_models.progress import progress_bar
from ppl_models.seeds import check_seed, child_seed
from ppl_models.versions import versions

KERNELS: Mapping[str, Kernel] = {"nutpie": run_nutpie, "pyro_nuts": run_pyro_nuts}


def sample_chains(
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
    starts: np.ndarray | None = None,
    max_seconds: float | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    backend: str = "auto",
    coords: Coords | None = None,
    dims: Dims | None = None,
    include: tuple[str, ...] | str = (),
    progress: bool = False,
) -> xr.DataTree:
    """Draw from a model's posterior by MCMC; `ppl_models.sample` documents the arguments.

    Beside those, `starts` are flat unconstrained points, shape (point, dim), of which each chain begins at one.
    """
    settings = ChainSettings(
        check_count("chains", chains),
        check_count("warmup", warmup, least=0),
        check_count("draws", draws),
        _check_target(target_accept),
        check_seed(seed),
        None if max_seconds is None else time.perf_counter() + check_positive("max_seconds", max_seconds),
    )
    run = KERNELS[check_choice("kernel", kernel, KERNELS)]
    check_backend(backend)
    groups = check_include(include)
    program = build_program(private_copy(model, {}, dtype), data, dtype=dtype, seed=child_seed(seed, "program"))
    _refuse_discrete(program)
    if parameters is not None:
        program = program.with_parameters(program.parameters.replaced(parameters))
    labels = Labels(coords or {}, dims or {}).of_program(program)
    if init is not None:
        program = _placed_by(init, program)
    if starts is not None:
        settings = replace(settings, starts=program.placed(starts) if isinstance(program, PlacedProgram) else starts)
    with program.isolated(seed=child_seed(seed, "mcmc"), num_threads=1):
        started = time.perf_counter()
        density = compile_density(program, backend)
        compiled = time.perf_counter()
        total = None if kernel == "nutpie" else chains * (warmup + draws)
        with progress_bar(f"sample {kernel}", total, show=progress) as update:
            result = run(density, settings, update)
        sampled = time.perf_counter()
        values = _expand(program, result.flat)
    latents = {site.name: torch.as_tensor(values[site.name]).flatten(0, 1) for site in program.sites.latent}
    extra = extra_groups(program, latents, (chains, draws), groups, child_seed(seed, "groups")) if groups else {}
    attrs = {
        "inference_library": "ppl-models",
        "inference_library_version": versions().get("ppl-models", ""),
        "kernel": kernel,
        "backend": density.backend,
        "backend_note": density.note,
        "compile_seconds": compiled - started,
        "sampling_time": sampled - compiled,
        "tuning_steps": warmup,
        "config": {
            "chains": chains,
            "warmup": warmup,
            "draws": draws,
            "target_accept": target_accept,
            "seed": seed,
            "dtype": str(dtype).removeprefix("torch."),
            "init": init.guide_name if init is not None else "",
            "fixed_parameters": sorted(program.parameters.values),
            "versions": versions(),
        },
    }
    return make_tree(
        {"posterior": values, "sample_stats": result.stats, **extra, **data_groups(program)}, labels, attrs=attrs
    )


def _placed_by(init: Fit, program: Program) -> Program:
    """The program in coordinates in which a fit of it is a standard normal."""
    if not isinstance(init, Fit):
        raise OptionError(f"init: found {type(init).__name__}, wanted a fit of the same model, from ppl.fit.")
    normal = normal_of_fit(init, program)
    mean, root = (torch.as_tensor(part, dtype=program.dtype) for part in (normal.mean, normal.root))
    return placed(program, mean, root)


def _expand(program: Program, flat: np.ndarray) -> dict[str, np.ndarray]:
    chains, draws, num_dims = flat.shape
    points = torch.as_tensor(flat.reshape(-1, num_dims), dtype=program.dtype)
    with torch.no_grad():
        values = map_draws(program.constrain, chains * draws, points, size_hint=program.size_hint)
    return {name: value.numpy().reshape(chains, draws, *value.shape[1:]) for name, value in values.items()}


def _refuse_discrete(program: Program) -> None:
    if program.sites.discrete:
        names = ", ".join(f"'{site.name}'" for site in program.sites.discrete)
        raise ModelError(
            f"site {names}: an unobserved discrete site has no gradient. Sum it out: mark it "
            "infer={'enumerate': 'parallel'} (finite supports), or write a mixture distribution in its place."
        )


def _check_target(target_accept: float) -> float:
    if isinstance(target_accept, bool) or not isinstance(target_accept, (int, float)) or not 0 < target_accept < 1:
        raise OptionError(f"target_accept: found {target_accept!r}, wanted a number between 0 and 1.")
    return float(target_accept)
