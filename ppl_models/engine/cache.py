"""The disk cache of compiled code: folders named by a hash, whole and verified, or not there at all.

Code from here is loaded into the process, so nothing is returned that another user could have written, and nothing
whose bytes differ from those that were put. The cache is a convenience: where it cannot work, callers compile as if it
were empty. It needs no torch, so that the command line can ask it at once.
"""

import contextlib
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ppl_models.errors import OptionError

try:
    import fcntl
except ImportError:  # Windows, where the cache stays off
    fcntl = None

DIRECTORY_VARIABLE = "PPL_MODELS_CACHE_DIR"
BOUND_VARIABLE = "PPL_MODELS_CACHE_MB"
DEFAULT_MB = 1024
MANIFEST = "manifest.json"
FORMAT = 1
LOCKS = "locks"
# The folder may be one that a person chose and that holds other things: `clear` must know ours.
TEMPORARY = ".ppl-models-temporary-"
KEY = re.compile("[0-9a-f]{64}")
LOCK = re.compile(KEY.pattern + r"\.lock")
FILE_NAME = re.compile("[A-Za-z0-9_][A-Za-z0-9._+-]*")
WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
GRACE_SECONDS = 600.0
"""Entries used within it stay, whatever the bound: another process may be about to load them."""
STALE_SECONDS = 86_400.0
POLL_SECONDS = 0.05


def cache_directory() -> Path:
    """Where the cache is: $PPL_MODELS_CACHE_DIR, else $XDG_CACHE_HOME/ppl-models, else ~/.cache/ppl-models.

    The environment is read at each call.

    Returns:
        An absolute path, which need not exist.

    Raises:
        OptionError: $PPL_MODELS_CACHE_DIR names the home of an unknown user.
    """
    chosen = os.environ.get(DIRECTORY_VARIABLE)
    if chosen:
        try:
            return Path(chosen).expanduser().absolute()
        except RuntimeError:
            raise OptionError(f"{DIRECTORY_VARIABLE}: found {chosen!r}, wanted a folder.") from None
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if shared.is_absolute():  # the XDG specification has relative ones ignored
        return shared / "ppl-models"
    try:
        return Path.home() / ".cache" / "ppl-models"
    except RuntimeError:  # a user without a home, as in some containers
        return Path(tempfile.gettempdir()) / f"ppl-models-{os.getuid()}"


