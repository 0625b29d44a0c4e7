"""The registry of problems: the library's own, those registered in this process, and those of installed packages.

A package offers problems through entry points of the group `ppl_models.problems`, each naming a function without
arguments that returns a `Problem`:

    [project.entry-points."ppl_models.problems"]
    my_problem = "my_package.my_module:build"

Nothing is imported before `load` asks for it.
"""

import random
from collections.abc import Callable
from importlib import import_module, metadata
from typing import Any, TypeVar, overload

from ppl_models.catalogue.problem import Problem
from ppl_models.errors import ModelError, OptionError, UnknownNameError

GROUP = "ppl_models.problems"
POSTERIORS = (
    "eight_schools_centered",
    "eight_schools_noncentered",
    "diabetes_horseshoe",
    "breast_cancer_logistic",
    "sleepstudy_varying_intercepts",
    "old_faithful_mixture",
    "lynx_ar2",
    "digits_ppca",
)
"""Problems whose every latent is of interest, so that NUTS gives a baseline for all of them."""
AUTOENCODERS = ("linear_vae_digits", "vae_digits", "single_cell_pbmc")
"""Problems with networks, and with latents for each row of the data: thousands, judged row by row."""
BUILT_IN = (*POSTERIORS, *AUTOENCODERS)

Build = Callable[[], Problem]
BuildT = TypeVar("BuildT", bound=Build)
_registered: dict[str, Build] = {}


def names() -> tuple[str, ...]:
    """The names of all problems: the library's, then the registered ones, then those of installed packages."""
    return tuple(dict.fromkeys([*BUILT_IN, *_registered, *_entry_points()]))


def load(name: str) -> Problem:
    """The problem of that name, built anew.

    Args:
        name: One of `names()`.

    Raises:
        UnknownNameError: If no problem has that name.
        ModelError: If an installed package offers the problem but cannot build it.
    """
    state = random.getstate()
    try:
        return _build(name)
    finally:
        random.setstate(state)  # importing scikit-learn draws from it


def _build(name: str) -> Problem:
    if name in _registered:
        return _registered[name]()
    if name in BUILT_IN:
        return import_module(f"ppl_models.catalogue.{name}").build()
    entry_points = _entry_points()
    if name not in entry_points:
        raise UnknownNameError("problem", name, names())
    return _load_entry_point(entry_points[name])


@overload
def register(name: str, build: BuildT, *, replace: bool = False) -> BuildT: ...


@overload
def register(name: str, build: None = None, *, replace: bool = False) -> Callable[[BuildT], BuildT]: ...


def register(name: str, build: Build | None = None, *, replace: bool = False) -> Any:
    """Add a problem for the rest of this process; without `build`, a decorator of the function that builds it.

    Args:
        name: The name to load it by.
        build: Function without arguments that returns the problem; it runs at each `load`.
        replace: Whether a problem that has the name already gives way.

    Returns:
        The building function, or the decorator.

    Raises:
        OptionError: If the name is empty, or is taken and `replace` is false.
    """
    if build is None:
        return lambda function: register(name, function, replace=replace)
    if not isinstance(name, str) or not name:
        raise OptionError(f"register: name is {name!r}, wanted a string that is not empty.")
    if name in names() and not replace:
        raise OptionError(f"register: a problem named {name!r} exists. Choose another name, or pass replace=True.")
    _registered[name] = build
    return build


def _entry_points() -> dict[str, metadata.EntryPoint]:
    """The problems that installed packages offer; the first of a name wins."""
    found: dict[str, metadata.EntryPoint] = {}
    for entry_point in metadata.entry_points(group=GROUP):
        found.setdefault(entry_point.name, entry_point)
    return found


def _load_entry_point(entry_point: metadata.EntryPoint) -> Problem:
    """Import and build a third party's problem; whatever goes wrong there is told as its fault."""
    try:
        problem = entry_point.load()()
    except Exception as error:
        raise ModelError(
            f"problem {entry_point.name!r}: its entry point {entry_point.value!r} failed with "
            f"{type(error).__name__}: {error}. Update or uninstall the package that offers it."
        ) from error
    if not isinstance(problem, Problem):
        raise ModelError(
            f"problem {entry_point.name!r}: its entry point {entry_point.value!r} returned {type(problem).__name__}, "
            "wanted a ppl_models.catalogue.Problem."
        )
    return problem
