"""Write files whole or not at all."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from ppl_models.errors import FileError


def write_whole(path: str | Path, write: Callable[[Path], object]) -> Path:
    """Let `write` fill a temporary file beside `path`, then move it there in one step.

    Args:
        path: where the file shall appear; its folder is made where it is missing.
        write: fills the file whose path it is given.

    Returns:
        The path, resolved.

    Raises:
        FileError: the folder cannot be made or the file not written; nothing is left behind.
    """
    target = Path(path).expanduser().resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=target.suffix, dir=target.parent)
        os.close(handle)
    except OSError as error:
        raise FileError(
            f"cannot write {target}: {error.strerror or error}. Choose a folder that can be written to."
        ) from None
    temporary = Path(name)
    try:
        write(temporary)
        _give_usual_mode(temporary)
        temporary.replace(target)
    except OSError as error:
        raise FileError(f"cannot write {target}: {error.strerror or error}.") from error
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _give_usual_mode(path: Path) -> None:
    # mkstemp makes files that only their owner can read.
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)
