"""A guide for hierarchical models: dense in the globals, and per plate element a normal that depends on them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.distributions.util import eye_like
from pyro.infer.autoguide import AutoGuide
from pyro.infer.autoguide.initialization import InitMessenger
from pyro.nn import PyroModule, PyroParam

from guides.enumeration import hide_enumerated
from guides.errors import FamilyOptionError
from guides.family import Family, Model
from guides.full_rank import RememberedNormal
from guides.hierarchical_groups import Group, groups_of
from guides.plates import Elements, Walk
from guides.supports import fixed_support, site_at, transforms_at

DEPENDENCIES = ("linear", "none")


class AutoHierarchical(AutoGuide):
    """Normals in the unconstrained space, plate by plate, that follow the model's own subsamples.

    The latents outside of all plates, g, are jointly normal: g = loc + L e, e standard normal. The latents of one
    element i of a plate form one vector too, normal given what stands above it:

        u_i = loc_i + A_i e + L_i e_i,

    so that loc_i is its mean in the guide, A_i A_iᵀ + L_i L_iᵀ its covariance, and A_i says how it moves with the
    globals. The latents of nested plates depend on those of the plates around them as well. Given what is above them,
    elements are independent, as they are in the posterior of a hierarchical model; where that posterior is normal, the
    family holds it (Agrawal and Domke 2021; Tan, Bhaskaran and Nott 2020; Hoffman and Blei 2015).

    Each element has parameters of its own, stored for the whole plate. A call takes the rows that the model asks for:
    all of them, those that it names (`subsample=`), or a draw of Pyro's (`subsample_size=`), which the model replays.
    The gradient of the others is zero; optimisers with momentum move them all the same. To learn the rows, the guide
    runs the model up to its last plate that holds latents, and draws nothing there. Supports whose bounds are tensors
    are taken from a run of the model at the values drawn.

    Args:
        model: A Pyro model.
        init_loc_fn: Initial value of a site.
        init_scale: Initial scale of the unconstrained latents; there is no dependence then.
        dependencies: "linear", or "none" for A = 0.
    """

    follows_subsamples = follows_supports = True
    LARGEST_DENSE = 500
    """More globals than this have a diagonal covariance."""
    LARGEST_DENSE_ELEMENT = 50
    """The same for the latents of one element."""
    scale_constraint = constraints.softplus_positive

    def __init__(
        self,
        model: Callable[..., Any],
        *,
        init_loc_fn: Callable[..., Any],
        init_scale: float = 0.1,
        dependencies: str = "linear",
    ):
        super().__init__(InitMessenger(init_loc_fn)(hide_enumerated(model)))
        self._full_model = (model,)  # in a tuple, so that a module is not registered as a part of the guide
        self._init_scale = init_scale
        self._linear = dependencies == "linear"

    def _setup_prototype(self, *args: Any, **kwargs: Any) -> None:
        super()._setup_prototype(*args, **kwargs)
        trace: Any = self.prototype_trace
        sites = dict(trace.iter_stochastic_nodes())
        self.groups = groups_of(sites)
        self._dims = {axis.plate: axis.dim for group in self.groups.values() for axis in group.axes}
        self._supports = {name: fixed_support(site["fn"].support) for name, site in sites.items()}
        self.parts = PyroModule()
        for group in self.groups.values():
            setattr(self.parts, group.key, self._parameters_of(group))

    def _parameters_of(self, group: Group) -> PyroModule:
        loc = group.initial
        part = PyroModule()
        part.loc = torch.nn.Parameter(loc)
        part.scale = PyroParam(torch.full_like(loc, self._init_scale), self.scale_constraint)
        if self.is_dense(group):
            eye = eye_like(loc, group.size).expand(*loc.shape, group.size).contiguous()
            part.scale_tril = PyroParam(eye, constraints.unit_lower_cholesky)
        for above in self.above(group):
            setattr(part, f"on_{above.key}", torch.nn.Parameter(loc.new_zeros(*loc.shape, above.size)))
        return part

    def is_dense(self, group: Group) -> bool:
        """Whether the latents of one element depend on one another, given what is above them."""
        return 1 < group.size <= (self.LARGEST_DENSE_ELEMENT if group.axes else self.LARGEST_DENSE)

    def above(self, group: Group) -> Iterator[Group]:
        """The groups that a group's mean depends on."""
        for other in self.groups.values() if self._linear else ():
            if other.plates < group.plates:
                yield other

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        """A draw of every latent, by site; locals have the rows that the model asks for."""
        if self.prototype_trace is None:
            self._setup_prototype(*args, **kwargs)
        elements = self._elements(args, kwargs)
        plates = {name: found.plate(name, self._dims[name]) for name, found in elements.items()}
        rows = {name: found.rows(plates[name]) for name, found in elements.items()}
        noise: dict[str, torch.Tensor] = {}
        drawn: dict[str, torch.Tensor] = {}
        for key, group in self.groups.items():
            with _inside(plates, group):
                fn = self._conditional(group, noise, rows)
                drawn[key] = pyro.sample(f"_{self._pyro_name}_{key}", fn, infer={"is_auxiliary": True})
            noise[key] = _standardised(fn, drawn[key])
        unpacked = {name: (u, group) for group in self.groups.values() for name, u in group.unpack(drawn[group.key])}
        values = {name: unconstrained for name, (unconstrained, _) in unpacked.items()}
        transforms = transforms_at(self._full_model[0], self._supports, values, rows, args, kwargs)
        result = {}
        for name in self._supports:
            unconstrained, group = unpacked[name]
            with _inside(plates, group):
                result[name] = pyro.sample(name, site_at(unconstrained, transforms[name], group.slots[name].event_dim))
        return result

    def _elements(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Elements]:
        """What the model asks for of each plate that holds latents."""
        if not self._dims:
            return {}
        (model,) = self._full_model
        found = Walk(self._start, until=self._dims).run(model, *args, **kwargs).elements
        return {name: found[name] for name in self._dims}

    def _start(self, name: str, rows: Mapping[str, torch.Tensor | None]) -> torch.Tensor:
        """A latent's unconstrained mean in the guide, at some rows."""
        group = next(group for group in self.groups.values() if name in group.slots)
        part: Any = getattr(self.parts, group.key)
        return dict(group.unpack(group.take(part.loc, rows).detach()))[name]

    def _conditional(
        self, group: Group, noise: Mapping[str, torch.Tensor], rows: Mapping[str, torch.Tensor | None]
    ) -> Any:
        """The distribution of a group's unconstrained latents, given the standardised ones above."""
        part: Any = getattr(self.parts, group.key)
        mean, scale = group.take(part.loc, rows), group.take(part.scale, rows)
        for above in self.above(group):
            slope = group.take(getattr(part, f"on_{above.key}"), rows, event_dim=2)
            mean = mean + (slope @ noise[above.key].unsqueeze(-1)).squeeze(-1)
        if not self.is_dense(group):
            return dist.Normal(mean, scale).to_event(1)
        return RememberedNormal(mean, scale_tril=scale[..., None] * group.take(part.scale_tril, rows, event_dim=2))

    @torch.no_grad()
    def median(self, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        """The marginal median of each latent (the coordinate-wise one of its unconstrained value), all rows.

        Where a support's bounds are tensors, they are taken at the other latents' medians, with the rows of the call.
        """
        return self._constrained(lambda loc, _: loc, args, kwargs)

    @torch.no_grad()
    def quantiles(self, quantiles: Any, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        """Marginal quantiles, taken in the unconstrained space, shape (quantile, *value); rows as in `median`."""
        levels = [self._level(float(level), args, kwargs) for level in quantiles]
        return {name: torch.stack([level[name] for level in levels]) for name in self._supports}

    def _level(self, level: float, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        z = dist.Normal(0.0, 1.0).icdf(torch.tensor(level))
        return self._constrained(lambda loc, sd: loc + z.to(loc) * sd, args, kwargs)

    def _constrained(
        self, value: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], args: Any, kwargs: Any
    ) -> dict[str, torch.Tensor]:
        if self.prototype_trace is None:
            self._setup_prototype(*args, **kwargs)
        found = self._elements(args, kwargs) if None in self._supports.values() else {}
        rows = {name: found[name].stand_in if name in found else None for name in self._dims}
        loc, at = {}, {}
        for group in self.groups.values():
            part: Any = getattr(self.parts, group.key)
            loc.update(group.unpack(group.take(part.loc, rows)))
            at.update(group.unpack(group.take(value(part.loc, self._marginal_scale(group)), rows)))
        transforms = transforms_at(self._full_model[0], self._supports, loc, rows, args, kwargs)
        values: dict[str, Any] = {name: transforms[name](at[name]) for name in self._supports}
        return {name: value.clone() for name, value in values.items()}

    def _marginal_scale(self, group: Group) -> torch.Tensor:
        """Standard deviations of a group's unconstrained latents, all rows."""
        part: Any = getattr(self.parts, group.key)
        own = part.scale.square()
        if self.is_dense(group):
            own = own * part.scale_tril.square().sum(-1)
        slopes = [getattr(part, f"on_{above.key}") for above in self.above(group)]
        return (own + sum(slope.square().sum(-1) for slope in slopes)).sqrt()


def _inside(plates: Mapping[str, Any], group: Group) -> ExitStack:
    stack = ExitStack()
    for axis in group.axes:
        stack.enter_context(plates[axis.plate])
    return stack


def _standardised(fn: Any, value: torch.Tensor) -> torch.Tensor:
    """The standard normal noise behind a value of a normal."""
    if isinstance(fn, dist.MultivariateNormal):
        centred = (value - fn.loc).unsqueeze(-1)
        return torch.linalg.solve_triangular(fn.scale_tril, centred, upper=False).squeeze(-1)
    return (value - fn.base_dist.loc) / fn.base_dist.scale


def _build(model: Model, init_loc_fn: Any, init_scale: float, dependencies: str = "linear") -> AutoGuide:
    if dependencies not in DEPENDENCIES:
        raise FamilyOptionError(f"option 'dependencies': {dependencies!r}, wanted one of {', '.join(DEPENDENCIES)}.")
    return AutoHierarchical(model, init_loc_fn=init_loc_fn, init_scale=init_scale, dependencies=dependencies)


HIERARCHICAL = Family(
    name="hierarchical",
    summary="A dense normal of the globals and, per plate element, normals around linear functions of them.",
    cite="Agrawal and Domke (2021), Amortized variational inference for simple hierarchical models",
    build=_build,
    options={"dependencies": "default 'linear': means of local latents move with the latents above them; or 'none'"},
    follows_subsamples=AutoHierarchical.follows_subsamples,
    follows_supports=AutoHierarchical.follows_supports,
)
