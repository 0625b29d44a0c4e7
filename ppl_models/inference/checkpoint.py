"""A training by epochs written down between epochs, and gone on with from there."""

import hashlib
import json
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ppl_models.errors import FileError, OptionError
from ppl_models.files import write_whole
from ppl_models.inference.epochs import Epochs
from ppl_models.inference.look import Figures
from ppl_models.inference.modes import Buffers

FORMAT = "ppl-models training 2"
SECONDS_BETWEEN = 10.0
"""Least time between two writings; the last epoch is written at any rate."""
SAME_BOUND = 1e-3
"""Relative difference of the bounds of one model on the same noise, beyond which it is another one."""
STATE, BEST, LOSSES, POSITION = "state.", "best.", "losses", "position"
BUFFERS, BEST_BUFFERS = "buffer.", "best buffer."


class Checkpoint:
    """Writes a training down, and goes on from what is written.

    What an epoch draws depends on the seed and its number alone, so that no state of a generator is kept.

    Args:
        path: the file; it appears whole or not at all.
        facts: what must be the same for a training that goes on, by name.
    """

    def __init__(self, path: str | Path, facts: Mapping[str, Any]):
        self.path = Path(path).expanduser()
        self.facts = json.loads(json.dumps(dict(facts), default=str))
        self.written = -math.inf
        self.asked = False

    def save(self, course: Epochs) -> None:
        """Write the training down, unless that was done a moment ago."""
        if not course.ended and time.perf_counter() - self.written < SECONDS_BETWEEN:
            return
        tensors = {STATE + name: value.clone() for name, value in course.maker.snapshot().items()}
        tensors[LOSSES] = torch.tensor(course.losses, dtype=torch.float64, device="cpu")
        tensors |= _numbered(BUFFERS, course.epochs.look.networks.buffers())
        if course.best_figures is not None:
            tensors |= _numbered(BEST_BUFFERS, course.best_buffers)
            tensors |= {BEST + name: value.contiguous() for name, value in course.best.values.items()}
            if course.position is not None:
                tensors[POSITION] = course.position
        header = {
            "facts": self.facts,
            "num_steps": course.maker.num_steps,
            "factor": course.factor,
            "cooling_from": course.cooling_from,
            "trial_steps": course.trial_steps,
            "best_epoch": course.best_epoch,
            "looks_since": course.looks_since,
            "best_objective": course.best_figures.objective if course.best_figures is not None else None,
            "history": course.history,
            "bound": course.epochs.look().bound,
        }
        metadata = {"format": FORMAT, "header": json.dumps(header)}
        tensors = {name: value.detach().cpu() for name, value in tensors.items()}
        write_whole(self.path, lambda temporary: save_file(tensors, temporary, metadata=metadata))
        self.written = time.perf_counter()

    def resume(self, course: Epochs) -> int:
        """Put a course where the file says; returns the epoch to go on with, 0 where there is no file.

        Raises:
            FileError: the file cannot be read.
            OptionError: it is of a training with another model, other options or data; the message says which.
        """
        if self.asked or not self.path.exists():
            self.asked = True
            return 0
        self.asked = True
        tensors, header = self._read()
        self._check(header["facts"])
        state = {name.removeprefix(STATE): value for name, value in tensors.items() if name.startswith(STATE)}
        course.maker.resume(state, header["num_steps"])
        course.epochs.look.networks.restore(_in_order(BUFFERS, tensors))
        course.best_buffers = _in_order(BEST_BUFFERS, tensors)
        course.losses.extend(tensors[LOSSES].tolist())
        course.history.extend(header["history"])
        course.factor, course.cooling_from = header["factor"], header["cooling_from"]
        course.trial_steps, course.best_epoch = header["trial_steps"], header["best_epoch"]
        course.looks_since = header["looks_since"]
        course.seconds_before = header["history"][-1]["seconds"] if header["history"] else 0.0
        if header["best_objective"] is not None:
            values = {n.removeprefix(BEST): v for n, v in tensors.items() if n.startswith(BEST)}
            here = {name: values[name].to(value) for name, value in course.best.values.items()}
            course.best = replace(course.best, values=here)
            course.position = tensors[POSITION].to(course.maker.position())
            course.best_figures = Figures(math.nan, math.nan, math.nan, header["best_objective"])
        course.keep()
        self._check_model(course, header["bound"])
        return len(course.history)

    def _check_model(self, course: Epochs, written: float) -> None:
        """Parameters of the same shapes may be another model's: its bound at them tells."""
        found = course.epochs.look().bound
        if math.isfinite(written) and not math.isclose(found, written, rel_tol=SAME_BOUND, abs_tol=SAME_BOUND):
            raise OptionError(
                f"checkpoint: {self.path} was written by another model or guide: their bound at the parameters kept "
                f"was {written:,.4f} nats per row, here it is {found:,.4f}. Go on with the same, or give another path."
            )

    def _read(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise FileError(
                        f"{self.path}: found format {metadata.get('format')!r}, wanted {FORMAT!r}. Give checkpoint= "
                        "another path."
                    )
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            return tensors, json.loads(metadata["header"])
        except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
            raise FileError(f"cannot read a checkpoint from {self.path}: {error}. Remove it to begin anew.") from error

    def _check(self, written: Mapping[str, Any]) -> None:
        for name in sorted({*written, *self.facts}):
            found, wanted = self.facts.get(name), written.get(name)
            if found != wanted:
                raise OptionError(
                    f"checkpoint: {self.path} was written with {name} = {wanted!r}, and this fit has {found!r}. "
                    "Go on with the same, or give another path."
                )


def _numbered(prefix: str, values: Buffers) -> dict[str, torch.Tensor]:
    return {f"{prefix}{number}": value.contiguous() for number, value in enumerate(values)}


def _in_order(prefix: str, tensors: Mapping[str, torch.Tensor]) -> Buffers:
    return tuple(tensors[f"{prefix}{number}"] for number in range(sum(name.startswith(prefix) for name in tensors)))


def fingerprint(tensors: Mapping[str, torch.Tensor]) -> str:
    """A hash of tensors by name."""
    found = hashlib.sha256()
    for name, value in tensors.items():
        found.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        found.update(value.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
