"""The methods by name."""

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import Any

from ppl_models.errors import OptionError
from ppl_models.inference.monte_carlo.antithetic import Antithetic
from ppl_models.inference.monte_carlo.control_variates import ControlVariates
from ppl_models.inference.monte_carlo.importance import Importance
from ppl_models.inference.monte_carlo.mcmc import MarkovChain
from ppl_models.inference.monte_carlo.method import Method
from ppl_models.inference.monte_carlo.multilevel import Multilevel
from ppl_models.inference.monte_carlo.plain import Plain
from ppl_models.inference.monte_carlo.quasi import Quasi
from ppl_models.inference.monte_carlo.self_normalised import SelfNormalised
from ppl_models.inference.monte_carlo.sources import Source
from ppl_models.inference.monte_carlo.stratified import Stratified
from ppl_models.options import check_choice

AUTO = "auto"
METHODS: dict[str, type[Any]] = {
    kind.name: kind
    for kind in (
        Plain,
        Antithetic,
        ControlVariates,
        Stratified,
        Quasi,
        Importance,
        SelfNormalised,
        Multilevel,
        MarkovChain,
    )
}
"""Each is a frozen dataclass whose fields are its options."""


def choose_method(method: str | Method, source: Source, options: Mapping[str, Any]) -> Method:
    """The method of a name with its options.

    Args:
        method: a name, "auto" (plain for independent draws, mcmc for others), or a method that has its options already.
        source: what is averaged over.
        options: of the method.

    Raises:
        UnknownNameError: there is no method of that name; lists the names, nearest first.
        OptionError: the method has no such option; lists those that it has.
    """
    if not isinstance(method, str) and callable(getattr(method, "start", None)):
        if options:
            raise OptionError(f"method: options {sorted(options)} beside a method that has its own. Give them to it.")
        return method
    if method == AUTO:
        method = "plain" if source.independent else "mcmc"
    kind = METHODS[check_choice("method", method, METHODS)]
    valid = [field.name for field in fields(kind)]
    unknown = sorted(set(options) - set(valid))
    if unknown:
        known = ", ".join(valid) if valid else "none"
        raise OptionError(f"{unknown[0]}: not an option of method {method!r}; it has: {known}.")
    return kind(**options)


def describe_methods() -> str:
    """The methods, a line for each: its name, what it does, and its options with their defaults."""
    lines = []
    for name, kind in METHODS.items():
        options = ", ".join(f"{each.name}{_usual(each)}" for each in fields(kind))
        lines.append(f"{name}({options}): {_first_sentence(kind)}")
    return "\n".join(lines)


def _usual(option: Field[Any]) -> str:
    if option.default_factory is not MISSING:
        return f"={option.default_factory()!r}"
    return "" if option.default is MISSING else f"={option.default!r}"


def _first_sentence(kind: type[Any]) -> str:
    return " ".join((kind.__doc__ or "").split("\n\n")[0].split())
