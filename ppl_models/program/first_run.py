"""The first, validated run of a model or guide, whose errors name the site and the argument at fault."""

from collections.abc import Callable

import pyro.poutine as poutine
import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import site_is_subsample
from pyro.util import check_site_shape

from ppl_models.errors import DataError, GuideError, ModelError, PPLError, first_line
from ppl_models.program.data import Arguments
from ppl_models.program.nodes import nodes_of
from ppl_models.program.suggestions import outside_support

ANY_NESTING = 1_000
"""More plates than a model can nest: no axis of a log density is then passed over."""


class _LastSite(Messenger):
    """Remember the site at work, and whether it reached its value, for the sake of error messages."""

    def __init__(self):
        super().__init__()
        self.name: str | None = None
        self.last: str | None = None
        self.observed: torch.Tensor | None = None
        self.seen: set[str] = set()
        self.explicit_subsamples: set[str] = set()

    def _pyro_sample(self, msg):
        self.name = msg["name"]
        self.observed = msg["value"] if msg["is_observed"] else None
        if site_is_subsample(msg):
            if msg["value"] is not None:
                self.explicit_subsamples.add(msg["name"])
            return
        if msg["name"] in self.seen:
            raise ModelError(
                f"site '{msg['name']}': two sample sites have this name. Give each its own, for instance with the "
                "loop's index in it."
            )
        self.seen.add(msg["name"])

    def _pyro_post_sample(self, msg):
        if not site_is_subsample(msg):
            _check_observed_shape(msg)
            self.last = msg["name"]
        self.name = None


def _check_observed_shape(msg) -> None:
    value, fn = msg["value"], msg["fn"]
    if not msg["is_observed"] or not isinstance(value, torch.Tensor):
        return
    wanted = torch.Size(fn.batch_shape) + torch.Size(fn.event_shape)
    try:
        fits = torch.broadcast_shapes(value.shape, wanted) == torch.Size(wanted) or value.dim() > len(wanted)
    except RuntimeError:
        fits = False
    if not fits:
        raise _ShapeMismatchError(wanted)


class _ShapeMismatchError(Exception):
    def __init__(self, wanted: torch.Size):
        super().__init__(f"its distribution has shape {tuple(wanted)}")


def first_run(model: Callable, arguments: Arguments) -> tuple[Trace, frozenset[str]]:
    """Trace the model once with validation and score it.

    Returns:
        The trace with its log probabilities, and the names of the plates whose subsample the model gives itself.

    Raises:
        ModelError, DataError: the run failed; the message names the site and, if it is an argument's, the argument.
    """
    watcher = _LastSite()
    try:
        with watcher:
            trace = poutine.trace(model).get_trace(*arguments.args, **arguments.kwargs)
    except PPLError as error:
        # Pyro appends the shapes of all sites to a copy of the error.
        cause = error.__cause__
        raise (cause if isinstance(cause, PPLError) else error) from None
    except Exception as error:
        raise _explained(error, watcher, arguments) from error
    _score(trace, arguments)
    return trace, frozenset(watcher.explicit_subsamples)


def _score(trace: Trace, arguments: Arguments) -> None:
    for name, node in nodes_of(trace).items():
        if node["type"] != "sample":
            continue
        try:
            node["fn"].log_prob(node["value"])
        except Exception as error:
            raise _bad_value(name, node, error, arguments) from error
    try:
        trace.compute_log_prob()
    except Exception as error:
        raise ModelError(f"the model's log density failed on its first run: {first_line(error)}.") from error
    for name, node in nodes_of(trace).items():
        if node["type"] == "sample" and not site_is_subsample(node):
            _check_plates(name, node, arguments)


def _plates(node) -> list:
    return [frame for frame in node.get("cond_indep_stack", ()) if frame.vectorized]


def _check_plates(name: str, node, arguments: Arguments) -> None:
    """Refuse a log density with an axis that no plate claims: a broadcast would count the data several times."""
    try:
        check_site_shape(node, ANY_NESTING)
    except ValueError as error:
        source = arguments.name_of(node["value"])
        where = f"site '{name}'" + (f" (argument '{source}')" if source else "")
        kind = DataError if node["is_observed"] else ModelError
        plates = ", ".join(f"'{frame.name}' of {frame.size}" for frame in _plates(node)) or "none"
        raise kind(
            f"{where}: its value has shape {tuple(node['value'].shape)} and its log density shape "
            f"{tuple(node['log_prob'].shape)}, with an axis that none of its plates ({plates}) claims. Give the data "
            "the shape of the plate (a column of a DataFrame as df['y'], not df[['y']]), put the site into a plate, or "
            f"declare the axis with .to_event(n); arguments: {_shapes(arguments)}."
        ) from error


