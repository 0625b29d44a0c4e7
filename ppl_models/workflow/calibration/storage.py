"""Finished blocks in a folder, so that a calibration goes on where it stopped."""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ppl_models.errors import FileError
from ppl_models.files import write_whole
from ppl_models.workflow.calibration.refits import Block

FORMAT = "ppl-models calibration 1"
HEADER = "calibration.json"
RANKS = "ranks "


class Store:
    """The files of one calibration: a header that says what made them, and one file for each block.

    Args:
        folder: where they stand; made where it is missing.
        made_by: all that the ranks depend on, as text by name.

    Raises:
        FileError: the folder holds another calibration, or a damaged header.
    """

    def __init__(self, folder: str | Path, made_by: Mapping[str, str]):
        self.folder = Path(folder).expanduser().resolve()
        self.made_by = dict(made_by)
        self.key = hashlib.sha256(json.dumps(self.made_by, sort_keys=True).encode()).hexdigest()
        header = self.folder / HEADER
        if not header.exists():
            if any(self.folder.glob("block_*.npz")):
                raise FileError(f"{self.folder}: holds blocks without {HEADER}. Choose another folder.")
            text = json.dumps({"format": FORMAT, "made by": self.made_by}, indent=1)
            write_whole(header, lambda path: path.write_text(text, encoding="utf-8"))
            return
        self._check_header(header)

    def read(self, index: int) -> Block | None:
        """A stored block, or None.

        Raises:
            FileError: the file is damaged, or was made by another calibration.
        """
        path = self._path(index)
        if not path.exists():
            return None
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            key = str(arrays.pop("key"))
            ranks = {n.removeprefix(RANKS): value for n, value in arrays.items() if n.startswith(RANKS)}
            statuses, notes = (tuple(str(v) for v in arrays[name]) for name in ("statuses", "notes"))
            block = Block(int(arrays["index"]), 0, ranks, statuses, notes, arrays["seconds"])
        except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
            raise FileError(f"{path}: damaged ({error}). Delete it, and its simulations are made again.") from error
        if key != self.key:
            raise FileError(f"{path}: made by another calibration. Delete it, or choose another folder.")
        lengths = {len(value) for value in (*ranks.values(), notes, block.seconds)}
        if block.index != index or lengths != {len(statuses)}:
            raise FileError(f"{path}: damaged (its parts do not agree). Delete it, and its simulations are made again.")
        return block

    def write(self, block: Block) -> None:
        """Store a block from its first simulation on."""
        assert block.start == 0
        arrays = {
            **{RANKS + name: value for name, value in block.ranks.items()},
            "index": np.array(block.index),
            "key": np.array(self.key),
            "statuses": np.array(block.statuses, dtype=np.str_),
            "notes": np.array(block.notes, dtype=np.str_),
            "seconds": block.seconds,
        }

        def save(path: Path) -> None:
            with path.open("wb") as file:
                np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]

        write_whole(self._path(block.index), save)

    def _path(self, index: int) -> Path:
        return self.folder / f"block_{index:05d}.npz"

    def _check_header(self, header: Path) -> None:
        try:
            content = json.loads(header.read_text(encoding="utf-8"))
            stored, found = dict(content["made by"]), content["format"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FileError(f"{header}: damaged ({error}). Choose another folder, or delete this one.") from error
        if found != FORMAT:
            raise FileError(f"{header}: found format {found!r}, wanted {FORMAT!r}. Choose another folder.")
        names = sorted(stored.keys() | self.made_by.keys())
        other = [name for name in names if stored.get(name) != self.made_by.get(name)]
        if other:
            shown = ", ".join(f"{n} (there {_short(stored.get(n))}, here {_short(self.made_by.get(n))})" for n in other)
            raise FileError(
                f"{self.folder}: holds another calibration; what differs: {shown}. Choose another folder, or call with "
                "what made this one."
            )


def _short(text: str | None) -> str:
    return "nothing" if text is None else text if len(text) <= 40 else f"{text[:37]}..."
