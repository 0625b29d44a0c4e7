"""What an automatic family is: its name, its paper, its options, and how its guide is built."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pyro.infer import autoguide

from guides.errors import FamilyOptionError

Model = Callable[..., Any]
CREATE_PLATES = "default None: function of the model's arguments that returns the plates to draw subsamples from"


@dataclass(frozen=True)
class Family:
    """An automatic variational family.

    Attributes:
        name: Its name.
        summary: What it assumes, in one sentence.
        cite: The paper that describes it.
        build: Function of the model, `init_loc_fn`, `init_scale` and the options that returns the guide.
        options: What each option means and its default.
        finalize: Function of the optimised guide and the model's arguments that returns the guide to use; None where
            the optimised guide is that guide.
        restore: Function of a guide as `build` gives it, the buffers by name of the guide that `finalize` gave, and the
            model's arguments; returns that finalized guide again. None where `finalize` is.
        follows_subsamples: Whether its guide takes a plate's elements from the model, also where the model names them
            itself (`subsample=`).
        follows_supports: Whether its guide takes supports that depend on other latents from the model at every call.
        point: Whether it is a point estimate: it has no spread, and no posterior variance may be read from it.
        density: Whether its draws have a density; without one, no importance weight or ELBO may be read from it.
    """

    name: str
    summary: str
    cite: str
    build: Callable[..., autoguide.AutoGuide]
    options: Mapping[str, str] = field(default_factory=dict)
    finalize: Callable[..., autoguide.AutoGuide] | None = None
    restore: Callable[..., autoguide.AutoGuide] | None = None
    point: bool = False
    density: bool = True
    follows_subsamples: bool = False
    follows_supports: bool = False

    def __str__(self) -> str:
        options = "".join(f"\n  {name}: {text}" for name, text in self.options.items())
        return f"{self.name}: {self.summary} ({self.cite}){options}"


def require_positive_integer(option: str, value: object) -> None:
    """Refuse an option's value that is no whole number of at least 1.

    Raises:
        FamilyOptionError: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise FamilyOptionError(f"option {option!r}: {value!r}, wanted a positive integer.")
