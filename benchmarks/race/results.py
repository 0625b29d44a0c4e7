"""The file of results: each part keeps what it measured, when, where and with which versions."""

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "ppl-models", "torch", "pyro-ppl", "numpyro", "jax", "jaxlib", "pymc", "pytensor", "nutpie", "numba", "numpy",
)  # fmt: skip


def circumstances(command: str, rounds: int) -> dict[str, Any]:
    """What a figure depends on, apart from the programs."""
    return {
        "command": command,
        "rounds": rounds,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": os.getloadavg()[0],  # what else was running when it began
        "versions": {"python": platform.python_version(), **_versions()},
    }


def merged(path: Path, parts: dict[str, Any]) -> dict[str, Any]:
    """The document at this path with these parts replaced; the parts that were not run stay."""
    try:
        old = json.loads(path.read_text())["parts"]
    except (OSError, ValueError, KeyError):
        old = {}
    return {"parts": dict(sorted({**old, **parts}.items()))}


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