class Cache:
    """Entries of verified files under 64 hexadecimal digits, shared by processes, bounded in size.

    Attributes:
        directory: where the entries are.
        max_bytes: their bound in bytes; the least recently used make room.
    """

    def __init__(self, directory: Path | None = None, max_bytes: int | None = None):
        if max_bytes is not None and max_bytes < 0:
            raise OptionError(f"max_bytes: found {max_bytes!r}, wanted a whole number of at least 0.")
        self.directory = cache_directory() if directory is None else Path(directory).absolute()
        self.max_bytes = _bound_from_environment() if max_bytes is None else max_bytes

    def get(self, key: str) -> Path | None:
        """The folder of a whole, verified entry, which is marked as used; None where there is none.

        An entry that is damaged, or that others could have written, is removed. Open the files soon, and be ready to
        find them gone: somebody may clear the cache at any time.

        Raises:
            ValueError: the key is not a sha256 in hexadecimal.
        """
        folder = self.directory / _check_key(key)
        if self.unusable() is not None:
            return None
        try:
            seen = folder.lstat()
        except OSError:
            return None
        if not _is_whole(folder, key):
            self._discard(folder, seen)
            return None
        try:
            os.utime(folder)
        except FileNotFoundError:  # cleared since
            return None
        except OSError:  # a disk that can only be read
            pass
        return folder

    def put(self, key: str, files: Mapping[str, bytes | Path]) -> Path | None:
        """Add an entry in one step; one that is there already, whole, is used instead.

        Args:
            key: sha256, in hexadecimal, of all that the files depend on.
            files: name in the entry -> content, or the file that has it.

        Returns:
            The folder of the entry, or None where the disk cannot be written or trusted.

        Raises:
            ValueError: the key is not a sha256 in hexadecimal, or a name is not that of a plain file.
            OSError: a file that was given cannot be read.
        """
        _check_key(key)
        contents = _read_contents(files)
        try:
            self._prepare()
            self._remove_stale()
            placed = self._write(key, contents)
        except OSError:
            return None
        if placed is not None:
            self._evict(placed)
        return placed

    @contextlib.contextmanager
    def lock(self, key: str, timeout: float = 300.0) -> Iterator[bool]:
        """Hold the lock of a key, so that processes that want the same entry make it once.

        The system frees the lock of a process that dies. It is held per call: do not nest it.

        Args:
            key: sha256 in hexadecimal.
            timeout: seconds to wait for it.

        Yields:
            Whether it is held; False where it could not be had in time or locks do not work here: go on alone.

        Raises:
            ValueError: the key is not a sha256 in hexadecimal.
        """
        path = self.directory / LOCKS / f"{_check_key(key)}.lock"
        handle = self._wait_for(path, timeout)
        try:
            yield handle is not None
        finally:
            if handle is not None:
                _release(handle, path)

    def clear(self) -> tuple[int, int]:
        """Remove every entry, temporary folder and free lock; what others are putting meanwhile may be lost to them.

        Returns:
            Entries and bytes removed.
        """
        entries, freed = 0, 0
        for folder in self._folders():
            num_bytes = _bytes_of(folder)
            if self._remove(folder):
                entries += bool(KEY.fullmatch(folder.name))
                freed += num_bytes
        self._clear_locks()
        return entries, freed

    def size(self) -> tuple[int, int]:
        """Entries and bytes; damaged entries, which nobody asked for yet, count."""
        entries = self._entries()
        return len(entries), sum(entry.num_bytes for entry in entries)

    def unusable(self) -> str | None:
        """Why the cache is off, in words, as when others could exchange what is in its folder; None where it is not."""
        if fcntl is None:
            return "this system has no file locks"
        try:
            status = self.directory.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            return error.strerror or str(error)
        if not stat.S_ISDIR(status.st_mode):
            return "it is not a folder"
        if status.st_uid not in (os.geteuid(), 0):
            return "another user owns it"
        if status.st_mode & WRITABLE_BY_OTHERS and not status.st_mode & stat.S_ISVTX:
            return "other users can write to it; chmod go-w it"
        return None

    def _prepare(self) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (reason := self.unusable()) is not None:
            raise PermissionError(reason)

    def _write(self, key: str, contents: Mapping[str, bytes]) -> Path | None:
        temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=self.directory))
        try:
            for name, content in contents.items():
                _write_file(temporary / name, content)
            described = {name: (len(given), hashlib.sha256(given).hexdigest()) for name, given in contents.items()}
            _write_file(temporary / MANIFEST, json.dumps(_manifest(key, described)).encode())
            _sync(temporary)
            # Some file systems keep no owners or modes: what is written there could never be had back.
            return self._place(temporary, key) if _is_whole(temporary, key) else None
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _place(self, temporary: Path, key: str) -> Path | None:
        target = self.directory / key
        for _ in range(3):
            try:
                temporary.rename(target)
            except OSError:  # most likely another process was first; should its entry be damaged, `get` makes room
                if (first := self.get(key)) is not None:
                    return first
            else:
                _sync(self.directory)
                return target
        return None

    def _folders(self) -> list[Path]:
        """Entries and temporary folders."""
        try:
            with os.scandir(self.directory) as found:
                ours = [item for item in found if KEY.fullmatch(item.name) or item.name.startswith(TEMPORARY)]
                return [Path(item.path) for item in ours if item.is_dir(follow_symlinks=False)]
        except OSError:
            return []

    def _entries(self) -> list["_Entry"]:
        """Least recently used first."""
        entries = []
        for folder in self._folders():
            if KEY.fullmatch(folder.name):
                with contextlib.suppress(OSError):  # removed since
                    entries.append(_Entry(folder.lstat().st_mtime, _bytes_of(folder), folder))
        return sorted(entries)

    def _evict(self, kept: Path) -> None:
        # On Linux a shared object that is loaded stays valid when its file is removed: the mapping keeps the file.
        # Only the moment between `get` and loading is at risk, and the grace covers it.
        entries = self._entries()
        excess = sum(entry.num_bytes for entry in entries) - self.max_bytes
        for entry in entries:
            if excess <= 0:
                return
            if entry.folder == kept or _seconds_since_use(entry.folder) <= GRACE_SECONDS:
                continue
            if self._remove(entry.folder) or not entry.folder.exists():
                excess -= entry.num_bytes

    def _remove_stale(self) -> None:
        """Remove the temporary folders of processes that died."""
        for folder in self._folders():
            if folder.name.startswith(TEMPORARY) and _seconds_since_use(folder) > STALE_SECONDS:
                self._remove(folder)

    def _discard(self, entry: Path, seen: os.stat_result) -> None:
        """Remove what was found damaged, unless another process has put a new entry in its place since."""
        with contextlib.suppress(OSError):
            present = entry.lstat()
            if (present.st_ino, present.st_ctime_ns) == (seen.st_ino, seen.st_ctime_ns):
                self._remove(entry)

    def _remove(self, path: Path) -> bool:
        """Move it out of the way in one step, so that nobody sees half of it, and delete it; whether we did."""
        away = self.directory / f"{TEMPORARY}{secrets.token_hex(8)}"
        try:
            path.rename(away)
            if stat.S_ISDIR(away.lstat().st_mode):
                shutil.rmtree(away, ignore_errors=True)
            else:
                away.unlink()
        except OSError:
            return False
        return True

    def _wait_for(self, path: Path, timeout: float) -> int | None:
        deadline = time.monotonic() + timeout
        while True:
            try:
                self._prepare()
                handle = _try_lock(path)
            except OSError:  # as on file systems without locks
                return None
            if handle is not None or time.monotonic() >= deadline:
                return handle
            time.sleep(POLL_SECONDS)

    def _clear_locks(self) -> None:
        with contextlib.suppress(OSError):
            for path in [path for path in (self.directory / LOCKS).iterdir() if LOCK.fullmatch(path.name)]:
                if (handle := _try_lock(path)) is not None:
                    _release(handle, path)