def _explained(error: Exception, watcher: _LastSite, arguments: Arguments) -> PPLError:
    if watcher.name is None:
        lacking = _none_arguments(arguments)
        hint = f" Arguments passed as None: {', '.join(lacking)}." if lacking else ""
        place = f"after site '{watcher.last}'" if watcher.last else "before its first site"
        return ModelError(
            f"the model failed on its first run, {place}: {type(error).__name__}: {first_line(error)}."
            f"{hint} Call model(**data) by hand to see the whole traceback; arguments: {_shapes(arguments)}."
        )
    what = f"site '{watcher.name}'"
    if watcher.observed is not None:
        name = arguments.name_of(watcher.observed)
        shape = tuple(watcher.observed.shape) if isinstance(watcher.observed, torch.Tensor) else None
        source = f"argument '{name}'" if name else "its observed value"
        return DataError(
            f"{what}: {source} has shape {shape}, but {first_line(error)}. "
            f"Make them agree; arguments: {_shapes(arguments)}."
        )
    return ModelError(
        f"{what}: {type(error).__name__}: {first_line(error)}. "
        "Sample it inside the plates that its shape needs, or declare its own axes with .to_event(n); "
        f"arguments: {_shapes(arguments)}."
    )


def _bad_value(name: str, node, error: Exception, arguments: Arguments) -> PPLError:
    value = node["value"]
    if not node["is_observed"]:
        return ModelError(f"site '{name}': its log density failed on the first run: {first_line(error)}.")
    source = arguments.name_of(value)
    where = f"site '{name}'" + (f" (argument '{source}')" if source else "")
    if not isinstance(value, torch.Tensor):
        return DataError(
            f"{where}: its observed value is a {type(value).__name__}, wanted a tensor. "
            "Pass a torch tensor or a NumPy array."
        )
    outside = outside_support(node["fn"].support, value)
    if outside is not None:
        return DataError(f"{where}: its distribution is {_kind(node['fn'])}, and {outside}")
    found = DataError(
        f"{where}: values of dtype {value.dtype}, shape {tuple(value.shape)} do not suit its distribution "
        f"{type(node['fn']).__name__} with support {node['fn'].support}: {first_line(error)}. "
        "Check the values' range and dtype (0/1 outcomes and counts are best given as floats)."
    )
    if not (value.is_floating_point() or value.is_complex()):
        found.whole_numbers = source
    return found


def _kind(fn) -> str:
    """Name of a distribution, under what makes events of it or masks it."""
    while hasattr(fn, "base_dist") and type(fn).__name__ in (
        "Independent",
        "MaskedDistribution",
        "ExpandedDistribution",
    ):
        fn = fn.base_dist
    return type(fn).__name__


def check_guide_covers(guide_trace: Trace, model_trace: Trace, *, needed: set[str]) -> None:
    """Check that a guide's trace has exactly the latents needed, each of the model's shape.

    Raises:
        GuideError: a latent is missing, one is too many, or a shape differs; the message names it.
    """
    own = {
        name: node
        for name, node in nodes_of(guide_trace).items()
        if node["type"] == "sample" and not node["is_observed"] and not site_is_subsample(node)
    }
    latents = {name for name, node in own.items() if not node["infer"].get("is_auxiliary")}
    missing = sorted(needed - latents)
    if missing:
        raise GuideError(
            f"the guide misses latent {_quoted(missing)} of the model. Add pyro.sample for it in the guide; "
            f"the guide has {_quoted(sorted(latents))}."
        )
    model_names = {name for name, node in nodes_of(model_trace).items() if node["type"] == "sample"}
    extra = sorted(latents - model_names)
    if extra:
        raise GuideError(
            f"the guide has {_quoted(extra)}, which the model has not; its latents are {_quoted(sorted(needed))}. "
            "Remove it, or mark it infer={'is_auxiliary': True}."
        )
    observed = sorted(name for name in latents if nodes_of(model_trace)[name]["is_observed"])
    if observed:
        raise GuideError(f"the guide samples {_quoted(observed)}, which the model observes. Remove it from the guide.")
    for name in sorted(needed):
        found, wanted = own[name]["value"].shape, nodes_of(model_trace)[name]["value"].shape
        if found != wanted:
            raise GuideError(
                f"guide site '{name}': shape {tuple(found)}, the model's has {tuple(wanted)}. "
                "Use the model's plates in the guide, or .expand(shape)."
            )


def _quoted(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _none_arguments(arguments: Arguments) -> list[str]:
    return [name for name, value in arguments.named().items() if value is None]


def _shapes(arguments: Arguments) -> str:
    parts = [
        f"{name} {tuple(value.shape)}" if isinstance(value, torch.Tensor) else f"{name}={value!r:.40}"
        for name, value in arguments.named().items()
    ]
    return ", ".join(parts) or "none"
