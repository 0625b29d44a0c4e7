"""The disk cache: what is damaged or foreign is never returned, and no process can spoil it for another."""

import contextlib
import errno
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import ppl_models
from ppl_models.engine import cache as module
from ppl_models.engine.cache import Cache, cache_directory
from ppl_models.errors import OptionError

FILES = {"model.so": b"\x7fELF" + bytes(range(256)) * 8, "model.json": b"{}"}
HOUR = 3_600.0
DAY = 24 * HOUR

# The package of the engine imports torch; processes load the one file, as the command line does.
PRELUDE = f"""
import hashlib, importlib.util, os, random, signal, sys, time
from pathlib import Path
spec = importlib.util.spec_from_file_location("cache", {str(Path(module.__file__))!r})
cache_file = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cache_file)
assert "torch" not in sys.modules
cache = cache_file.Cache(Path(sys.argv[1]))
key = lambda name: hashlib.sha256(name.encode()).hexdigest()
"""


def key(name):
    return hashlib.sha256(name.encode()).hexdigest()


KEY = key("model")


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


@pytest.fixture
def start(cache):
    """Start a Python process with `cache`, `key` and the arguments at hand; it is killed with the test."""
    with contextlib.ExitStack() as stack:

        def start(code, *arguments):
            process = subprocess.Popen(
                [sys.executable, "-W", "error", "-c", PRELUDE + code, str(cache.directory), *map(str, arguments)],
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": str(Path(ppl_models.__file__).parents[1])},
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


def finish(process):
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    return output


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"}


def age(folder, seconds):
    then = time.time() - seconds
    os.utime(folder, (then, then))


def test_what_is_put_can_be_had(cache, tmp_path):
    (tmp_path / "given.so").write_bytes(FILES["model.so"])
    assert cache.get(KEY) is None
    assert not cache.directory.exists()
    folder = cache.put(KEY, {**FILES, "model.so": tmp_path / "given.so"})
    assert folder == cache.directory / KEY == cache.get(KEY)
    assert contents(folder) == FILES
    assert names(cache.directory) == [KEY]
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (folder, cache.directory)} == {0o700}


def test_modes_do_not_depend_on_the_umask(cache):
    before = os.umask(0)
    try:
        folder = cache.put(KEY, FILES)
        with cache.lock(KEY) as held:
            assert held
            (lock,) = (cache.directory / "locks").iterdir()
            assert lock.stat().st_mode & 0o777 == 0o600
            assert lock.parent.stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(before)
    assert cache.get(KEY) == folder
    assert {path.stat().st_mode & 0o077 for path in (folder, *folder.iterdir(), cache.directory)} == {0}


def test_the_first_entry_stays(cache):
    folder = cache.put(KEY, FILES)
    assert cache.put(KEY, {"model.so": b"other"}) == folder
    assert contents(folder) == FILES
    assert names(cache.directory) == [KEY]


@pytest.mark.parametrize(
    "wrong", ["", "abc", KEY.upper(), KEY + "0", KEY + "\n", "../" + KEY[3:], "g" * 64, None, b"a"]
)
def test_keys_are_sha256(cache, wrong):
    for call in (cache.get, lambda key: cache.put(key, FILES), lambda key: cache.lock(key).__enter__()):
        with pytest.raises(ValueError, match="64 hexadecimal digits"):
            call(wrong)


@pytest.mark.parametrize("name", ["manifest.json", "../model.so", "a/b", "/etc/passwd", "..", ".", "", ".hidden"])
def test_names_are_plain(cache, name):
    with pytest.raises(ValueError, match="plain file"):
        cache.put(KEY, {name: b""})
    assert not cache.directory.exists()


def test_a_given_file_that_is_missing_is_a_mistake(cache, tmp_path):
    with pytest.raises(FileNotFoundError):
        cache.put(KEY, {"model.so": tmp_path / "missing.so"})
    assert not cache.directory.exists()