class _Entry(NamedTuple):
    used: float
    num_bytes: int
    folder: Path


def _bound_from_environment() -> int:
    text = os.environ.get(BOUND_VARIABLE) or str(DEFAULT_MB)
    try:
        megabytes = float(text)
    except ValueError:
        megabytes = math.nan
    if not 0 < megabytes < math.inf:
        raise OptionError(f"{BOUND_VARIABLE}: found {text!r}, wanted a number of megabytes above 0.")
    return int(megabytes * 2**20)


def _check_key(key: str) -> str:
    if not isinstance(key, str) or KEY.fullmatch(key) is None:
        raise ValueError(f"key: found {key!r}, wanted 64 hexadecimal digits in lower case, as of a sha256.")
    return key


def _read_contents(files: Mapping[str, bytes | Path]) -> dict[str, bytes]:
    for name in files:
        if FILE_NAME.fullmatch(name) is None or name == MANIFEST:
            raise ValueError(f"files: found the name {name!r}, wanted that of a plain file other than {MANIFEST}.")
    return {name: given.read_bytes() if isinstance(given, Path) else bytes(given) for name, given in files.items()}


def _write_file(path: Path, content: bytes) -> None:
    # Shared objects are mapped, not executed: they need no x bit.
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every file system can; the hashes tell what a crash has cost
        handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _manifest(key: str, described: Mapping[str, tuple[int, str]]) -> dict[str, Any]:
    """What stands in the manifest, from the size and sha256 of every file."""
    files = {name: {"bytes": num_bytes, "sha256": digest} for name, (num_bytes, digest) in described.items()}
    return {"format": FORMAT, "key": key, "files": files}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_whole(folder: Path, key: str) -> bool:
    """Whether a folder is this user's alone and holds exactly what its manifest says."""
    try:
        if not _is_private(folder.lstat(), stat.S_ISDIR):
            return False
        with os.scandir(folder) as found:
            files = {item.name: item.stat(follow_symlinks=False) for item in found}
        if not all(_is_private(status, stat.S_ISREG) for status in files.values()):
            return False
        said = json.loads((folder / MANIFEST).read_bytes())
        files.pop(MANIFEST, None)
        return said == _manifest(key, {name: (files[name].st_size, _digest(folder / name)) for name in files})
    except (OSError, ValueError, RecursionError):
        return False


def _is_private(status: os.stat_result, has_kind: Callable[[int], bool]) -> bool:
    mine = status.st_uid == os.geteuid() and not status.st_mode & WRITABLE_BY_OTHERS
    return mine and has_kind(status.st_mode)


def _bytes_of(folder: Path) -> int:
    try:
        with os.scandir(folder) as found:
            return sum(item.stat(follow_symlinks=False).st_size for item in found)
    except OSError:
        return 0


def _seconds_since_use(folder: Path) -> float:
    """0 for a folder that is gone; the distance for one that a wrong clock has put into the future."""
    try:
        return abs(time.time() - folder.lstat().st_mtime)
    except OSError:
        return 0.0


def _try_lock(path: Path) -> int | None:
    """The locked file, or None while another process has it.

    Raises:
        OSError: locks do not work here.
    """
    assert fcntl is not None
    path.parent.mkdir(mode=0o700, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    held = False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Who held it before has removed the file, and a third may have locked a new one: then try again.
        held = os.path.samestat(os.fstat(handle), path.stat())
    except (BlockingIOError, FileNotFoundError):
        pass
    finally:
        if not held:
            os.close(handle)
    return handle if held else None


def _release(handle: int, path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()  # while it is held; whoever waits for it looks whether it is still there
    os.close(handle)
