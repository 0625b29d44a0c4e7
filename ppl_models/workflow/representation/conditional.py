"""p(z, missing values | observed values) of rows, and what the guide proposes for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyro.poutine as poutine
import torch
from torch.distributions import biject_to

from ppl_models.inference import Fit
from ppl_models.inference.sitewise_guide import UNCONSTRAINED
from ppl_models.program.handlers import FromValues
from ppl_models.program.nodes import sites_of, summed
from ppl_models.workflow.representation.decoding import likelihood_mean
from ppl_models.workflow.representation.drawing import Draws, in_plate, log_density
from ppl_models.workflow.representation.missing import elementwise
from ppl_models.workflow.representation.representation import Representation


@dataclass(frozen=True)
class Scored:
    """The model at latents and data of rows.

    Attributes:
        log_known: log p(z) + log p(observed values | z) in nats, shape (row,).
        log_missing: log p(missing values | z) in nats, shape (row,).
        nodes: the sites with missing values.
    """

    log_known: torch.Tensor
    log_missing: torch.Tensor
    nodes: Mapping[str, Any]

    @property
    def log_joint(self) -> torch.Tensor:
        """Log p(z, x) in nats, shape (row,)."""
        return self.log_known + self.log_missing


class Conditional:
    """Rows of data with missing values, in the caller's Pyro state.

    Args:
        representation: of the fit.
        fit: at the rows, with some value in every missing place.
        masks: by site, whether each value is missing, shape (*event).
        shared: one draw of what all rows share.
    """

    def __init__(
        self, representation: Representation, fit: Fit, masks: Mapping[str, torch.Tensor], shared: Mapping[str, Any]
    ):
        self.representation = representation
        self.fit = fit
        self.rows = representation.rows
        self.masks = masks
        self.shared = dict(shared)

    def start(self) -> Draws:
        """The values of the sites with missing values, as they were filled."""
        return {name: self.fit.program.observed_values[name] for name in self.masks}

    def score(self, latents: Mapping[str, torch.Tensor], data: Mapping[str, torch.Tensor]) -> Scored:
        """The model at latents of the rows, and values of the sites with missing values."""
        arguments = self._arguments(data)
        with FromValues({**self.shared, **latents}):
            nodes = sites_of(poutine.trace(self.fit.program.model).get_trace(*arguments.args, **arguments.kwargs))
        known: Any = 0.0
        for name, node in nodes.items():
            if not in_plate(node, self.rows):
                continue
            if name in self.masks:
                terms = elementwise(node["fn"]).log_prob(node["value"]).expand(self.masks[name].shape)
                known = known + self._by_row(name, node, terms.masked_fill(self.masks[name], 0.0))
            else:
                known = known + summed(node, node["fn"].log_prob(node["value"]), [self.rows.dim], scaled=False)
        own = {name: nodes[name] for name in self.masks}
        return Scored(known, self.log_missing(own, data), own)

    def log_missing(self, nodes: Mapping[str, Any], data: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Log density in nats of the missing values at the latents behind these sites, shape (row,)."""
        total: Any = 0.0
        for name, node in nodes.items():
            terms = elementwise(node["fn"]).log_prob(data[name]).expand(self.masks[name].shape)
            total = total + self._by_row(name, node, terms.masked_fill(~self.masks[name], 0.0))
        return total

    def propose(self, data: Mapping[str, torch.Tensor], latents: Draws | None = None) -> tuple[Draws, torch.Tensor]:
        """A draw of the guide at data with all places filled, or these latents, and log q in nats, shape (row,)."""
        arguments = self._arguments(data)
        given = {} if latents is None else {**latents, **self._auxiliary(latents, arguments)}
        with FromValues({**self.shared, **given}, skip_delta=latents is not None):
            nodes = sites_of(poutine.trace(self.fit.guide).get_trace(*arguments.args, **arguments.kwargs))
        return {name: nodes[name]["value"] for name in self.rows.latents}, log_density(nodes, self.rows)

    def _auxiliary(self, latents: Mapping[str, torch.Tensor], arguments: Any) -> Draws:
        """Unconstrained values of the latents that the guide draws as such."""
        if not self._drawn_unconstrained:
            return {}
        with FromValues({**self.shared, **latents}):
            nodes = sites_of(poutine.trace(self.fit.program.model).get_trace(*arguments.args, **arguments.kwargs))
        return {
            name + UNCONSTRAINED: biject_to(nodes[name]["fn"].support).inv(latents[name])
            for name in self._drawn_unconstrained
        }

    @cached_property
    def _drawn_unconstrained(self) -> tuple[str, ...]:
        arguments = self._arguments(self.start())
        with FromValues(self.shared):
            nodes = sites_of(poutine.trace(self.fit.guide).get_trace(*arguments.args, **arguments.kwargs))
        return tuple(name for name in self.rows.latents if name + UNCONSTRAINED in nodes)

    def draw_missing(self, scored: Scored, data: Mapping[str, torch.Tensor]) -> Draws:
        """Missing values drawn given the latents; the others as they are."""
        return {
            name: torch.where(self.masks[name], node["fn"].sample().expand(value.shape).to(value), value)
            for name, node in scored.nodes.items()
            for value in (data[name],)
        }

    def means(self, scored: Scored, data: Mapping[str, torch.Tensor]) -> Draws:
        """Means of the missing values given the latents; the others, and those without a mean, as they are."""
        found = {}
        for name, node in scored.nodes.items():
            mean = likelihood_mean(node["fn"])
            known = data[name].to(self.fit.program.dtype)
            found[name] = known if mean is None else torch.where(self.masks[name], mean.expand(known.shape), known)
        return found

    def _by_row(self, name: str, node: Any, terms: torch.Tensor) -> torch.Tensor:
        event = self.fit.program.sites[name].event_dim
        return summed(node, terms.flatten(-event).sum(-1) if event else terms, [self.rows.dim], scaled=False)

    def _arguments(self, data: Mapping[str, torch.Tensor]) -> Any:
        arguments = self.fit.program.arguments
        named = arguments.named()
        names = self.representation.observing
        return arguments.with_tensors(
            {
                names[site]: value.reshape(named[names[site]].shape).to(named[names[site]])
                for site, value in data.items()
            }
        )
