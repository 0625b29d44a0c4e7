"""The families of q(z | x) by name, each a head: a module from a row's features to a distribution of its latents."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from torch import nn

from guides.amortization.full_rank import FullRankHead
from guides.amortization.inverse_autoregressive import InverseAutoregressiveHead
from guides.amortization.layout import Local
from guides.amortization.normal import NormalHead
from guides.amortization.realnvp import RealNVPHead
from guides.errors import FamilyOptionError, UnknownFamilyError, UnsuitableModelError

HEADS: Mapping[str, Any] = MappingProxyType(
    {"normal": NormalHead, "full_rank": FullRankHead, "iaf": InverseAutoregressiveHead, "realnvp": RealNVPHead}
)

FamilySpec = str | nn.Module | Mapping[str, str | nn.Module]
"""A family's name, or a head of one's own, for all local latents; or one for each, by the latent's name."""


def check_families(family: FamilySpec, options: Mapping[str, Any]) -> None:
    """Refuse a name that no family has, and an option that none of those named has.

    Raises:
        UnknownFamilyError: no family has that name.
        FamilyOptionError: no family named has such an option.
    """
    named = [one for one in (family.values() if isinstance(family, Mapping) else [family]) if isinstance(one, str)]
    for name in named:
        if name not in HEADS:
            raise UnknownFamilyError(name, HEADS)
    known = {option for name in named for option in HEADS[name].options}
    for option in options:
        if option not in known:
            raise FamilyOptionError(
                f"amortized: family {', '.join(map(repr, named)) or 'given as a module'} has no option {option!r}; its "
                f"options: {', '.join(sorted(known)) or 'none'}."
            )


def make_head(
    family: FamilySpec, local: Local, num_features: int, init_scale: float, options: Mapping[str, Any]
) -> nn.Module:
    """The head of one latent.

    Raises:
        FamilyOptionError: a mapping lacks the latent, or a value cannot be used.
        UnsuitableModelError: the latent lies in plates inside the data plate, and the family draws all as one vector.
    """
    chosen = family.get(local.name) if isinstance(family, Mapping) else family
    if chosen is None:
        raise FamilyOptionError(
            f"amortized: family has nothing for local latent '{local.name}'. Give it a name out of {', '.join(HEADS)}."
        )
    if isinstance(chosen, nn.Module):
        return chosen
    if local.inner and chosen != "normal":
        inside = ", ".join(f"'{inner.plate}'" for inner in local.inner)
        raise UnsuitableModelError(
            f"amortized: latent '{local.name}' lies in plate {inside} inside the data plate, whose elements family "
            f"{chosen!r} would tie together. Take family='normal', or declare the inner axis with .to_event(n)."
        )
    taken = {name: value for name, value in options.items() if name in HEADS[chosen].options}
    return HEADS[chosen](num_features, local.size, init_scale=init_scale, **taken)
