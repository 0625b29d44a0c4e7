"""What comes before any step of a fit: its options checked, model and data made a program, the guide run once."""

from collections.abc import Callable
from typing import Any

import pyro
import pyro.poutine as poutine
import torch
from pyro.infer.elbo import ELBO
from pyro.optim import PyroOptim
from torch.utils.data import DataLoader

from ppl_models.errors import GuideError, ModelError, OptionError, PPLError, first_line
from ppl_models.inference.guides import GuideSpec, ResolvedGuide
from ppl_models.inference.private import num_module_parameters, private_copy
from ppl_models.program import Data, Program, build_program, check_guide_covers
from ppl_models.program.batches import first_batch
from ppl_models.seeds import child_seed

LARGE_MODULE = 100_000
"""Modules with more parameters than this are networks, and are fitted in float32 unless told otherwise."""
ONE_THREAD = 500_000
"""Programs that hold fewer numbers run in one thread."""


def check_objects(elbo: object, optimizer: object, dtype: object) -> None:
    """Refuse an ELBO, an optimizer or a dtype that is none."""
    if elbo is not None and not isinstance(elbo, ELBO):
        raise OptionError(f"elbo: found {type(elbo).__name__}, wanted an instance of a Pyro ELBO, as Trace_ELBO().")
    if optimizer is not None and not isinstance(optimizer, PyroOptim):
        raise OptionError(
            f"optimizer: found {type(optimizer).__name__}, wanted a Pyro optimizer, as pyro.optim.Adam({{'lr': 0.01}})."
        )
    if dtype is not None and dtype not in (torch.float32, torch.float64):
        raise OptionError(f"dtype: found {dtype!r}, wanted torch.float64 or torch.float32.")


def program_of(
    model: Callable[..., Any],
    data: Data | DataLoader[Any],
    guide: GuideSpec,
    dtype: torch.dtype | None,
    device: torch.device,
    memo: dict[int, Any],
    seed: int,
) -> Program:
    """The model, privately copied, with the first of its data; in float32 where a network asks for it."""
    wanted = dtype or (torch.float32 if num_module_parameters(model, guide) > LARGE_MODULE else torch.float64)
    try:
        copied = private_copy(model, memo, wanted, device)
        return build_program(
            copied,
            first_batch(data),
            dtype=wanted,
            seed=child_seed(seed, "program"),
            device=device,
            batched=isinstance(data, DataLoader),
        )
    except ModelError as error:
        # A closure may hold a network in float32, which no copy of ours can convert.
        if dtype is None and wanted == torch.float64 and "dtype" in str(error):
            return program_of(model, data, guide, torch.float32, device, {}, seed)
        raise


def check_device(name: str) -> torch.device:
    """The device of a name; an `OptionError` where there is none."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise OptionError(f"device: found {name!r}, wanted 'cpu', 'cuda' or 'cuda:N'.") from None
    if device.type not in ("cpu", "cuda"):
        raise OptionError(f"device: found {name!r}, wanted 'cpu', 'cuda' or 'cuda:N'.")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise OptionError(f"device: found {name!r}, but this torch sees no CUDA device. Use device='cpu'.")
    return device


def num_threads(program: Program, model: Callable[..., Any], guide: GuideSpec) -> int | None:
    """Threads for the steps: None for all, where they are worth it."""
    # Below this size, handing work to a second thread costs more than it saves; and on a busy machine, where one thread
    # waits for the other at every kernel, ten times more.
    large = program.size_hint >= ONE_THREAD or num_module_parameters(model, guide) > LARGE_MODULE
    return None if large else 1


def _infinite(program: Program) -> str:
    for name, value in program.arguments.tensors().items():
        if value.is_floating_point() and bool(torch.isinf(value).any()):
            return f", of which '{name}' holds infinite values"
    return ""


def first_guide_run(resolved: ResolvedGuide, program: Program) -> None:
    """Run guide and model once with validation, so that a guide that does not fit is named before any step."""
    args, kwargs = program.arguments.args, program.arguments.kwargs
    sites = program.sites
    with pyro.validation_enabled(True):
        try:
            guide_trace = poutine.trace(resolved.guide).get_trace(*args, **kwargs)
        except PPLError:
            raise
        except Exception as error:
            raise GuideError(
                f"guide '{resolved.name}' failed on its first run: {type(error).__name__}: {first_line(error)}. "
                f"It is called with the model's arguments{_infinite(program)}."
            ) from error
        model_trace = poutine.trace(program.model).get_trace(*args, **kwargs)
        check_guide_covers(guide_trace, model_trace, needed={site.name for site in sites.latent + sites.discrete})
        try:
            guide_trace.compute_log_prob()
            if not sites.enumerated:
                poutine.trace(poutine.replay(program.model, guide_trace)).get_trace(*args, **kwargs).compute_log_prob()
        except Exception as error:
            raise GuideError(
                f"guide '{resolved.name}': its draws do not suit the model: {first_line(error)}. "
                "Check that each site has the support of the model's (a positive site needs LogNormal, Gamma, …)."
            ) from error
