"""Hiding of discrete latents that the ELBO sums out, so that a guide sees the continuous ones only."""

from collections.abc import Callable
from typing import Any

from pyro import poutine


def is_enumerated(site: Any) -> bool:
    """Whether a site is a latent that `TraceEnum_ELBO` sums out."""
    return site["type"] == "sample" and not site["is_observed"] and bool(site["infer"].get("enumerate"))


def hide_enumerated(model: Callable[..., Any]) -> Callable[..., Any]:
    """The model without its enumerated sites: a guide must not have a site for what the ELBO sums out."""
    return poutine.block(model, hide_fn=is_enumerated)
