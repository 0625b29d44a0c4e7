"""Versions of the packages that made a result."""

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("ppl-models", "pyro-ppl", "torch", "arviz-base", "arviz-stats", "arviz-plots", "nutpie", "numpy", "xarray")


@cache
def version_of(package: str) -> str:
    """Version of an installed package; empty where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


@cache
def versions() -> dict[str, str]:
    """Version of Python and of each package in `PACKAGES` that is installed."""
    found = {package: version_of(package) for package in PACKAGES}
    return {"python": platform.python_version(), **{package: number for package, number in found.items() if number}}
