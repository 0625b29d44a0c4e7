"""What a user may give as a guide, turned into a guide."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyro
import pyro.poutine as poutine
import torch
from pyro.infer.autoguide import AutoGuide

import guides as families
from ppl_models.errors import GuideError, OptionError, UnknownNameError
from ppl_models.inference.preconditioning.initial import Initial
from ppl_models.inference.private import private_copy
from ppl_models.program import Program
from ppl_models.program.nodes import nodes_of

GuideSpec = str | type[AutoGuide] | AutoGuide | Callable[..., Any]
"""A family's name, an AutoGuide class or instance, a factory `model -> guide`, or a guide function or module."""


@dataclass(frozen=True)
class ResolvedGuide:
    """A guide ready to be fitted.

    Attributes:
        guide: called with the model's arguments.
        name: for people; the family's name where there is one.
        family: the automatic family, None for any other guide.
        automatic: whether Pyro derived it from the model.
    """

    guide: Callable[..., Any]
    name: str
    family: families.Family | None
    automatic: bool

    @property
    def point(self) -> bool:
        """Whether the guide is a point estimate."""
        return self.family is not None and self.family.point


def check_guide_name(guide: GuideSpec) -> None:
    """Refuse a family name that is not known.

    Raises:
        UnknownNameError: lists the valid names, nearest first.
    """
    if guide == "amortized":
        raise OptionError("guide: found 'amortized', wanted the guide itself: guide=guides.amortized(model).")
    if isinstance(guide, str) and guide not in families.FAMILIES:
        from ppl_models.inference.methods.registry import METHODS  # methods stand on guides

        raise UnknownNameError("guide", guide, (*families.names(), *METHODS, "auto"))


def resolve_guide(
    spec: GuideSpec,
    program: Program,
    options: Mapping[str, Any],
    memo: dict[int, Any],
    init_scale: float,
    initial: Initial | None = None,
) -> ResolvedGuide:
    """Make the guide for a program. Call it inside `program.isolated()`.

    Args:
        spec: what the user gave.
        program: the model with its data.
        options: options of the automatic family.
        memo: of the fit's private copies.
        init_scale: initial scale of automatic families, unconstrained.
        initial: where the user wants an automatic guide to begin.

    Raises:
        UnknownNameError: no family has that name.
        GuideError: the object given is no guide, or its family cannot serve the model.
        OptionError: the family has no such option.
    """
    check_guide_name(spec)
    if isinstance(spec, str):
        return _family(spec, program, options, init_scale, initial)
    if options:
        raise OptionError(f"guide_options: found {sorted(options)}, but only a family named by text takes options.")
    if isinstance(spec, type):
        if not issubclass(spec, AutoGuide):
            raise GuideError(f"guide: class {spec.__name__} is no AutoGuide. Pass an instance, or a factory.")
        begin = {} if initial is None else {"init_loc_fn": initial.init_loc_fn}
        return _checked_automatic(spec(program.model, **begin), spec.__name__, program)
    if isinstance(spec, AutoGuide):
        return _checked_automatic(private_copy(spec, memo, program.dtype, program.device), type(spec).__name__, program)
    if isinstance(spec, torch.nn.Module) or inspect.ismethod(spec):
        _refuse_init(initial, _name(spec))
        return ResolvedGuide(private_copy(spec, memo, program.dtype, program.device), _name(spec), None, False)
    if not callable(spec):
        raise GuideError(
            f"guide: found {type(spec).__name__}, wanted a family name ({', '.join(families.names())}), an AutoGuide, "
            "a factory model -> guide, or a guide function."
        )
    made = _call_factory(spec, program)
    if not isinstance(made, AutoGuide):
        _refuse_init(initial, _name(spec))
    if made is None:
        return ResolvedGuide(spec, _name(spec), None, False)
    if isinstance(made, AutoGuide):
        return _checked_automatic(made, type(made).__name__, program)
    return ResolvedGuide(made, _name(spec), None, False)


def _refuse_init(initial: Initial | None, name: str) -> None:
    if initial is not None:
        raise OptionError(
            f"init: guide '{name}' begins where its own parameters do; only automatic guides can be placed. Give its "
            "parameters other initial values."
        )


def _family(
    name: str, program: Program, options: Mapping[str, Any], init_scale: float, initial: Initial | None
) -> ResolvedGuide:
    family = families.FAMILIES[name]
    begin = {} if initial is None else {"init_loc_fn": initial.init_loc_fn}
    try:
        guide = families.make(name, program.model, **{"init_scale": init_scale, **begin, **options})
    except families.FamilyOptionError as error:
        raise OptionError(f"guide_options: {error}") from None
    return _checked_automatic(guide, name, program, family)


def _checked_automatic(
    guide: AutoGuide, name: str, program: Program, family: families.Family | None = None
) -> ResolvedGuide:
    sites = program.sites
    if sites.discrete:
        names = ", ".join(f"'{site.name}'" for site in sites.discrete)
        raise GuideError(
            f"guide '{name}': discrete latent {names} cannot be fitted by an automatic guide. Sum it out: mark it "
            "infer={'enumerate': 'parallel'} (finite supports), or write a mixture distribution in its place."
        )
    if program.moving_supports and not getattr(guide, "follows_supports", False):
        names = ", ".join(f"'{n}'" for n in sorted(program.moving_supports))
        raise GuideError(
            f"guide '{name}': the support of {names} depends on another latent, and most automatic guides keep the "
            f"support of their first run. Take {_families('follows_supports')}, or sample it on a fixed support and "
            "scale it with pyro.deterministic."
        )
    local = [s.name for s in sites.latent if set(s.plates) & program.explicit_subsamples]
    if local and not getattr(guide, "follows_subsamples", False):
        raise GuideError(
            f"guide '{name}': latent '{local[0]}' lies in a plate whose subsample the model gives itself; most "
            f"automatic guides draw indices of their own there. Take {_families('follows_subsamples')}, "
            "plate(subsample_size=...) or a hand-written guide."
        )
    return ResolvedGuide(guide, name, family, True)


def _families(able: str) -> str:
    return " or ".join(f"guide='{name}'" for name, family in families.FAMILIES.items() if getattr(family, able))


def _call_factory(spec: Callable[..., Any], program: Program) -> Callable[..., Any] | None:
    """What `spec(model)` gives if that is a guide; None where `spec` is itself the guide."""
    if _needs_more_than_one(spec):
        return None
    try:
        with pyro.get_param_store().scope(), poutine.block(hide_types=["sample"]):
            trace = poutine.trace(spec).get_trace(program.model)
    except Exception:
        # A guide function called with a model for data fails in its own way: then it is no factory.
        return None
    sampled = any(node["type"] == "sample" for node in nodes_of(trace).values())
    made = nodes_of(trace)["_RETURN"]["value"]
    return made if callable(made) and not sampled and not isinstance(made, torch.Tensor) else None


def _needs_more_than_one(spec: Callable[..., Any]) -> bool:
    try:
        inspect.signature(spec).bind(None)
    except (TypeError, ValueError):
        return True
    return False


def _name(spec: Any) -> str:
    name = getattr(spec, "__name__", type(spec).__name__)
    # Hand-written guides stand one to a module, and are all called `guide` there.
    if inspect.ismethod(spec):
        return f"{type(spec.__self__).__name__}.{spec.__name__}"
    return spec.__module__.rsplit(".", 1)[-1] if name == "guide" and spec.__module__ != "__main__" else name
