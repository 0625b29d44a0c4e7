"""What made a fit, small enough to be sent to another process and made a `Refitter` there."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from pyro.infer.autoguide import AutoGuide

from ppl_models.errors import OptionError
from ppl_models.inference.fit_options import FitOptions
from ppl_models.inference.fit_result import Fit
from ppl_models.inference.methods import OWN_METHOD, SVI
from ppl_models.inference.preconditioning.initial import PRIOR_MEDIAN
from ppl_models.inference.runs import AUTO
from ppl_models.program import Data
from ppl_models.program.data import Arguments

if TYPE_CHECKING:
    from ppl_models.inference.refitting.refitter import Refitter

TAKEN = (
    "max_steps",
    "step_size",
    "max_seconds",
    "num_starts",
    "precondition",
    "init_scale",
    "guide_options",
    "method_options",
    "seed",
    "device",
)
"""Options that a fit's `config` keeps as they were given."""
BY_EPOCHS = ("batch_size", "max_epochs", "patience", "checkpoint")


@dataclass(frozen=True)
class RefitSpec:
    """What made a fit: a description without state of its own, which cloudpickle can send to another process.

    Attributes:
        model: the model.
        data: what it was called with.
        options: the options of the fit.
        batched: whether the data are a `DataLoader`'s, of which `data` is one batch.
        amortised: whether the guide reads the data, so that its parameters serve other data as they are.
        status: how the fit ended.
        parameters: learnt parameters, unconstrained, of an amortised guide; empty otherwise.
    """

    model: Callable[..., Any]
    data: Data
    options: FitOptions
    batched: bool = False
    amortised: bool = False
    status: str = ""
    parameters: Mapping[str, torch.Tensor] | None = None

    @classmethod
    def of(cls, fit: Fit, *, amortised: bool = False) -> "RefitSpec":
        """Describe a fit.

        Args:
            fit: a fit of this process, or one that `ppl_models.load_fit` has read.
            amortised: whether its guide is a function of the data whose parameters serve other data as they are; then
                nothing is refitted. This is not guessed: a guide that ignores the data would pass unseen.

        Raises:
            OptionError: the fit cannot be made again: its draws are those of chains, or its guide is not known.
        """
        options = _options_of(fit)
        if amortised:
            if isinstance(fit.guide, AutoGuide):
                raise OptionError(
                    f"amortised: guide {fit.guide_name!r} does not read the data, so that its parameters serve those "
                    "of the fit alone. Leave amortised out."
                )
            options = replace(options, guide=fit.guide)
        program: Any = fit.program
        model = getattr(program.model, "__wrapped__", program.model)
        return cls(
            model=model,
            data=data_like(fit.program.arguments),
            options=options,
            batched=fit.program.batched,
            amortised=amortised,
            status=fit.status,
            parameters={name: value.clone() for name, value in program.parameters.values.items()}
            if amortised
            else None,
        )

    def build(self) -> "Refitter":
        """Prepare refits in this process; the code of its steps comes from the cache.

        Raises:
            DataError, ModelError, GuideError, OptionError: as `ppl_models.fit`.
        """
        from ppl_models.inference.refitting.refitter import Refitter  # a refitter describes itself by a spec

        return Refitter(self)


def data_like(arguments: Arguments) -> Data:
    """What a model is called with, as a user gives it."""
    return arguments.args if arguments.args else dict(arguments.kwargs)


def _options_of(fit: Fit) -> FitOptions:
    if getattr(fit, "chains", None) is not None:
        raise OptionError("refits: found draws of chains, wanted a guide's. Refit with ppl_models.sample.")
    options = fit.options if fit.options is not None else _read_off(fit)
    if not isinstance(options.init, (str, Mapping)):
        # Another fit may know the data, and a refit must not.
        options = replace(options, init=PRIOR_MEDIAN)
    if isinstance(options.held_out, float):
        options = replace(options, held_out=None)
    # A refit takes steps on all of its data at once.
    return replace(options, progress=False, **dict.fromkeys(BY_EPOCHS), warmup_epochs=0, mixed_precision=False)


def _read_off(fit: Fit) -> FitOptions:
    """The options of a fit from a file."""
    config = fit.config
    guide: Any = fit.family
    if guide is None:
        guide = type(fit.guide) if isinstance(fit.guide, AutoGuide) else fit.guide
    elif fit.method == SVI and guide in OWN_METHOD:
        raise OptionError(f"refits: {fit.guide_name!r} was fitted by SVI, which its file does not say enough about.")
    given = {name: config[name] for name in TAKEN if name in config}
    return FitOptions(
        guide=guide,
        method=fit.method,
        dtype=getattr(torch, config["dtype"]),
        estimator=config.get("estimator", AUTO) if fit.method == SVI else AUTO,
        estimator_options=config.get("estimator_options") if fit.method == SVI else None,
        num_particles=config["num_particles"] if fit.method == SVI else None,
        **given,
    )
