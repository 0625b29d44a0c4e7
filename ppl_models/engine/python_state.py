"""Numbers that a model or guide keeps in Python and changes as it runs: a graph would freeze them."""

import types
from collections.abc import Callable
from typing import Any

import torch

PLAIN = (bool, int, float, str)
MOST_ITEMS = 1_000


def python_state(*callables: Callable[..., Any]) -> dict[str, str]:
    """Plain values that functions can reach: closures, globals that they name, and attributes of their objects.

    Returns:
        What was found, as text, by name; two calls can be compared.
    """
    found: dict[str, str] = {}
    for one in callables:
        _collect(one, found, set())
    return found


def changed_name(before: dict[str, str], after: dict[str, str]) -> str | None:
    """The first name whose value differs."""
    return next((name for name in {**before, **after} if before.get(name) != after.get(name)), None)


def _collect(value: Any, found: dict[str, str], seen: set[int]) -> None:
    if id(value) in seen or len(found) > MOST_ITEMS:
        return
    seen.add(id(value))
    if isinstance(value, types.MethodType):
        _collect(value.__self__, found, seen)
        _collect(value.__func__, found, seen)
    elif isinstance(value, types.FunctionType):
        _closure(value, found, seen)
        for name in () if _is_ours(value) else value.__code__.co_names:
            if name in value.__globals__:
                _note(name, value.__globals__[name], found, seen)
    elif isinstance(value, torch.nn.Module):
        for name, attribute in () if _is_ours(type(value)) else vars(value).items():
            if not name.startswith("_"):
                _note(name, attribute, found, seen)
        for part in value._modules.values():
            _collect(part, found, seen)
    elif hasattr(value, "__dict__") and not isinstance(value, (type, types.ModuleType, torch.Tensor)):
        for name, attribute in vars(value).items():
            _note(name, attribute, found, seen)


def _is_ours(definition: Any) -> bool:
    """Whether a class or function is a library's, which keeps its state to itself."""
    return str(definition.__module__).split(".")[0] in ("torch", "pyro", "ppl_models", "guides")


def _closure(function: types.FunctionType, found: dict[str, str], seen: set[int]) -> None:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            _note(name, cell.cell_contents, found, seen)
        except ValueError:
            continue  # not yet filled


def _note(name: str, value: Any, found: dict[str, str], seen: set[int]) -> None:
    if isinstance(value, PLAIN):
        found[f"{name}"] = repr(value)
    elif isinstance(value, (list, dict, set, tuple)):
        if len(value) <= MOST_ITEMS:
            items = value.items() if isinstance(value, dict) else value
            found[name] = f"{len(value)} " + repr([item for item in items if isinstance(item, (*PLAIN, tuple))])
    elif isinstance(value, (types.FunctionType, types.MethodType, torch.nn.Module)):
        _collect(value, found, seen)
