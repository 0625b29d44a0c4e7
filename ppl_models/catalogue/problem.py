"""A problem: a model with its data, its labels, its guides and its citation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Problem:
    """A model that is ready to be fitted, `model(**data)`.

    Attributes:
        name: Its name in the registry.
        title: What it is, in one line.
        model: A Pyro model. Called without its observed argument it draws from the prior predictive.
        data: Argument of the model -> torch tensor (floating ones in float64), integer or float.
        coords: Dimension -> its labels.
        dims: Latent, deterministic or observed site, or argument -> names of its dimensions, outermost first; a scalar
            has the empty tuple.
        guides: Name -> guide that takes the model's arguments; "handwritten" is always there.
        cite: Where the model and the data were published.
        observed: The observed sites, which are arguments of the model of the same name.
        enumerated: The discrete latents that the model marks for enumeration; no guide has a site for them.
        initial_scale: Initial scale of an automatic guide's unconstrained latents.
        fitting: Options of `ppl_models.fit` that suit its own guides, such as batches for networks.
        sampling: Options of `ppl_models.sample` under which NUTS passes the gates of a baseline here.
        baseline: Name of the problem to take the baseline from, where this one's geometry defeats NUTS and another
            parameterisation of the same posterior does not; it has this one's latents among its sites.
        expected: Guide -> a sentence on how it does here, and why.
    """

    name: str
    title: str
    model: Callable[..., Any]
    data: Mapping[str, Any]
    coords: Mapping[str, Any]
    dims: Mapping[str, tuple[str, ...]]
    guides: Mapping[str, Callable[..., Any]]
    cite: str
    observed: tuple[str, ...] = ("y",)
    enumerated: tuple[str, ...] = ()
    initial_scale: float = 0.1
    fitting: Mapping[str, Any] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)
    baseline: str | None = None
    expected: Mapping[str, str] = field(default_factory=dict)

    @property
    def predictors(self) -> dict[str, Any]:
        """The arguments of the model without the observed ones: what its prior predictive needs."""
        return {name: value for name, value in self.data.items() if name not in self.observed}

    def fit_options(self, guide: str) -> dict[str, Any]:
        """Options of `ppl_models.fit` for one of its own guides; none for automatic families.

        Those have parameters for each row of the data, and cannot be fitted to batches.
        """
        return dict(self.fitting) if guide in self.guides else {}

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.title}", "", "  data"]
        lines += [f"    {name}: {_describe(value, self.dims.get(name))}" for name, value in self.data.items()]
        lines += ["  sites"]
        sites = {name: dims for name, dims in self.dims.items() if name not in self.data}
        lines += [
            f"    {name}({', '.join(f'{dim}: {len(self.coords[dim])}' for dim in dims)})"
            for name, dims in sites.items()
        ]
        lines += [f"    {name} (enumerated)" for name in self.enumerated]
        lines += ["  guides", f"    {', '.join(self.guides)}; any automatic family"]
        lines += [f"    {guide}: {sentence}" for guide, sentence in self.expected.items()]
        return "\n".join([*lines, "  cite", f"    {self.cite}"])


def _describe(value: Any, dims: tuple[str, ...] | None) -> str:
    """The shape of an array with its dimensions, or the number."""
    shape = getattr(value, "shape", None)
    if shape is None:
        return repr(value)
    labels = dims or ("",) * len(shape)
    return f"({', '.join(f'{dim}: {size}' if dim else str(size) for dim, size in zip(labels, shape, strict=True))})"
