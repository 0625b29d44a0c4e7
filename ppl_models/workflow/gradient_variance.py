"""Gradient estimators side by side: bias, variance, signal to noise and cost, at the same parameters."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from ppl_models.errors import OptionError
from ppl_models.inference import Fit
from ppl_models.inference.gradients import GradientVariance, Setting, free_setting, make_replicates, model_setting
from ppl_models.inference.gradients.comparison import check_unbiased, rows_of
from ppl_models.inference.gradients.estimate import check_finite, check_used
from ppl_models.inference.gradients.setting import Parameters
from ppl_models.options import check_count
from ppl_models.program.estimators import ESTIMATORS, Enumeration, Estimator, Reparameterised, Total, make_estimator
from ppl_models.program.estimators.drawing import draw, latents_of
from ppl_models.program.estimators.expected import Distribution
from ppl_models.program.estimators.signals import score_sites
from ppl_models.seeds import check_seed, child_seed
from ppl_models.versions import versions

Exact = Mapping[str, Any] | Any
Named = str | Estimator | tuple[str, Mapping[str, Any]]


def gradient_variance(
    f: Callable[[torch.Tensor], torch.Tensor] | Fit,
    q: Callable[[Any], Distribution] | None = None,
    parameters: Parameters | None = None,
    *,
    estimators: Sequence[Named] | None = None,
    num_draws: int = 16,
    num_replicates: int = 1_000,
    num_tuning: int = 100,
    exact: Exact = None,
    log_density: bool = False,
    seed: int = 0,
) -> GradientVariance:
    """Measure gradient estimators of E_q[f(z)], or of a fit's bound, side by side.

    Args:
        f: takes one draw of q and returns a scalar tensor; or a fit, whose bound is differentiated by the
            (unconstrained) parameters of its guide and model, where they are.
        q: takes `parameters` as they are given; returns a distribution of torch's or Pyro's. None for a fit.
        parameters: floating tensors by name, or one tensor. None for a fit.
        estimators: names, names with options as ("score", {"baseline": "none"}), or estimators; None for all that can
            serve.
        num_draws: draws of one estimate, rounded to what an estimator takes together.
        num_replicates: independent estimates, at least 2.
        num_tuning: steps in which estimators that learn baselines or control variates do so beforehand, with as many
            draws each, at these parameters.
        exact: the gradient that is estimated, by parameter, or one array. None sums over the values of a discrete q
            (or of a guide that is discrete throughout), where there are few; bounds with several draws inside a
            logarithm estimate another gradient, and are compared with one that is given alone.
        log_density: whether f is a log joint density in nats; then the objective is the bound E_q[f(z) - log q(z)].
        seed: of all draws; the estimators share it.

    Raises:
        OptionError, UnknownNameError: an option cannot be used, or an estimator cannot serve; the message says which
            can.

    Rainforth et al. (2018), Tighter variational bounds are not necessarily better, for the signal-to-noise ratio.
    """
    check_count("num_draws", num_draws)
    check_count("num_replicates", num_replicates, least=2)
    check_count("num_tuning", num_tuning, least=0)
    stage = child_seed(check_seed(seed), "gradient variance")
    setting = _setting(f, q, parameters, log_density)
    rows, left_out = [], {}
    with setting.enter(stage):
        made = _serving(setting, estimators, left_out)
        shapes = {name: holder.shape for name, holder in setting.holders().items()}
        source, wanted = _exact(setting, exact, shapes)
        checks = [] if isinstance(f, Fit) else [check_used(setting)]
    for one in made:
        with setting.enter(stage):
            found = make_replicates(
                setting, one, num_draws=num_draws, num_replicates=num_replicates, num_tuning=num_tuning
            )
        mine = wanted if source == "given" or one.draws_inside == 1 else None
        part = rows_of(one, found, shapes, mine)
        rows += part
        checks += [check_finite(found, one.name), *check_unbiased(one, part)]
    config = {
        "estimators": [repr(one) for one in made],
        "num_draws": num_draws,
        "num_replicates": num_replicates,
        "num_tuning": num_tuning,
        "log_density": log_density,
        "seed": seed,
        "versions": versions(),
    }
    return GradientVariance(pd.DataFrame(rows), source, left_out, tuple(checks), config)


def _setting(f: Any, q: Any, parameters: Any, log_density: bool) -> Setting:
    if isinstance(f, Fit):
        if q is not None or parameters is not None or log_density:
            raise OptionError("q, parameters, log_density: a fit brings its own; give the fit alone.")
        return model_setting(f.program, f.guide)
    function: Any = f
    distribution: Any = q
    if not callable(f) or not callable(q) or parameters is None:
        raise OptionError(
            f"f, q, parameters: found {type(f).__name__}, {type(q).__name__} and {type(parameters).__name__}, wanted a "
            "function of a draw, a function parameters -> distribution, and the parameters; or a fit alone."
        )
    return free_setting(function, distribution, parameters, log_density=log_density)


def _serving(setting: Setting, estimators: Sequence[Named] | None, left_out: dict[str, str]) -> list[Estimator]:
    if estimators is not None:
        named = [estimators] if isinstance(estimators, (str, Estimator)) else list(estimators)
        if not named:
            raise OptionError("estimators: found none, wanted names, or None for all that can serve.")
        made = [_made(one) for one in named]
        for one in made:
            setting.check(one)
        return made
    made = []
    for name in ESTIMATORS:
        if name == Total.name:
            continue
        try:
            setting.check(one := make_estimator(name))
        except OptionError as error:
            left_out[name] = str(error)
        else:
            made.append(one)
    return made


def _made(one: Named) -> Estimator:
    if isinstance(one, Estimator):
        return one
    if one == Total.name:
        return Reparameterised()  # Pyro alone adds the score function to it, where that is needed
    return make_estimator(*one) if isinstance(one, tuple) else make_estimator(one)


def _exact(setting: Setting, exact: Any, shapes: Mapping[str, torch.Size]) -> tuple[str, np.ndarray | None]:
    if exact is not None:
        return "given", _flat(exact, shapes)
    enumerated = Enumeration()
    with torch.no_grad():
        guide = setting.guide(enumerated)
        trace = draw(setting.target, guide) if not callable(getattr(guide, "strata", None)) else None
    if trace is None or set(latents_of(trace)) != set(score_sites(trace)):
        return "none", None
    try:
        setting.check(enumerated)
    except OptionError:
        return "none", None
    return "enumeration", make_replicates(setting, enumerated, num_draws=1, num_replicates=1).gradients[0]


def _flat(exact: Any, shapes: Mapping[str, torch.Size]) -> np.ndarray:
    values = exact if isinstance(exact, Mapping) else dict.fromkeys(shapes, exact) if len(shapes) == 1 else {}
    parts = []
    for name, shape in shapes.items():
        if name not in values:
            raise OptionError(f"exact: nothing for parameter {name!r}; wanted an array for each of {sorted(shapes)}.")
        value = np.asarray(torch.as_tensor(values[name]).detach().cpu(), dtype=float)
        if value.shape != tuple(shape):
            raise OptionError(f"exact[{name!r}]: shape {value.shape}, wanted the parameter's, {tuple(shape)}.")
        parts.append(value.reshape(-1))
    return np.concatenate(parts)
