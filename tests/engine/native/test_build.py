"""The compiler: which one is used, and what is said and kept where it fails."""

import re
import stat
import tempfile
from pathlib import Path

import numpy as np
import pytest
from closed_forms import DATA, regression

import ppl_models as ppl
from ppl_models.engine.cache import Cache
from ppl_models.engine.native import build as module
from ppl_models.engine.native.build import build, compiler_identity, cpp_compiler
from ppl_models.errors import BackendWarning, CaptureError


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """Let a shell script be the compiler; logs are kept below the test's own folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    module._flags()  # torch remembers for good what its first compiler could do

    def fake(script, version="echo version 1; exit 0"):
        path = tmp_path / "compiler"
        path.write_text(f'#!/bin/sh\nif [ "$1" = --version ]; then {version}; fi\n{script}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("CXX", str(path))
        return path

    return fake


def failure(source="int x;"):
    with pytest.raises(CaptureError) as caught:
        build(source)
    return str(caught.value)


def log_of(message):
    return Path(re.search(r"\(log: (.*)\)$", message).group(1))


def test_the_environment_names_the_compiler(monkeypatch):
    monkeypatch.setattr(module.shutil, "which", lambda name: f"/bin/{name}" if name in ("mine", "g++", "c++") else None)
    monkeypatch.setenv("CXX", "mine")
    assert cpp_compiler() == "/bin/mine"
    monkeypatch.setenv("CXX", "absent")
    assert cpp_compiler() is None
    monkeypatch.delenv("CXX")
    assert cpp_compiler() == "/bin/g++"


def test_without_a_compiler_the_remedy_is_said(monkeypatch):
    monkeypatch.setenv("CXX", "absent")
    assert failure() == "no C++ compiler found (set CXX, or install g++ or clang++)"


def test_a_failure_has_the_last_lines_and_the_log(fake, tmp_path):
    path = fake('echo out; for i in 1 2 3 4 5 6; do echo "  error $i" >&2; echo >&2; done; exit 1')
    message = failure("int wrong;")
    assert message.startswith("the compiler failed: error 3 / error 4 / error 5 / error 6 (log: ")
    log = log_of(message)
    assert log.read_text().startswith(f"{path} ")
    assert "-march=native" in log.read_text()
    assert log.read_text().endswith("out\n" + "".join(f"  error {i}\n\n" for i in range(1, 7)))
    assert (log.parent / "step.cpp").read_text() == "int wrong;"
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith("ppl-models-build")] == []


def test_a_silent_failure_has_its_exit_code(fake):
    fake("exit 3")
    assert failure().startswith("the compiler failed: exit code 3 (log: ")


def test_a_compiler_that_cannot_be_run(fake, tmp_path):
    fake("").write_bytes(b"\x7fELF")
    assert failure().startswith("the compiler failed: ")


def test_a_compiler_that_does_not_end(fake, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.1)
    fake("exec sleep 20")
    assert "timed out" in failure()


@pytest.mark.native
def test_a_mistake_in_the_source_is_quoted(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    message = failure("int f() { return undefined_name; }")
    assert "undefined_name" in message
    assert "undefined_name" in log_of(message).read_text()


def test_the_identity_tells_compilers_apart(fake, tmp_path):
    first = compiler_identity(str(fake("").rename(tmp_path / "first")))
    other = compiler_identity(str(fake("", "echo version 2; exit 0").rename(tmp_path / "other")))
    assert "version 1" in first
    assert "version 2" in other
    assert "march=native" in first


def test_a_compiler_without_a_version_has_failed(fake):
    path = fake("", "echo no licence >&2; exit 1")
    with pytest.raises(CaptureError, match=r"the compiler failed: no licence \(log: "):
        compiler_identity(str(path))


def test_a_single_graph_needs_no_precompiled_header(monkeypatch, tmp_path):
    monkeypatch.setenv("PPL_MODELS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "_precompile", lambda *_: pytest.fail("precompiles"))
    assert module._precompiled("/usr/bin/g++") is None
    Cache().put("a" * 64, {"step.so": b""})
    assert module._precompiled("/usr/bin/clang++") is None


def test_a_header_that_cannot_be_precompiled_is_done_without(fake, monkeypatch, tmp_path):
    monkeypatch.setenv("PPL_MODELS_CACHE_DIR", str(tmp_path / "cache"))
    Cache().put("a" * 64, {"step.so": b""})
    assert module._precompiled(str(fake("exit 1").rename(tmp_path / "g++"))) is None


@pytest.mark.parametrize("version", ["echo version 1; exit 0", ":"], ids=["with a version", "without"])
def test_a_fit_whose_compiler_fails_runs_eagerly_and_says_so(fake, version):
    fake('echo "fatal error: no such header" >&2; exit 1', version)
    with pytest.warns(BackendWarning, match="Running slower, with eager") as caught:
        fit = ppl.fit(regression, DATA, guide="normal", seed=1, max_steps=3, num_particles=1, backend="native")
    assert fit.backend == "eager"
    assert np.isfinite(fit.losses).all()
    assert fit.backend_note.startswith("backend native: the compiler failed: fatal error: no such header (log: ")
    assert len(caught) == 1
    assert fit.backend_note in str(caught[0].message)
    assert log_of(fit.backend_note).is_file()
