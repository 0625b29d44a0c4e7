"""Fits to files and back: tensors in safetensors, everything else as JSON in the file's header."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ppl_models.errors import FileError
from ppl_models.files import write_whole
from ppl_models.program import Program

if TYPE_CHECKING:
    from ppl_models.inference.fit_result import Fit

FORMAT = "ppl-models fit 1"
PARAMETER, BUFFER = "parameter.", "buffer."


@dataclass(frozen=True)
class StoredFit:
    """The content of a file: parameters by name (unconstrained), buffers of the guide, losses, and the rest."""

    parameters: dict[str, torch.Tensor]
    buffers: dict[str, torch.Tensor]
    losses: torch.Tensor
    header: dict[str, Any]


def write(fit: "Fit", path: str | Path, extra: Mapping[str, Any] | None = None) -> Path:
    """Write a fit to `path`, whole or not at all, with further entries of the header."""
    tensors = {PARAMETER + name: value.contiguous() for name, value in fit.program.parameters.values.items()}
    tensors |= {BUFFER + name: value.detach().clone().contiguous() for name, value in guide_buffers(fit.guide).items()}
    tensors["losses"] = torch.from_numpy(fit.losses.copy())
    header = {
        "guide": fit.guide_name,
        "family": fit.family,
        "point": fit.point,
        "status": fit.status,
        "constant_phase": list(fit.constant_phase),
        "stages": [asdict(stage) for stage in fit.stages],
        "starts": [asdict(start) for start in fit.starts],
        "note": fit.note,
        "method": fit.method,
        "evaluations": fit.evaluations,
        "evidence": dict(fit.evidence),
        "backend": fit.backend,
        "backend_note": fit.backend_note,
        "seconds": fit.seconds,
        "history": None if fit.history is None else fit.history.to_dict("list"),
        "timing": dict(fit.timing),
        "config": dict(fit.config),
        "data": fingerprint(fit.program),
        "coords": {dim: np.asarray(values).tolist() for dim, values in fit.labels.coords.items()},
        "dims": {name: list(dims) for name, dims in fit.labels.dims.items()},
        "latents": {site.name: list(site.shape) for site in fit.program.sites.latent},
        **(extra or {}),
    }
    metadata = {"format": FORMAT, "header": json.dumps(header, default=str)}
    return write_whole(path, lambda temporary: save_file(tensors, temporary, metadata=metadata))


def read(path: str | Path) -> StoredFit:
    """Read what `write` wrote.

    Raises:
        FileError: the file is missing, damaged or no fit.
    """
    try:
        with safe_open(Path(path).expanduser(), framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise FileError(f"{path}: found format {metadata.get('format')!r}, wanted {FORMAT!r}.")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            header = json.loads(metadata["header"])
            losses = tensors.pop("losses")
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"cannot read a fit from {path}: {error}.") from error
    return StoredFit(_with_prefix(tensors, PARAMETER), _with_prefix(tensors, BUFFER), losses, header)


def guide_buffers(guide: Callable[..., Any]) -> dict[str, torch.Tensor]:
    """Tensors of a guide module that are no parameters, by name."""
    return dict(guide.named_buffers()) if isinstance(guide, torch.nn.Module) else {}


def fingerprint(program: Program) -> dict[str, str]:
    """A hash of each tensor that the model is called with, by argument."""
    return {
        name: hashlib.sha256(
            f"{tuple(value.shape)}{value.dtype}".encode() + value.detach().cpu().contiguous().numpy().tobytes()
        ).hexdigest()
        for name, value in program.arguments.tensors().items()
    }


def _with_prefix(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
