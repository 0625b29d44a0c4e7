"""The problems by name, and where their data and reference draws are found; neither is kept in the project."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.posteriordb import (
    autoregression,
    diamonds,
    earnings,
    eight_schools,
    gaussian_process,
    hidden_markov,
    kidscore,
    lotka_volterra,
    mesquite,
    moving_average,
    nes,
    sblrc,
)
from benchmarks.posteriordb.problem import Entry, Problem
from ppl_models.errors import FileError, UnknownNameError

VARIABLE = "PPL_MODELS_POSTERIORDB"
INDEX = "index.json"
FAMILIES = (
    autoregression,
    diamonds,
    earnings,
    eight_schools,
    gaussian_process,
    hidden_markov,
    kidscore,
    lotka_volterra,
    mesquite,
    moving_average,
    nes,
    sblrc,
)
ENTRIES: dict[str, Entry] = {name: entry for family in FAMILIES for name, entry in family.ENTRIES.items()}


def names() -> tuple[str, ...]:
    """The names of all problems, sorted."""
    return tuple(sorted(ENTRIES))


def find_folder(option: str | Path | None = None) -> Path:
    """The folder with posteriordb's data and reference draws.

    Args:
        option: What the command line says; None takes the environment variable PPL_MODELS_POSTERIORDB.

    Raises:
        FileError: If neither is given, or the folder has no `index.json`.
    """
    found = option or os.environ.get(VARIABLE)
    if not found:
        raise FileError(
            f"posteriordb: no folder given. Set the environment variable {VARIABLE}, or pass --folder: a folder with "
            f"{INDEX}, and for each problem NAME/data.json and NAME/reference.npz."
        )
    folder = Path(found)
    if not (folder / INDEX).is_file():
        raise FileError(
            f"posteriordb: found no {INDEX} in {folder}, wanted the folder that holds it. Correct --folder."
        )
    return folder


def load(name: str, folder: str | Path | None = None) -> Problem:
    """The problem of that name with its data and reference, read from the folder.

    Args:
        name: One of `names()`.
        folder: As for `find_folder`.

    Raises:
        UnknownNameError: If no problem has that name.
        FileError: If the folder, or a file in it, is not there.
    """
    if name not in ENTRIES:
        raise UnknownNameError("posteriordb problem", name, names())
    entry, where = ENTRIES[name], find_folder(folder)
    described = _describe(name, where)
    home = where / described["folder"]
    try:
        raw = json.loads((home / "data.json").read_text())
        with np.load(home / "reference.npz") as file:
            reference = {parameter: file[parameter] for parameter in file.files}
    except OSError as error:
        raise FileError(f"posteriordb: cannot read the files of {name!r} in {home}: {error}.") from error
    tags = tuple(described["tags"])
    return Problem(
        name=name,
        model=entry.model,
        data=entry.prepare(raw),
        reference=reference,
        summary={key: (np.array(of["mean"]), np.array(of["sd"])) for key, of in described["params"].items()},
        multimodal=any("modes" in tag for tag in tags),
        cite=entry.cite,
        sampling=entry.sampling,
        tags=tags,
    )


def _describe(name: str, folder: Path) -> dict[str, Any]:
    """What the index says of a problem."""
    for described in json.loads((folder / INDEX).read_text())["posteriors"]:
        if described["name"] == name:
            return described
    raise FileError(f"posteriordb: {folder / INDEX} does not list {name!r}. Use the index that goes with these models.")