def truncate(entry):
    os.truncate(entry / "model.so", 100)


def truncate_manifest(entry):
    os.truncate(entry / "manifest.json", 100)


def flip(entry):
    content = bytearray((entry / "model.so").read_bytes())
    content[1_000] ^= 1
    (entry / "model.so").write_bytes(content)


def add(entry):
    (entry / "extra.so").write_bytes(b"")


def add_folder(entry):
    (entry / "extra").mkdir()


def add_pipe(entry):
    os.mkfifo(entry / "extra")


def drop(entry):
    (entry / "model.json").unlink()


def drop_manifest(entry):
    (entry / "manifest.json").unlink()


def empty(entry):
    for path in entry.iterdir():
        path.unlink()


def rename(entry):
    (entry / "model.json").rename(entry / "other.json")


def rewrite_manifest(text):
    def rewritten(entry):
        (entry / "manifest.json").write_text(text)

    return rewritten


def change_key(entry):
    manifest = json.loads((entry / "manifest.json").read_text())
    (entry / "manifest.json").write_text(json.dumps({**manifest, "key": key("other")}))


def change_format(entry):
    manifest = json.loads((entry / "manifest.json").read_text())
    (entry / "manifest.json").write_text(json.dumps({**manifest, "format": 2}))


def link_file(entry):
    (entry / "model.so").rename(entry.parent / "elsewhere.so")
    (entry / "model.so").symlink_to(entry.parent / "elsewhere.so")


def link_manifest(entry):
    (entry / "manifest.json").rename(entry.parent / "elsewhere.json")
    (entry / "manifest.json").symlink_to(entry.parent / "elsewhere.json")


def link_folder(entry):
    entry.rename(entry.parent / "elsewhere")
    entry.symlink_to(entry.parent / "elsewhere")


def link_to_nothing(entry):
    entry.rename(entry.parent / "elsewhere")
    entry.symlink_to(entry.parent / "nowhere")


def open_to_others(entry):
    (entry / "model.so").chmod(0o602)


def open_to_group(entry):
    (entry / "manifest.json").chmod(0o620)


def open_folder(entry):
    entry.chmod(0o707)


def not_a_folder(entry):
    entry.rename(entry.parent / "elsewhere")
    entry.write_bytes(b"")


DAMAGES = {
    "truncated": truncate,
    "truncated manifest": truncate_manifest,
    "flipped bit": flip,
    "extra file": add,
    "extra folder": add_folder,
    "named pipe": add_pipe,
    "missing file": drop,
    "missing manifest": drop_manifest,
    "empty": empty,
    "renamed file": rename,
    "manifest of no text": rewrite_manifest("\x00\ud7ff"),
    "manifest of a list": rewrite_manifest("[]"),
    "manifest without end": rewrite_manifest("[" * 100_000),
    "manifest of another key": change_key,
    "manifest of another format": change_format,
    "file is a link": link_file,
    "manifest is a link": link_manifest,
    "folder is a link": link_folder,
    "link to nothing": link_to_nothing,
    "file world-writable": open_to_others,
    "manifest group-writable": open_to_group,
    "folder world-writable": open_folder,
    "file in its place": not_a_folder,
}


@pytest.mark.parametrize("put_first", [False, True], ids=["get", "put"])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_entries_are_discarded(cache, damage, put_first):
    folder = cache.put(KEY, FILES)
    other = cache.put(key("other"), FILES)
    damage(folder)
    if not put_first:
        assert cache.get(KEY) is None
        assert not os.path.lexists(folder)
    assert cache.put(KEY, FILES) == folder
    assert contents(cache.get(KEY)) == FILES
    assert cache.get(key("other")) == other
    assert [name for name in names(cache.directory) if not name.startswith("elsewhere")] == sorted([KEY, other.name])
    for kept in cache.directory.glob("elsewhere/*"):  # what a link pointed to is not ours to remove
        assert kept.read_bytes() in (*FILES.values(), (folder / "manifest.json").read_bytes())


