"""The latents of each row as one unconstrained vector."""

from collections.abc import Mapping

import numpy as np
import torch
from torch.distributions import biject_to

from ppl_models.program import Program
from ppl_models.workflow.representation.representation import Representation


class RowCoordinates:
    """The bijection between the constrained latents of rows and a matrix with a row for each.

    Attributes:
        exists: whether there is one: not for discrete latents, nor where a support depends on another latent.
    """

    def __init__(self, representation: Representation, program: Program):
        names = {site.name for site in program.sites.latent}
        self.sites = [program.sites[name] for name in representation.rows.latents]
        self.axes = {site.name: representation.axis(site.name) for site in self.sites}
        self.exists = all(site.name in names for site in self.sites) and not (
            program.moving_supports & {site.name for site in self.sites}
        )
        self._shapes: dict[str, torch.Size] = {}

    def flat(self, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Unconstrained values, shape (row, dim); only flattened where no bijection exists."""
        parts = []
        for site in self.sites:
            value = values[site.name]
            free = biject_to(site.support).inv(value) if self.exists else value.to(torch.get_default_dtype())
            rows_first = free.movedim(self.axes[site.name], 0)
            self._shapes[site.name] = rows_first.shape[1:]
            parts.append(rows_first.reshape(len(rows_first), -1))
        return torch.cat(parts, dim=1)

    def values(self, flat: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Constrained values by site, and log |d constrained / d unconstrained| of each row in nats, shape (row,)."""
        found, start = {}, 0
        log_jacobian = flat.new_zeros(len(flat))
        for site in self.sites:
            shape = self._shapes[site.name]
            stop = start + shape.numel()
            free = flat[:, start:stop].reshape(len(flat), *shape).movedim(0, self.axes[site.name])
            transform = biject_to(site.support)
            found[site.name] = transform(free)
            terms = transform.log_abs_det_jacobian(free, found[site.name])
            log_jacobian = log_jacobian + terms.movedim(self.axes[site.name], 0).reshape(len(flat), -1).sum(1)
            start = stop
        return found, log_jacobian

    def names(self) -> list[str]:
        """A name for every dimension, as "z[0]", once `flat` has seen values."""
        found = []
        for site in self.sites:
            shape = self._shapes[site.name]
            found += [
                f"{site.name}[{', '.join(map(str, index))}]" if index else site.name for index in np.ndindex(*shape)
            ]
        return found
