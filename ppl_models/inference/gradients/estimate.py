"""One gradient of an expectation, with its standard error."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import torch

from ppl_models.checks import Check, check_html, check_lines
from ppl_models.inference.gradients.replicates import Replicates, make_replicates
from ppl_models.inference.gradients.setting import ALONE, Parameters, Setting, free_setting
from ppl_models.options import check_count
from ppl_models.program.estimators import Estimator, make_estimator
from ppl_models.program.estimators.expected import Distribution
from ppl_models.seeds import check_seed, child_seed
from ppl_models.versions import versions

GROUPS = 100
"""Independent estimates whose spread is the standard error."""


@dataclass(frozen=True, repr=False)
class GradientEstimate:
    """The gradient of E_q[f] by the parameters of q.

    Attributes:
        gradient: by parameter, each of the parameter's shape; a parameter given alone is called "q".
        standard_error: of each of its elements; zero for what is exact.
        value: the expectation (or the bound, in nats) itself.
        value_error: its standard error.
        num_draws: draws of q taken.
        estimator: what estimated it, with its options.
        biased: whether the mean of such estimates is another than the gradient; no standard error tells of that.
        checks: its health.
        config: the options, the seed and the versions that made it.
    """

    gradient: Mapping[str, np.ndarray]
    standard_error: Mapping[str, np.ndarray]
    value: float
    value_error: float
    num_draws: int
    estimator: str
    biased: bool
    checks: tuple[Check, ...]
    config: Mapping[str, Any]

    def _rows(self) -> list[tuple[str, str]]:
        rows = [("value", f"{self.value:.6g} ± {self.value_error:.2g}")]
        for name, value in self.gradient.items():
            for index in np.ndindex(value.shape):
                error = self.standard_error[name][index]
                shown = element("parameter" if name == ALONE else name, index)
                rows.append((f"d / d {shown}", f"{value[index]:.6g} ± {error:.2g}"))
        return rows[:20]

    def __repr__(self) -> str:
        rows = self._rows()
        width = max(12, *(len(name) for name, _ in rows))
        lines = [f"  {name:<{width}} {value}" for name, value in rows]
        advice = [f"To do: {check.advice}." for check in self.checks if check.passed is not True and check.advice]
        return "\n".join([self._title(), *lines, *check_lines(self.checks), *advice])

    def _title(self) -> str:
        return f"Gradient by {self.estimator}, {self.num_draws:,} {'draw' if self.num_draws == 1 else 'draws'}"

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in self._rows())
        return f"<table><caption>{escape(self._title())}</caption>{rows}</table>{check_html(self.checks)}"


def estimate_gradient(
    f: Callable[[torch.Tensor], torch.Tensor],
    q: Callable[[Any], Distribution],
    parameters: Parameters,
    *,
    estimator: str | Estimator = "score",
    estimator_options: Mapping[str, Any] | None = None,
    num_draws: int = 10_000,
    num_tuning: int = 100,
    log_density: bool = False,
    seed: int = 0,
) -> GradientEstimate:
    """Estimate the gradient of E_q[f(z)] by the parameters of q.

    Args:
        f: takes one draw of q, a tensor of its batch and event shape; returns a scalar tensor. It is vectorised over
            draws where its operations allow it.
        q: takes `parameters` as they are given; returns a distribution of torch's or Pyro's.
        parameters: floating tensors by name, or one tensor; they stay on their device.
        estimator: "reparameterised" where draws have a path, "score" for any q, "enumeration" (exact), or another name
            of `ppl_models.program.estimators`.
        estimator_options: of that estimator.
        num_draws: draws of q, in 100 groups whose spread gives the standard error.
        num_tuning: steps in which an estimator that learns baselines or control variates does so, on further draws.
        log_density: whether f is a log joint density in nats; then the objective is the bound E_q[f(z) - log q(z)].
        seed: of all draws.

    Raises:
        OptionError, UnknownNameError: an option cannot be used, f gives no scalar, or q has not what the estimator
            needs; the message names one that serves.
    """
    check_count("num_draws", num_draws)
    check_count("num_tuning", num_tuning, least=0)
    made = estimator if isinstance(estimator, Estimator) else make_estimator(estimator, estimator_options)
    setting = free_setting(f, q, parameters, log_density=log_density)
    with setting.enter(child_seed(check_seed(seed), "gradient")):
        setting.check(made)
        exact = made.name == "enumeration"
        found = make_replicates(
            setting,
            made,
            num_draws=1 if exact else max(1, num_draws // GROUPS),
            num_replicates=1 if exact else GROUPS,
            num_tuning=num_tuning,
        )
        depends = check_used(setting)
        shapes = {name: holder.shape for name, holder in setting.holders().items()}
    config = {
        "estimator": made.name,
        "estimator_options": made.options,
        "num_draws": num_draws,
        "num_tuning": num_tuning,
        "log_density": log_density,
        "seed": seed,
        "versions": versions(),
    }
    return _put_together(found, made, shapes, depends, config)


def _put_together(
    found: Replicates, made: Estimator, shapes: Mapping[str, torch.Size], depends: Check, config: Mapping[str, Any]
) -> GradientEstimate:
    number = len(found.objectives)
    values = np.column_stack([found.objectives, found.gradients])
    error = values.std(axis=0, ddof=1) / np.sqrt(number) if number > 1 else np.zeros(values.shape[1])
    mean = values.mean(axis=0)
    return GradientEstimate(
        gradient=by_name(mean[1:], shapes),
        standard_error=by_name(error[1:], shapes),
        value=float(mean[0]),
        value_error=float(error[0]),
        num_draws=number * found.num_draws,
        estimator=repr(made),
        biased=made.biased,
        checks=(check_finite(found, made.name), depends),
        config=config,
    )


def by_name(flat: np.ndarray, shapes: Mapping[str, torch.Size]) -> dict[str, np.ndarray]:
    """A flat vector of all parameters as an array for each."""
    parts = np.split(flat, np.cumsum([shape.numel() for shape in shapes.values()])[:-1])
    return {name: part.reshape(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}


def element(name: str, index: tuple[int, ...]) -> str:
    """The name of one element of a parameter."""
    return name + (f"[{', '.join(map(str, index))}]" if index else "")


def check_finite(found: Replicates, name: str) -> Check:
    """Whether every estimate is a number."""
    bad = float((~np.isfinite(np.column_stack([found.objectives, found.gradients]))).any(axis=1).mean())
    return Check(
        f"finite estimates ({name})",
        bad,
        0.0,
        bad == 0.0,
        "" if bad == 0.0 else "keep q where f, log q and their slopes are finite, or mend f there: no figure holds",
        detail="share of the estimates that are NaN or infinite",
    )


def check_used(setting: Setting) -> Check:
    """Whether the draws or the density of q depend on every parameter; in the setting's world."""
    ignored = setting.ignored()
    names = ", ".join("the parameter" if name == ALONE else repr(name) for name in ignored)
    return Check(
        "parameters that q ignores",
        float(len(ignored)),
        0.0,
        not ignored,
        "use the parameters inside q as they come, without detach(), item() or torch.tensor(...)" if ignored else "",
        detail=f"neither the draws nor the density of q depend on {names}, so that its gradient is zero"
        if ignored
        else "the draws or the density of q depend on all",
    )