def test_an_entry_under_another_key_is_discarded(cache):
    cache.put(KEY, FILES).rename(cache.directory / key("other"))
    assert cache.get(key("other")) is None
    assert names(cache.directory) == []


def test_entries_of_another_user_are_never_returned(cache, monkeypatch):
    cache.put(KEY, FILES)
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    if owner != 0:  # a folder of another user, unless that is root, is not even looked into
        assert "another user" in cache.unusable()
    assert cache.get(KEY) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("path", ["", "model.so", "manifest.json"])
def test_files_of_another_user_are_discarded(cache, path):
    folder = cache.put(KEY, FILES)
    os.chown(folder / path, 12_345, -1)
    assert cache.get(KEY) is None
    assert names(cache.directory) == []


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_directory_that_others_can_write_to_is_not_used(cache, mode):
    cache.put(KEY, FILES)
    cache.directory.chmod(mode)
    assert "other users can write to it" in cache.unusable()
    assert cache.get(KEY) is None
    assert cache.put(key("other"), FILES) is None
    with cache.lock(KEY) as held:
        assert not held
    assert names(cache.directory) == [KEY]
    cache.directory.chmod(0o1777)  # as /tmp: others cannot exchange what is ours
    assert cache.unusable() is None
    assert cache.get(KEY) is not None


def test_discarding_spares_an_entry_put_since(cache, monkeypatch):
    folder = cache.put(KEY, FILES)
    flip(folder)
    is_whole = module._is_whole

    def another_process_is_faster(folder, key):
        found = is_whole(folder, key)
        monkeypatch.setattr(module, "_is_whole", is_whole)
        assert Cache(cache.directory).put(KEY, FILES) == folder
        return found

    monkeypatch.setattr(module, "_is_whole", another_process_is_faster)
    assert cache.get(KEY) is None
    assert cache.get(KEY) == folder


def test_least_recently_used_entries_make_room(cache):
    for position in range(4):
        folder = cache.put(key(str(position)), {"a": bytes(1_000)})
        age(folder, (4 - position) * HOUR)
    one = cache.size()[1] // 4
    assert cache.get(key("0")) is not None  # the oldest is used again
    small = Cache(cache.directory, max_bytes=3 * one)
    small.put(key("new"), {"a": bytes(1_000)})
    assert set(names(cache.directory)) == {key("0"), key("3"), key("new")}
    assert small.size() == (3, 3 * one)


def test_young_entries_and_the_new_one_stay(cache):
    tiny = Cache(cache.directory, max_bytes=0)
    young, old = tiny.put(key("young"), FILES), tiny.put(key("old"), FILES)
    age(young, 60)
    age(old, HOUR)
    new = tiny.put(KEY, FILES)
    assert set(names(cache.directory)) == {young.name, new.name}
    age(young, HOUR)
    age(new, HOUR)
    assert tiny.put(KEY, FILES) == new  # found, and so used
    assert set(names(cache.directory)) == {new.name}


def test_the_new_one_stays_where_the_clock_of_the_disk_is_wrong(cache, monkeypatch):
    tiny = Cache(cache.directory, max_bytes=0)
    tiny.put(key("other"), FILES)
    now = time.time()
    monkeypatch.setattr(module.time, "time", lambda: now + HOUR)
    assert contents(tiny.put(KEY, FILES)) == FILES
    assert names(cache.directory) == [KEY]


def test_reading_marks_as_used(cache):
    folder = cache.put(KEY, FILES)
    age(folder, DAY)
    cache.get(KEY)
    assert time.time() - folder.stat().st_mtime < HOUR


