"""The methods by name. A further method is one file and one entry here."""

from collections.abc import Mapping
from typing import Any

from ppl_models.errors import OptionError, UnknownNameError
from ppl_models.inference.methods.batch_and_match import BATCH_AND_MATCH
from ppl_models.inference.methods.dadvi import DADVI
from ppl_models.inference.methods.linear_response import LINEAR_RESPONSE
from ppl_models.inference.methods.method import Method
from ppl_models.inference.methods.newton import NEWTON
from ppl_models.inference.methods.pathfinder import PATHFINDER
from ppl_models.inference.methods.svgd import SVGD

SVI, AUTO = "svi", "auto"
METHODS: Mapping[str, Method] = {
    method.name: method for method in (DADVI, LINEAR_RESPONSE, PATHFINDER, BATCH_AND_MATCH, NEWTON, SVGD)
}
OWN_METHOD = {"laplace": "newton", "particles": "svgd"}
"""The method of families that SVI is not the best for."""


def choose(guide: Any, method: str) -> tuple[Any, Method | None]:
    """The guide and the method that a user's two arguments mean; None for SVI.

    Args:
        guide: a guide as `ppl_models.fit` takes it, or a method's name, for that method with its own family.
        method: a method's name, "svi", or "auto".

    Raises:
        UnknownNameError: no method has that name.
        OptionError: the method does not fit that guide.
    """
    if method not in (AUTO, SVI, *METHODS):
        raise UnknownNameError("method", method, (SVI, *METHODS))
    if isinstance(guide, str) and guide in METHODS:
        if method not in (AUTO, guide):
            raise OptionError(f"method: found {method!r} with guide {guide!r}, which is a method itself; give one.")
        return METHODS[guide].families[0], METHODS[guide]
    if method == AUTO:
        own = OWN_METHOD.get(guide, "") if isinstance(guide, str) else ""
        return guide, METHODS.get(own)
    if method == SVI:
        return guide, None
    chosen = METHODS[method]
    if not isinstance(guide, str) or guide not in chosen.families:
        named = repr(guide) if isinstance(guide, str) else type(guide).__name__
        families = " or ".join(map(repr, chosen.families))
        raise OptionError(f"method: {method!r} fits the family {families}, found guide {named}. Use method='svi'.")
    return guide, chosen


def check_options(method: Method, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """A method's options with its defaults filled in.

    Raises:
        OptionError: it has no such option.
    """
    for name in options:
        if name not in method.options:
            valid = ", ".join(method.options) or "none"
            raise OptionError(f"method_options: method {method.name!r} has no option {name!r}; its options: {valid}.")
    return {**method.defaults, **options}
