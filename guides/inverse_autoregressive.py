"""A normal pushed through inverse autoregressive flows, in coordinates that start at the initial location and scale."""

from collections.abc import Callable, Sequence
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.distributions import transforms as flows
from pyro.infer.autoguide.guides import AutoContinuous, AutoGuide
from pyro.nn import PyroParam

from guides.enumeration import hide_enumerated
from guides.errors import FamilyOptionError
from guides.family import Family, Model, require_positive_integer


class AutoInverseAutoregressive(AutoContinuous):
    """z = location + scale * f_K(... f_1(e)), e standard normal, each f_k affine autoregressive.

    Pyro's `AutoIAFNormal` starts around zero whatever the initial location says, and warns about a single latent
    scalar. Here an affine map follows the flows, so that the family starts at the initial location with about the
    initial scale; the order of the coordinates is reversed between two flows. One latent scalar has no predecessor to
    depend on: there the family is exactly the normal.

    Args:
        model: A Pyro model.
        init_loc_fn: Initial value of a site.
        init_scale: Initial scale of the unconstrained latents.
        num_transforms: Number of flows.
        hidden_dims: Widths of the hidden layers of each; None for one layer of three times the number of latents.

    Kingma et al. (2016), Improved variational inference with inverse autoregressive flow.
    """

    scale_constraint = constraints.softplus_positive

    def __init__(
        self,
        model: Callable[..., Any],
        *,
        init_loc_fn: Callable[..., Any],
        init_scale: float = 0.1,
        num_transforms: int = 2,
        hidden_dims: Sequence[int] | None = None,
    ):
        super().__init__(model, init_loc_fn=init_loc_fn)
        self._init_scale = init_scale
        self._num_transforms = num_transforms
        self._hidden_dims = hidden_dims

    def _setup_prototype(self, *args: Any, **kwargs: Any) -> None:
        super()._setup_prototype(*args, **kwargs)
        self.loc = torch.nn.Parameter(self._init_loc())
        self.scale = PyroParam(torch.full_like(self.loc, self._init_scale), self.scale_constraint)
        widths = list(self._hidden_dims) if self._hidden_dims else [3 * self.latent_dim + 1]
        if min(widths) < self.latent_dim > 1:
            raise FamilyOptionError(
                f"option 'hidden_dims': {widths}, wanted at least {self.latent_dim} (the latents), so that "
                "every latent can reach every later one."
            )
        count = self._num_transforms if self.latent_dim > 1 else 0
        # the gated form of the paper's equation 10, which starts near the identity
        self.flows = torch.nn.ModuleList(
            [flows.affine_autoregressive(self.latent_dim, widths, stable=True).to(self.loc) for _ in range(count)]
        )

    def get_base_dist(self) -> Any:
        """The standard normal of the size of the latents."""
        return dist.Normal(torch.zeros_like(self.loc), torch.ones_like(self.loc)).to_event(1)

    def get_transform(self, *args: Any, **kwargs: Any) -> Any:
        """The flows with reversals between them, then the affine map; all cached, since a flow's inverse is a loop."""
        backwards = torch.arange(self.latent_dim - 1, -1, -1)
        parts: list[Any] = []
        for flow in self.flows:
            parts += [flow, flows.Permute(backwards, cache_size=1)]
        scale: Any = self.scale  # a PyroParam reads as its tensor
        affine = flows.AffineTransform(self.loc, scale, event_dim=1, cache_size=1)
        return flows.ComposeTransform([*parts, affine], cache_size=1)


def _build(
    model: Model, init_loc_fn: Any, init_scale: float, num_transforms: int = 2, hidden_dims: Any = None
) -> AutoGuide:
    require_positive_integer("num_transforms", num_transforms)
    for width in hidden_dims or ():
        require_positive_integer("hidden_dims", width)
    return AutoInverseAutoregressive(
        hide_enumerated(model),
        init_loc_fn=init_loc_fn,
        init_scale=init_scale,
        num_transforms=num_transforms,
        hidden_dims=hidden_dims,
    )


INVERSE_AUTOREGRESSIVE = Family(
    name="iaf",
    summary="A normal pushed through inverse autoregressive flows in the unconstrained space; bends.",
    cite="Kingma et al. (2016), Improved variational inference with inverse autoregressive flow",
    build=_build,
    options={
        "num_transforms": "default 2: number of flows",
        "hidden_dims": "default None: one hidden layer, three times as wide as the latents are many",
    },
)
