"""A fit before any step: its options checked, model and data made a program."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import Dataset, TensorDataset

from ppl_models.engine import check_backend
from ppl_models.errors import OptionError
from ppl_models.inference.epoch_options import check_epoch_options
from ppl_models.inference.estimating import check_estimator
from ppl_models.inference.fit_options import FitOptions
from ppl_models.inference.guides import GuideSpec, check_guide_name
from ppl_models.inference.methods import Method, check_options, choose
from ppl_models.inference.preparation import check_device, check_objects, program_of
from ppl_models.inference.runs import AUTO
from ppl_models.options import check_count, check_positive
from ppl_models.posterior import Labels
from ppl_models.program import Program
from ppl_models.program.batches import loaded, split_dataset
from ppl_models.seeds import check_seed


@dataclass(frozen=True)
class Prepared:
    """What comes before any step of a fit.

    Attributes:
        options: as they were given.
        settings: those of them that a fit's `config` tells, checked.
        program: the model, privately copied, with its data.
        guide: what the user gave as a guide, where that was no method's name.
        method: what fits it; None for SVI.
        labels: names of axes and their coordinates.
        memo: of the fit's private copies.
        data: as they were given, a `Dataset` in memory or in a loader.
        held_out: likewise, or a share of rows in memory.
    """

    options: FitOptions
    settings: Mapping[str, Any]
    program: Program
    guide: GuideSpec
    method: Method | None
    labels: Labels
    memo: dict[int, Any]
    data: Any = None
    held_out: Any = None


def prepare(model: Callable[..., Any], data: Any, options: FitOptions) -> Prepared:
    """Check the options of a fit, and run its model once; `ppl_models.fit` documents the options."""
    guide, method = choose(options.guide, options.method)
    check_guide_name(guide)
    check_backend(options.backend)
    settings = {
        "max_steps": _auto_or(check_count, "max_steps", options.max_steps),
        "step_size": _auto_or(check_positive, "step_size", options.step_size),
        "max_seconds": check_positive("max_seconds", options.max_seconds),
        "num_starts": check_count("num_starts", options.num_starts),
        "precondition": bool(options.precondition),
        "num_particles": None if options.num_particles is None else check_count("num_particles", options.num_particles),
        "init_scale": check_positive("init_scale", options.init_scale),
        **_own_options(method, options.guide_options or {}, options.method_options or {}),
        "seed": check_seed(options.seed),
        **check_epoch_options(options, data),
    }
    given, held_out = data, options.held_out
    if isinstance(given, Dataset) and isinstance(held_out, float) and not isinstance(given, TensorDataset):
        given, held_out = split_dataset(given, held_out, settings["seed"])
    data = loaded(given, settings.get("batch_size"))
    held_out = loaded(held_out, settings.get("batch_size"))
    check_objects(options.elbo, options.optimizer, options.dtype)
    check_estimator(options.estimator, options.estimator_options or {}, options.elbo, settings["num_particles"])
    memo: dict[int, Any] = {}
    settings["device"] = str(where := check_device(options.device))
    # Products in bfloat16 are for float32, whatever the size of the networks.
    dtype = options.dtype or (torch.float32 if options.mixed_precision else None)
    program = program_of(model, data, guide, dtype, where, memo, settings["seed"])
    labels = Labels(options.coords or {}, options.dims or {})
    labels.of_program(program)
    if method is not None:
        _check_method_arguments(method, program, options)
    return Prepared(options, settings, program, guide, method, labels, memo, data, held_out)


def _own_options(
    method: Method | None, guide_options: Mapping[str, Any], method_options: Mapping[str, Any]
) -> dict[str, Any]:
    """The options of guide and method; a method may decide about the guide's."""
    if method is None:
        if method_options:
            raise OptionError(f"method_options: found {sorted(method_options)}, but SVI's are arguments of their own.")
        return {"guide_options": dict(guide_options), "method_options": {}}
    checked = dict(check_options(method, method_options))
    fixed = dict(method.guide_options(checked)) if method.guide_options else {}
    return {"guide_options": {**guide_options, **fixed}, "method_options": checked}


def _check_method_arguments(method: Method, program: Program, options: FitOptions) -> None:
    """Refuse what only SVI can do."""
    for name in ("held_out", "elbo", "optimizer", "batch_size", "max_epochs"):
        if getattr(options, name) is not None:
            raise OptionError(f"{name}: method {method.name!r} has no use for it; only method='svi' has.")
    if options.estimator != AUTO:
        raise OptionError(f"estimator: method {method.name!r} takes no steps on one; only method='svi' does.")
    if program.batched:
        raise OptionError(f"data: method {method.name!r} needs all data at once, found a DataLoader; use method='svi'.")


def _auto_or(check: Callable[[str, Any], Any], name: str, value: Any) -> Any:
    if isinstance(value, str) and value != AUTO:
        raise OptionError(f"{name}: found {value!r}, wanted a number, or 'auto'.")
    return value if isinstance(value, str) else check(name, value)
