import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from ppl_models.cli import app
from ppl_models.engine.cache import Cache


@pytest.fixture
def run():
    def run(*arguments):
        result = CliRunner().invoke(app, ["cache", *arguments])
        assert "Traceback" not in result.output
        return result

    return run


@pytest.fixture
def directory(monkeypatch, tmp_path):
    chosen = tmp_path / ("a long name of a folder " * 5) / "[bold]cache"
    monkeypatch.setenv("PPL_MODELS_CACHE_DIR", str(chosen))
    monkeypatch.setenv("PPL_MODELS_CACHE_MB", "64")
    return chosen


@pytest.fixture
def two_entries(directory):
    cache = Cache()
    for digit in "ab":
        cache.put(digit * 64, {"model.so": bytes(2**20)})
    return cache


def test_info(run, directory, two_entries):
    result = run("info")
    assert result.exit_code == 0
    assert [line.split(maxsplit=1) for line in result.stdout.splitlines()] == [
        ["folder", str(directory)],
        ["entries", "2"],
        ["size", "2.0 MB"],
        ["bound", "64.0 MB"],
    ]
    assert json.loads(run("info", "--json").stdout) == {
        "folder": str(directory),
        "entries": 2,
        "bytes": two_entries.size()[1],
        "max_bytes": 2**26,
        "off": None,
    }


def test_info_says_why_the_cache_is_off(run, directory):
    directory.parent.mkdir()
    directory.write_text("")
    assert "off      it is not a folder" in run("info").stdout


def test_clear(run, directory, two_entries):
    assert run("clear").stdout == f"removed 2 entries, 2.0 MB, from {directory}\n"
    assert two_entries.size() == (0, 0)
    two_entries.put("c" * 64, {"model.so": b""})
    assert run("clear").stdout == f"removed 1 entry, 0.0 MB, from {directory}\n"
    assert json.loads(run("clear", "--json").stdout) == {"folder": str(directory), "entries": 0, "bytes": 0, "left": 0}


def test_clear_says_what_it_cannot_remove(run, directory, two_entries, monkeypatch):
    def refused(*_arguments):
        raise PermissionError

    monkeypatch.setattr("pathlib.Path.rename", refused)
    result = run("clear")
    assert result.stdout == f"removed 0 entries, 0.0 MB, from {directory}\n"
    assert result.stderr == f"note: 2 entries left in {directory}: not yours to remove, or added just now.\n"


@pytest.mark.parametrize("name", ["info", "clear"])
def test_a_bad_bound_is_a_mistake(run, directory, monkeypatch, name):
    monkeypatch.setenv("PPL_MODELS_CACHE_MB", "lots")
    result = run(name)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("ppl-models: PPL_MODELS_CACHE_MB: found 'lots'")


def test_help_names_both(run):
    assert all(word in run("--help").stdout for word in ("info", "clear"))


def test_the_commands_import_no_torch(directory):
    code = """
import sys
from ppl_models.cli import main
sys.argv = ["ppl-models", "cache", sys.argv[1]]
try:
    main()
finally:
    print(sorted({"torch", "numpy", "pyro"} & sys.modules.keys()))
"""
    for name in ("info", "clear"):
        ran = subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True, check=True)
        assert ran.stdout.splitlines()[-1] == "[]"
