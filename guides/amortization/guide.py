"""The amortised guide: one encoder, and for each local latent a head that gives q(z | x) of every row."""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer.autoguide.initialization import InitMessenger
from torch import nn

import guides.automatic as automatic
from guides.amortization.encoding import default_encoder, encoded, first_encoded
from guides.amortization.families import FamilySpec, make_head
from guides.amortization.inputs import GUIDE, Inputs, Reader, make_reader
from guides.amortization.layout import Layout, Local, find_layout
from guides.amortization.realnvp import beside
from guides.amortization.sites import arranged
from guides.enumeration import is_enumerated
from guides.errors import FamilyOptionError, MissingDataError, UnsuitableModelError
from guides.initialization import init_to_prior_median
from guides.networks import MLP
from guides.plates import Elements, Walk
from guides.supports import site_at, transforms_at


class AmortizedGuide(nn.Module):
    """q(z | x) for the latents that each row of the data has for itself, q of the others as an automatic family.

    At its first call it looks at the model: at the data plate, the latents inside it, and what it observes there. For
    the latents z_1, ..., z_m of a row, in the model's order, it draws

        z_1 ~ q(z_1 | x),  z_2 ~ q(z_2 | x, z_1),  ...,  z_m ~ q(z_m | x, z_1, ..., z_(m-1)),

    each factor the family's distribution in the unconstrained space, whose parameters a head computes from the row's
    features, which the encoder computes from the row. A row's factors depend on nothing but that row, so that the guide
    serves any number of rows, minibatches, and rows that it has never seen. Supports are met by the bijection with its
    Jacobian; enumerated sites get no factor. Latents outside of the data plate have the automatic family `globals`.

    The parameters stand in Pyro's param store as `amortized.encoder.…` and `amortized.heads.…`; those that the model
    holds as well, as a prior does that is made of the encoder, keep the model's name. Their owner is this module, whose
    `parameters()` an optimiser of torch may take after the first call. The model is no part of the module.

    `guides.amortized` documents the arguments.
    """

    follows_subsamples = follows_supports = True

    def __init__(
        self,
        model: Callable[..., Any],
        *,
        encoder: nn.Module | None = None,
        inputs: Inputs = None,
        family: FamilySpec = "normal",
        hidden: Sequence[int] = (200, 200),
        order: Sequence[str] | None = None,
        conditional: bool = True,
        globals: str = "normal",
        plate: str | None = None,
        init_scale: float = 0.1,
        name: str = "amortized",
        options: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        self._model = (model,)  # in a tuple, so that a module is not registered as a part of the guide
        self._inputs, self._family, self._options = inputs, family, dict(options or {})
        self._hidden, self._order, self._conditional = tuple(hidden), order, conditional
        self._globals_family, self._plate, self._init_scale, self._name = globals, plate, init_scale, name
        self._store_names: dict[str, str] = {}
        self.encoder = encoder
        self.heads = nn.ModuleDict()
        self.mixers = nn.ModuleDict()
        self.globals: Any = None
        self.layout: Layout | None = None
        self.reader: Reader | None = None

    @property
    def model(self) -> Callable[..., Any]:
        """The model that it was made for."""
        return self._model[0]

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        """A draw of every latent, by site; local ones shape (..., row, *event).

        Args:
            *args: What the model is called with, the data among it.
            **kwargs: The same, by name.

        Raises:
            UnsuitableModelError: The model has no data plate, or latents there that cannot be served.
            FamilyOptionError: The encoder returns another shape than (row, feature), or an option does not suit.
            MissingDataError: The input is None.
        """
        if self.layout is None:
            self._look(args, kwargs)
        assert self.layout is not None
        self._register()
        drawn = {} if self.globals is None else dict(self.globals(*args, **kwargs))
        model = poutine.condition(self.model, data=drawn) if drawn else self.model
        elements = self._elements(model, args, kwargs)
        plates = self._plates(elements)
        rows = elements.rows(plates[self.layout.plate])
        features = self._features(model, elements, rows, args, kwargs)
        unconstrained: dict[str, torch.Tensor] = {}
        known: list[torch.Tensor] = []
        for local in self.layout.ordered(self._order):
            q = arranged(self._factor(local, features, known), local)
            with self._inside(plates, local):
                if local.is_real:
                    value = drawn[local.name] = pyro.sample(local.name, q)
                else:
                    value = pyro.sample(f"{local.name}_unconstrained", q, infer={"is_auxiliary": True})
            unconstrained[local.name] = value
            if self._conditional:
                known.append(local.vectors(value))
        return drawn | self._placed(model, unconstrained, plates, rows, args, kwargs)

    def _factor(self, local: Local, features: torch.Tensor, known: Sequence[torch.Tensor]) -> Any:
        """The distribution of a latent's vector given the row's features and the latents before it."""
        key = _key(local.name)
        if known:
            features = beside(features, *known)
            if key in self.mixers:
                features = beside(features, self.mixers[key](features))
        return self.heads[key](features)

    def _placed(
        self, model: Any, unconstrained: dict[str, torch.Tensor], plates: Any, rows: Any, args: Any, kwargs: Any
    ) -> dict[str, torch.Tensor]:
        """Sites of the latents that are not real numbers, at the values drawn."""
        assert self.layout is not None
        bounded = {local.name: local for local in self.layout.locals if not local.is_real}
        if not bounded:
            return {}
        supports = {name: local.support for name, local in bounded.items()}
        transforms = transforms_at(model, supports, unconstrained, {self.layout.plate: rows}, args, kwargs)
        placed = {}
        for name, local in bounded.items():
            with self._inside(plates, local):
                placed[name] = pyro.sample(name, site_at(unconstrained[name], transforms[name], local.event_dim))
        return placed

    def _plates(self, elements: Elements) -> dict[str, pyro.plate]:
        assert self.layout is not None
        inner = {plate.plate: plate for local in self.layout.locals for plate in local.inner}
        return {
            self.layout.plate: elements.plate(self.layout.plate, self.layout.dim),
            **{name: pyro.plate(name, plate.size, dim=plate.dim) for name, plate in inner.items()},
        }

    def _inside(self, plates: Mapping[str, pyro.plate], local: Local) -> ExitStack:
        assert self.layout is not None
        stack = ExitStack()
        for name in (self.layout.plate, *(inner.plate for inner in local.inner)):
            stack.enter_context(plates[name])
        return stack

    def _elements(self, model: Any, args: Any, kwargs: Any) -> Elements:
        """What the model asks for of its data plate: the model is run no further than there."""
        assert self.layout is not None
        found = self._walk(model, {self.layout.plate}, args, kwargs).elements
        if self.layout.plate not in found:
            raise UnsuitableModelError(
                f"amortized: the model has no plate '{self.layout.plate}' in this call, and had one in the first. Give "
                "every plate in every run."
            )
        return found[self.layout.plate]

    def _walk(self, model: Any, until: Any, args: Any, kwargs: Any, num_rows: int = 1) -> Walk:
        assert self.layout is not None
        by_name = {local.name: local for local in self.layout.locals}
        like = next(self.parameters(), torch.zeros(()))

        def zeros(name: str, _: Any) -> torch.Tensor:
            if name not in by_name:
                raise MissingDataError(GUIDE, name)
            local = by_name[name]
            return like.new_zeros((num_rows, *local.batch, *local.shape))

        return Walk(zeros, until=until).run(model, *args, **kwargs)

    def _features(
        self, model: Any, elements: Elements, rows: torch.Tensor | None, args: Any, kwargs: Any
    ) -> torch.Tensor:
        """The encoder's output, shape (row, 1 for each axis to the right of the rows, feature)."""
        assert self.layout is not None
        assert self.reader is not None
        count = elements.subsample_size
        if self.reader.needs_model:
            observed = self._walk(model, set(self.layout.observed), args, kwargs, count).observed
            inputs = self.reader.of_observed(observed, self.layout)
        else:
            inputs = self.reader.read(model, args, kwargs)
        if len(inputs) == elements.size != count and rows is not None:
            inputs = inputs[rows]
        if len(inputs) != count:
            raise FamilyOptionError(
                f"amortized: the encoder's input has {len(inputs)} rows (shape {tuple(inputs.shape)}), and the data "
                f"plate '{self.layout.plate}' {count}. Name the argument with one row for each (inputs=...)."
            )
        return encoded(self.encoder, inputs).reshape(count, *(1,) * (-self.layout.dim - 1), -1)

    def _look(self, args: Any, kwargs: Any) -> None:
        """Look at the model once, and make the networks that are still missing."""
        seen = InitMessenger(_start)(self.model)
        with poutine.block(), torch.no_grad():
            nodes: Any = poutine.trace(seen).get_trace(*args, **kwargs).nodes
        layout = find_layout(nodes, self._plate)
        order = layout.ordered(self._order)
        observed = {name: nodes[name]["value"] for name in layout.observed}
        self.reader = make_reader(self._inputs, layout, observed, self.model, args, kwargs)
        if self.reader.needs_model:
            inputs = self.reader.of_observed(observed, layout)
        else:
            inputs = self.reader.read(self.model, args, kwargs)
        if self.encoder is None:
            like = inputs if inputs.is_floating_point() else inputs.to(torch.get_default_dtype())
            self.encoder = default_encoder(inputs[0].numel(), self._hidden).to(like)
        self._make_heads(order, first_encoded(self.encoder, inputs))
        if layout.others:
            inside = {local.name for local in layout.locals}
            outer = poutine.block(self.model, hide_fn=lambda site: site.get("name") in inside or is_enumerated(site))
            self.globals = automatic.make(self._globals_family, outer, init_scale=self._init_scale)
        held = {id(n["value"].unconstrained()): name for name, n in nodes.items() if n["type"] == "param"}
        self._store_names = {name: held[id(p)] for name, p in self._own_parameters() if id(p) in held}
        self.layout = layout

    def _make_heads(self, order: Sequence[Local], features: torch.Tensor) -> None:
        size, before = features.shape[-1], 0
        for local in order:
            key, width = _key(local.name), size + before
            if before and self._hidden:
                mixer = nn.Sequential(MLP(width, self._hidden[-1], ()), nn.SiLU())
                self.mixers[key] = mixer.to(features)
                width += self._hidden[-1]
            self.heads[key] = make_head(self._family, local, width, self._init_scale, self._options).to(features)
            before += local.size if self._conditional else 0

    def _own_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """The parameters of the networks, by name; an automatic guide of the globals takes care of its own."""
        return [(n, p) for n, p in self.named_parameters() if not n.startswith("globals.") and p.requires_grad]

    def _register(self) -> None:
        for name, parameter in self._own_parameters():
            pyro.param(self._store_names.get(name, f"{self._name}.{name}"), parameter)


def _start(site: Any) -> torch.Tensor | None:
    """Where to look at a latent: where automatic guides start; a draw of a discrete one."""
    return None if site["fn"].support.is_discrete else init_to_prior_median(site)


def _key(name: str) -> str:
    """A latent's name, fit for a module's."""
    return re.sub(r"\W", "_", name)
