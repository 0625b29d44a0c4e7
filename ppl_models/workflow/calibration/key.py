"""All that a calibration's ranks depend on, as text: what is stored under one key must have been made by one thing."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ppl_models.inference import Fit
from ppl_models.inference.fit_storage import guide_buffers
from ppl_models.program import Program
from ppl_models.versions import versions
from ppl_models.workflow.calibration.quantities import Quantity, data_quantities
from ppl_models.workflow.calibration.simulate import BLOCK, Simulation

PACKAGES = ("ppl-models", "pyro-ppl", "torch", "numpy")
DIGITS = 8
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def made_by(
    fit: Fit,
    target: Program,
    first: Simulation,
    quantities: Mapping[str, Quantity] | None,
    options: Mapping[str, Any],
) -> dict[str, str]:
    """What made the ranks, by name.

    A model is known by what it does: its first simulation, and the log density and the quantities there, to eight
    digits. The text of its source would change with a comment, and not with a global that it reads.

    Args:
        fit: the fit whose making is calibrated.
        target: what is refitted, with the first simulation's data.
        first: the first simulation.
        quantities: functions of the user's; None where none are ranked.
        options: of the calibration.
    """
    truth = {name: value[None] for name, value in first.truth.items()}
    at_truth = data_quantities(target, truth, quantities or {})
    held = {**fit.program.parameters.values, **guide_buffers(fit.guide)}
    needs_fit = options["kind"] == "posterior" or options["amortised"]
    return {
        **{name: str(value) for name, value in options.items()},
        "block": str(BLOCK),
        "model": _digest([first.truth, first.arguments.named(), at_truth]),
        "data": _digest([fit.program.arguments.named()]),
        "guide": fit.guide_name,
        "fit's options": _digest_text(ADDRESS.sub("", json.dumps(dict(fit.config), default=str, sort_keys=True))),
        "fit": _digest([held]) if needs_fit else "not used",
        "quantities": ", ".join(quantities) if quantities is not None else "none",
        "versions": ", ".join(f"{name} {versions().get(name, '')}" for name in PACKAGES),
    }


def _digest(parts: list[Mapping[str, Any]]) -> str:
    lines = [f"{name} {_text(value)}" for part in parts for name, value in sorted(part.items())]
    return _digest_text("\n".join(lines))


def _text(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if not isinstance(value, np.ndarray):
        return ADDRESS.sub("", repr(value))
    if value.dtype.kind != "f":
        return f"{value.shape} {value.dtype} {value.tobytes().hex()}"
    rounded = np.array([float(f"{number:.{DIGITS}g}") for number in value.reshape(-1)])
    return f"{value.shape} {rounded.tobytes().hex()}"


def _digest_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
