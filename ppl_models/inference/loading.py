"""A saved fit, rebuilt from its model, data and guide."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyro.poutine as poutine
import torch
from torch.distributions import constraints

from ppl_models.errors import DataError, FileError, GuideError
from ppl_models.inference import fit_storage
from ppl_models.inference.amortised import not_amortised
from ppl_models.inference.course import Stage
from ppl_models.inference.fit_result import Fit
from ppl_models.inference.guides import GuideSpec, ResolvedGuide, resolve_guide
from ppl_models.inference.private import private_copy
from ppl_models.inference.runs import Start
from ppl_models.posterior import Coords, Dims, Labels
from ppl_models.program import Data, Parameters, Program, build_program


def rebuild_fit(
    stored: fit_storage.StoredFit,
    path: str | Path,
    model: Callable[..., Any],
    data: Data,
    *,
    guide: GuideSpec | None,
    coords: Coords | None,
    dims: Dims | None,
    other_data: bool = False,
) -> Fit:
    """A fit from the content of its file; `ppl_models.load_fit` documents the arguments."""
    header = stored.header
    dtype = getattr(torch, header["config"]["dtype"])
    memo: dict[int, Any] = {}
    program = build_program(private_copy(model, memo, dtype), data, dtype=dtype)
    if not other_data:
        _check_same(program, header, path)
    spec = guide if guide is not None else header["family"]
    if spec is None:
        raise DataError(f"{path}: its guide '{header['guide']}' was not a family's name. Pass it as guide=.")
    with program.isolated(seed=0, full_data=False):
        options = header["config"]["guide_options"] if isinstance(spec, str) else {}
        resolved = resolve_guide(spec, program, options, memo, header["config"]["init_scale"])
        final = _prepared(resolved, program, stored)
        fresh = Parameters.from_store()
        if other_data:
            _check_amortised(fresh, stored, header["guide"])
        parameters = _filled(fresh, stored, path)
    fit = Fit(
        program=program.with_parameters(parameters),
        guide=final,
        guide_name=header["guide"],
        family=header["family"],
        point=header["point"],
        losses=stored.losses.numpy(),
        status=header["status"],
        constant_phase=(header["constant_phase"][0], header["constant_phase"][1]),
        note=header["note"],
        backend=header["backend"],
        backend_note=header.get("backend_note", ""),
        seconds=header["seconds"],
        timing=header.get("timing", {}),
        stages=tuple(Stage(**stage) for stage in header.get("stages", ())),
        starts=tuple(Start(**start) for start in header.get("starts", ())),
        method=header.get("method", "svi"),
        evaluations=header.get("evaluations", 0),
        evidence=header.get("evidence", {}),
        history=None if header.get("history") is None else pd.DataFrame(header["history"]),
        config=header["config"],
        labels=Labels(header["coords"] if coords is None else coords, header["dims"] if dims is None else dims),
    )
    return fit.at(data) if other_data else fit


def _check_same(program: Program, header: dict[str, Any], path: str | Path) -> None:
    latents = {site.name: list(site.shape) for site in program.sites.latent}
    if latents != header["latents"]:
        raise DataError(
            f"{path}: the model's latents are {latents}, the fit's {header['latents']}. Pass the model and the "
            "data that were fitted; other rows, for an amortised guide, with other_data=True."
        )
    found = fit_storage.fingerprint(program)
    for name, wanted in header["data"].items():
        if found.get(name) != wanted:
            raise DataError(
                f"{path}: argument '{name}' is not the one of the fit. Pass the data that it was fitted to; "
                "others, for an amortised guide, with other_data=True."
            )


def _prepared(resolved: ResolvedGuide, program: Program, stored: fit_storage.StoredFit) -> Callable[..., Any]:
    """The guide with its parameters in the store, of the right shapes, and its buffers filled."""
    args, kwargs = program.arguments.args, program.arguments.kwargs
    poutine.trace(resolved.guide).get_trace(*args, **kwargs)
    poutine.trace(program.model).get_trace(*args, **kwargs)
    guide = resolved.guide
    if resolved.family is not None and resolved.family.restore is not None and stored.buffers:
        guide = resolved.family.restore(resolved.guide, stored.buffers, *args, **kwargs)
    elif isinstance(guide, torch.nn.Module):
        for name, buffer in guide.named_buffers():
            if name in stored.buffers:
                buffer.copy_(stored.buffers[name])
    return guide


def _check_amortised(fresh: Parameters, stored: fit_storage.StoredFit, guide: str) -> None:
    for name, value in fresh.values.items():
        if name in stored.parameters and stored.parameters[name].shape != value.shape:
            found = f"parameter '{name}' has shape {tuple(stored.parameters[name].shape)}, here {tuple(value.shape)}"
            raise GuideError(not_amortised(guide, found))


def _filled(fresh: Parameters, stored: fit_storage.StoredFit, path: str | Path) -> Parameters:
    missing = sorted(fresh.values.keys() - stored.parameters.keys())
    if missing:
        raise DataError(
            f"{path}: it lacks parameter '{missing[0]}' of the guide given. Pass the guide that was fitted."
        )
    supports: dict[str, constraints.Constraint] = {name: fresh.supports[name] for name in fresh.values}
    values = {name: stored.parameters[name] for name in fresh.values}
    for name, value in values.items():
        if value.shape != fresh.values[name].shape:
            raise FileError(
                f"{path}: parameter '{name}' has shape {tuple(value.shape)}, wanted {tuple(fresh.values[name].shape)}."
            )
    return Parameters(values, supports, fresh.holders)