def test_stale_temporary_folders_are_removed(cache):
    cache.put(KEY, FILES)
    for name, seconds in (("stale", DAY + HOUR), ("fresh", HOUR)):
        folder = cache.directory / f".ppl-models-temporary-{name}"
        folder.mkdir()
        (folder / "model.so").write_bytes(b"")
        age(folder, seconds)
    cache.put(key("other"), FILES)
    assert set(names(cache.directory)) == {".ppl-models-temporary-fresh", KEY, key("other")}


def test_clear_removes_what_is_ours_alone(cache):
    assert cache.clear() == (0, 0)
    for name in ("0", "1"):
        cache.put(key(name), FILES)
    flip(cache.directory / key("0"))
    total = cache.size()
    assert total == (2, sum(path.stat().st_size for path in cache.directory.glob("*/*")))
    leftover = cache.directory / ".ppl-models-temporary-x"
    leftover.mkdir()
    (leftover / "model.so").write_bytes(bytes(10))
    (cache.directory / "notes.txt").write_text("mine")
    (cache.directory / "locks").mkdir()
    (cache.directory / "locks" / f"{KEY}.lock").write_text("")
    assert cache.clear() == (2, total[1] + 10)
    assert names(cache.directory) == ["locks", "notes.txt"]
    assert names(cache.directory / "locks") == []
    assert cache.size() == cache.clear() == (0, 0)


def test_a_crash_while_clearing_leaves_no_half_entry(cache, monkeypatch):
    cache.put(KEY, FILES)
    with monkeypatch.context() as patched:
        patched.setattr(module.shutil, "rmtree", lambda *_arguments, **_options: None)
        cache.clear()
        assert cache.get(KEY) is None
        assert cache.size() == (0, 0)
    assert cache.put(KEY, FILES) is not None
    assert cache.clear()[0] == 1
    assert names(cache.directory) == []


def test_clear_leaves_locks_that_are_held(cache):
    with cache.lock(KEY) as held, cache.lock(key("other")) as other:
        assert held
        assert other
        cache.clear()
        with cache.lock(KEY, timeout=0) as again:
            assert not again
    assert names(cache.directory / "locks") == []


def _write_nowhere(directory):
    cache = Cache(directory)
    assert cache.get(KEY) is None
    assert cache.put(KEY, FILES) is None
    with cache.lock(KEY) as held:
        assert not held
    assert cache.clear() == cache.size() == (0, 0)


def test_a_disk_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    _write_nowhere(tmp_path / "file" / "cache")  # permissions would not stop root
    _write_nowhere(tmp_path / "file")
    assert (tmp_path / "file").read_text() == ""
    assert Cache(tmp_path / "file").unusable() == "it is not a folder"


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
def test_a_folder_in_which_the_system_makes_none():
    _write_nowhere(Path("/proc/self/ppl-models"))


