"""Compile generated C++ to a shared object."""

import contextlib
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch

from ppl_models.engine.cache import Cache
from ppl_models.errors import CaptureError

TIMEOUT_SECONDS = 600
KEPT_LINES = 4
FLAGS = (
    "-O3",
    "-march=native",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-std=c++20",
    "-DNDEBUG",
    "-fopenmp",
    "-fPIC",
    "-w",
)
PREFIX = "prefix.hpp"
HEADERS = (
    "torch/csrc/inductor/cpp_prefix.h",
    "torch/csrc/inductor/aoti_torch/generated/c_shim_cpu.h",
    "torch/csrc/stable/c/shim.h",
)
"""What all generated files include; read once into a precompiled header, which halves the time of the compiler."""


def cpp_compiler() -> str | None:
    """Path of the C++ compiler that would be used, None where there is none."""
    named = os.environ.get("CXX")
    candidates = [named] if named else ["g++", "clang++", "c++"]
    return next((path for name in candidates if (path := shutil.which(name))), None)


@cache
def compiler_identity(compiler: str) -> str:
    """What decides whether a shared object fits: the compiler's version, the processor, torch and our own flags.

    Raises:
        CaptureError: the compiler does not even tell its version.
    """
    with _folder() as folder:
        version = _run([compiler, "--version"], folder)
    return "\n".join((compiler, version, _processor(), torch.__version__, " ".join(FLAGS)))


def build(source: str) -> bytes:
    """Compile one C++ file; returns the shared object.

    Raises:
        CaptureError: there is no compiler, or it failed; the message has its last lines and the place of the log.
    """
    compiler = cpp_compiler()
    if compiler is None:
        raise CaptureError("no C++ compiler found (set CXX, or install g++ or clang++)")
    with _folder() as folder:
        written, target = folder / "step.cpp", folder / "step.so"
        written.write_text(source)
        before = _precompiled(compiler)
        included = ["-include", str(before)] if before else []
        _run([compiler, *included, *_flags(), "-shared", str(written), "-o", str(target), *_libraries()], folder)
        return target.read_bytes()


def _precompiled(compiler: str) -> Path | None:
    """The precompiled header; made when the second graph is compiled, since a single one would not repay it."""
    name = Path(compiler).name
    if "g++" not in name or "clang" in name:
        return None
    cache = Cache()
    key = hashlib.sha256("\n".join(("prefix", *HEADERS, compiler_identity(compiler))).encode()).hexdigest()
    found = cache.get(key)
    if found is None and cache.size()[0]:
        with cache.lock(key), _folder() as folder, contextlib.suppress(CaptureError):
            found = cache.get(key) or _precompile(compiler, folder, cache, key)
    return found / PREFIX if found else None


def _precompile(compiler: str, folder: Path, cache: Cache, key: str) -> Path | None:
    header, target = folder / PREFIX, folder / f"{PREFIX}.gch"
    header.write_text("".join(f"#include <{name}>\n" for name in HEADERS))
    _run([compiler, *_flags(), "-x", "c++-header", str(header), "-o", str(target)], folder)
    return cache.put(key, {PREFIX: header, target.name: target})


def _run(command: list[str], folder: Path) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CaptureError(f"the compiler failed: {error}") from error
    if done.returncode == 0:
        return done.stdout
    kept = Path(tempfile.mkdtemp(prefix="ppl-models-failed-"))
    shutil.copytree(folder, kept, dirs_exist_ok=True)
    log = kept / "compiler.log"
    log.write_text(" ".join(command) + "\n" + done.stdout + done.stderr)
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()][-KEPT_LINES:]
    raise CaptureError(f"the compiler failed: {' / '.join(lines) or f'exit code {done.returncode}'} (log: {log})")


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ppl-models-build-") as name:
        yield Path(name)


@cache
def _flags() -> tuple[str, ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about itself
        from torch._inductor.cpu_vec_isa import pick_vec_isa

    include = Path(torch.__file__).parent / "include"
    isa = pick_vec_isa()
    return (
        *FLAGS,
        f"-I{include}",
        f"-I{include / 'torch/csrc/api/include'}",
        "-DTORCH_INDUCTOR_CPP_WRAPPER",
        "-DSTANDALONE_TORCH_HEADER",
        "-DC10_USING_CUSTOM_GENERATED_MACROS",
        *(f"-D{macro}" for macro in isa.build_macro()),
        *isa.build_arch_flags().split(),
    )


def _libraries() -> list[str]:
    return [f"-L{Path(torch.__file__).parent / 'lib'}", "-ltorch_cpu", "-lc10"]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())
