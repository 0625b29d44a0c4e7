"""Versions of the packages that made a result."""

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("ppl-models", "pyro-ppl", "torch", "arviz-base", "arviz-stats", "arviz-plots", "nutpie", "numpy", "xarray")


@cache
def versions() -> dict[str, str]:
    """Version of Python and of each package in `PACKAGES` that is installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
