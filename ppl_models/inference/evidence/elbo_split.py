"""Which term of the ELBO each site of model and guide belongs to, and the terms at one draw."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributions import constraints, kl_divergence

from ppl_models.errors import ModelError
from ppl_models.program import Program
from ppl_models.program.estimators.drawing import draw, model_trace
from ppl_models.program.nodes import is_point, sites_of, summed

UNCONSTRAINED = "_unconstrained"
"""What automatic mean-field guides append to a latent's name for the site at which they draw it."""
Axes = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class ElboSplit:
    """Where each site counts.

    Attributes:
        axes: plates that hold every observation, by name and batch axis, in the order of the axes.
        shape: their sizes.
        has_local: whether latents inside these plates have a divergence of their own.
        closed_form: latents whose divergence given their parents is in closed form.
        sampled: the other latents.
    """

    axes: Axes
    shape: tuple[int, ...]
    has_local: bool
    closed_form: tuple[str, ...]
    sampled: tuple[str, ...]


def split_of_elbo(program: Program, guide: Callable[..., Any], *, closed_form: bool = True) -> ElboSplit:
    """Where each site counts, from one draw; in the caller's Pyro state.

    The divergence of a latent is in closed form where the two distributions have one and the guide draws it after all
    latents that come before it in the model: then both have fixed parameters when it is drawn, and the mean of the
    closed form over the draws of the others is that of log q - log p.

    Raises:
        ModelError: the model sums out discrete sites.
    """
    if program.sites.enumerated:
        raise ModelError(
            f"site '{program.sites.enumerated[0].name}': the model sums it out, so the ELBO has no separate terms. "
            "Marginalise by hand with a mixture distribution (pyro.distributions.MixtureSameFamily)."
        )
    guide_trace = draw(program, guide)
    model = sites_of(model_trace(program, guide_trace))
    drawn = sites_of(guide_trace)
    latents = [name for name, node in model.items() if not node["is_observed"]]
    frames = [_frames(node) for node in model.values() if node["is_observed"]]
    shared = set.intersection(*map(set, frames)) if frames else set()
    axes = tuple(sorted(shared, key=lambda one: one[1]))
    sizes = {(frame.name, frame.dim): frame.size for node in model.values() for frame in node["cond_indep_stack"]}
    local = [name for name in latents if axes and shared <= set(_frames(model[name]))]
    apart = bool(local) and all(shared <= set(_frames(_drawn_at(name, drawn) or {})) for name in local)
    exact = tuple(name for name in latents if closed_form and _has_closed_form(name, latents, model, drawn))
    sampled = tuple(name for name in latents if name not in exact)
    return ElboSplit(axes, tuple(sizes[one] for one in axes), apart, exact, sampled)


def terms_of(program: Program, guide: Callable[..., Any], split: ElboSplit) -> dict[str, torch.Tensor]:
    """The terms in nats at one draw of the guide, in the caller's Pyro state.

    Returns:
        "reconstruction" and "local", the divergence of latents of one datum, of shape (*datum), and "global", the
        divergence of all others, of shape ().
    """
    guide_trace = draw(program, guide)
    model, drawn = sites_of(model_trace(program, guide_trace)), sites_of(guide_trace)
    zero = torch.zeros((), dtype=program.dtype, device=program.device)
    found: dict[str, Any] = {
        "reconstruction": zero.expand(split.shape),
        "local": zero.expand(split.shape),
        "global": zero,
    }

    def add(term: str, node: Any, values: torch.Tensor) -> None:
        if term == "divergence":
            inside = split.has_local and set(split.axes) <= set(_frames(node))
            term = "local" if inside else "global"
        axes = split.axes if term != "global" else ()
        found[term] = found[term] + summed(node, values, [axis for _, axis in axes])

    for name in split.closed_form:
        node = _drawn_at(name, drawn)
        assert node is not None
        add("divergence", model[name], kl_divergence(node["fn"], model[name]["fn"]))
    skipped = {own for name in split.closed_form for own in (name, name + UNCONSTRAINED)}
    for name, node in model.items():
        if node["is_observed"]:
            add("reconstruction", node, _log_prob(node))
        elif name not in skipped:
            add("divergence", node, -_log_prob(node))
    for name, node in drawn.items():
        if name not in skipped:
            add("divergence", node, _log_prob(node))
    return found


def _log_prob(node: Any) -> torch.Tensor:
    return node["fn"].log_prob(node["value"])


def _frames(node: Any) -> Axes:
    stack = node.get("cond_indep_stack", ())
    return tuple((frame.name, frame.dim) for frame in stack if frame.vectorized)


def _drawn_at(name: str, drawn: dict[str, Any]) -> Any | None:
    """The site at which a guide draws a latent: of its name, or of its unconstrained value; None for others."""
    own = drawn.get(name)
    if own is not None and not is_point(own["fn"]):
        return own
    return drawn.get(name + UNCONSTRAINED)


def _has_closed_form(name: str, latents: list[str], model: dict[str, Any], drawn: dict[str, Any]) -> bool:
    ours, theirs = model[name], _drawn_at(name, drawn)
    if theirs is None or (name in drawn and theirs is not drawn[name] and not _is_real(ours["fn"].support)):
        return False
    plain = all(node["mask"] is None and isinstance(node["scale"], (int, float)) for node in (ours, theirs))
    if not plain or ours["scale"] != theirs["scale"] or set(_frames(ours)) != set(_frames(theirs)):
        return False
    order = [id(node) for node in drawn.values()]
    before = latents[: latents.index(name)]
    places = [_drawn_at(other, drawn) for other in before]
    if any(place is None or order.index(id(place)) > order.index(id(theirs)) for place in places):
        return False
    try:
        found = kl_divergence(theirs["fn"], ours["fn"])
    except (NotImplementedError, ValueError, RuntimeError):
        return False
    return found.shape == ours["fn"].batch_shape


def _is_real(support: Any) -> bool:
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    return support is constraints.real