@pytest.mark.parametrize("step", ["write", "fsync", "rename"])
def test_a_full_disk_leaves_nothing(cache, monkeypatch, step):
    cache.put(key("other"), FILES)

    def full(*_arguments, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    if step == "write":
        write_file = module._write_file
        monkeypatch.setattr(module, "_write_file", lambda p, c: full() if p.name == "model.json" else write_file(p, c))
    elif step == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(Path, "rename", full)
    assert cache.put(KEY, FILES) is None
    assert names(cache.directory) == [key("other")]


def test_a_file_system_without_modes(cache, monkeypatch):
    write_file = module._write_file

    def without_modes(path, content):
        write_file(path, content)
        path.chmod(0o666)

    monkeypatch.setattr(module, "_write_file", without_modes)
    assert cache.put(KEY, FILES) is None
    assert names(cache.directory) == []


def test_ctrl_c_leaves_nothing(cache, monkeypatch):
    def interrupted(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache.put(KEY, FILES)
    assert names(cache.directory) == []


def test_locks_that_do_not_work(cache, monkeypatch):
    def unsupported(*_arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(module.fcntl, "flock", unsupported)
    started = time.monotonic()
    with cache.lock(KEY) as held:
        assert not held
    assert time.monotonic() - started < 5
    cache.clear()
    assert cache.put(KEY, FILES) is not None


def test_a_system_without_locks(cache, monkeypatch):
    monkeypatch.setattr(module, "fcntl", None)
    _write_nowhere(cache.directory)


@pytest.mark.parametrize("third", [False, True])
def test_the_lock_of_a_file_that_was_removed_is_none(cache, monkeypatch, third):
    path = cache.directory / "locks" / f"{KEY}.lock"
    flock, others = module.fcntl.flock, []

    def the_holder_releases_first(handle, operation):
        monkeypatch.setattr(module.fcntl, "flock", flock)
        path.unlink()
        if third:
            others.append(module._try_lock(path))
        flock(handle, operation)

    monkeypatch.setattr(module.fcntl, "flock", the_holder_releases_first)
    with cache.lock(KEY, timeout=0) as held:
        assert not held
    for other in others:
        os.close(other)
    with cache.lock(KEY, timeout=0) as held:
        assert held


def test_a_lock_is_freed_by_an_exception(cache):
    with pytest.raises(KeyboardInterrupt), cache.lock(KEY):
        raise KeyboardInterrupt
    with cache.lock(KEY, timeout=0) as held:
        assert held
    assert names(cache.directory / "locks") == []


LOCKER = """
with cache.lock(key("model")) as held:
    print(held, flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_no_file_stays_open(cache):
    before = len(os.listdir("/proc/self/fd"))
    for name in ("a", "b", "c"):
        with cache.lock(key(name)), cache.lock(key(name), timeout=0):
            cache.put(key(name), FILES)
            cache.get(key(name))
    cache.clear()
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_lock_of_a_killed_process_frees_itself(cache, start):
    process = start(LOCKER)
    assert process.stdout.readline() == "True\n"
    with cache.lock(KEY, timeout=0.1) as held:
        assert not held
    with cache.lock(key("other"), timeout=0) as held:
        assert held
    process.kill()
    with cache.lock(KEY, timeout=10) as held:
        assert held
    assert names(cache.directory / "locks") == []


COMPILER = """
if (folder := cache.get(key("model"))) is None:
    with cache.lock(key("model"), timeout=30) as held:
        assert held
        if (folder := cache.get(key("model"))) is None:
            print("compiling", flush=True)
            time.sleep(0.2)
            folder = cache.put(key("model"), {"a": b"x"})
assert (folder / "a").read_bytes() == b"x"
"""


def test_processes_that_want_the_same_entry_make_it_once(cache, start):
    processes = [start(COMPILER) for _ in range(4)]
    assert "".join(map(finish, processes)) == "compiling\n"
    assert names(cache.directory / "locks") == []


CROWD = """
chance = random.Random(sys.argv[2])
clears = sys.argv[3] == "clears"
for _ in range(40):
    name = str(chance.randrange(4))
    wanted = {"model.so": name.encode() * 20_000, "model.json": name.encode()}
    folder = cache.get(key(name)) or cache.put(key(name), wanted)
    with cache.lock(key(name), timeout=30) as held:
        assert held
    try:
        assert folder is not None
        assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name in wanted} == wanted
    except (AssertionError, FileNotFoundError):
        assert clears
    if clears and chance.random() < 0.2:
        cache.clear()
    cache.size()
"""


@pytest.mark.parametrize("clears", [False, True])
def test_processes_put_get_and_clear_at_once(cache, start, clears):
    for process in [start(CROWD, seed, "clears" if clears else "") for seed in range(4)]:
        finish(process)
    if not clears:
        assert cache.size()[0] == 4
    assert all(cache.get(name) is not None for name in names(cache.directory) if len(name) == 64)
    assert not [name for name in names(cache.directory) if name.startswith(".ppl-models-temporary-")]


READERS = """
print("ready", flush=True)
found = 0
while not (Path(sys.argv[1]) / "stop").exists():
    folder = cache.get(key("model"))
    if folder is not None:
        found += 1
        try:
            assert (folder / "a").read_bytes() == b"x"
        except FileNotFoundError:  # cleared since
            pass
assert found
"""


def test_clearing_while_another_process_reads(cache, start):
    process = start(READERS)
    assert process.stdout.readline() == "ready\n"
    for _ in range(50):
        cache.put(KEY, {"a": b"x"})
        time.sleep(0.002)
        cache.clear()
    (cache.directory / "stop").write_text("")
    finish(process)


# Audit events come before every call to the file system: die at the first, the second, …
DIES_MIDWAY = """
folder = Path(sys.argv[1])
seen = set()
for count in range(1, 1_000):
    process = os.fork()
    if process == 0:
        left = count
        def watch(event, arguments):
            global left
            if event.startswith(("open", "os.", "tempfile.", "shutil.")):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(watch)
        cache.put(key("model"), {"a": b"x", "b": b"y"})
        os._exit(0)
    died = os.waitpid(process, 0)[1] != 0
    found = cache.get(key("model"))
    seen.add((found is not None, sum(1 for _ in folder.glob(".ppl-models-temporary-*"))))
    if not died:
        break
    if found is None:
        assert not (folder / key("model")).exists()
    assert cache.put(key("model"), {"a": b"x", "b": b"y"}) is not None
    assert {path.name for path in cache.get(key("model")).iterdir()} == {"a", "b", "manifest.json"}
    cache.clear()
    assert not any(folder.iterdir())
print(count)
assert count > 10
assert seen >= {(False, 0), (False, 1), (True, 0)}
"""


def test_a_process_killed_anywhere_in_a_put(cache, start):
    assert int(finish(start(DIES_MIDWAY))) > 10


def test_directory_of_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for variable in ("PPL_MODELS_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    assert cache_directory() == tmp_path / "home" / ".cache" / "ppl-models"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_directory() == tmp_path / "home" / ".cache" / "ppl-models"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_directory() == tmp_path / "xdg" / "ppl-models"
    monkeypatch.setenv("PPL_MODELS_CACHE_DIR", "")
    assert cache_directory() == tmp_path / "xdg" / "ppl-models"
    monkeypatch.setenv("PPL_MODELS_CACHE_DIR", "~/own")
    assert Cache().directory == cache_directory() == tmp_path / "home" / "own"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PPL_MODELS_CACHE_DIR", "here")
    assert cache_directory() == tmp_path / "here"
    monkeypatch.setenv("PPL_MODELS_CACHE_DIR", "~nobody-of-that-name/cache")
    with pytest.raises(OptionError, match=r"^PPL_MODELS_CACHE_DIR: found '~nobody"):
        cache_directory()


def test_a_user_without_a_home(monkeypatch, tmp_path):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    for variable in ("PPL_MODELS_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.setattr(module.tempfile, "gettempdir", lambda: str(tmp_path))
    assert cache_directory() == tmp_path / f"ppl-models-{os.getuid()}"


def test_bound_of_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("PPL_MODELS_CACHE_MB", raising=False)
    assert Cache(tmp_path).max_bytes == 2**30
    monkeypatch.setenv("PPL_MODELS_CACHE_MB", "1.5")
    assert Cache(tmp_path).max_bytes == 1.5 * 2**20
    assert Cache(tmp_path, max_bytes=7).max_bytes == 7
    for bad in ("lots", "-1", "0", "nan", "inf", "1 GB"):
        monkeypatch.setenv("PPL_MODELS_CACHE_MB", bad)
        with pytest.raises(OptionError, match=f"^PPL_MODELS_CACHE_MB: found '{bad}', wanted a number of megabytes"):
            Cache(tmp_path)
    with pytest.raises(OptionError, match="max_bytes: found -1"):
        Cache(tmp_path, max_bytes=-1)
