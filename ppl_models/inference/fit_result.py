"""A fitted variational posterior: what made it, and draws from it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyro.poutine as poutine
import torch
import xarray as xr

from guides import FAMILIES
from ppl_models.errors import GuideError, first_line
from ppl_models.inference import fit_storage
from ppl_models.inference.amortised import check_amortised, not_amortised
from ppl_models.inference.course import Stage
from ppl_models.inference.draws import latent_draws, scored
from ppl_models.inference.runs import Start
from ppl_models.options import check_count
from ppl_models.posterior import (
    Labels,
    check_include,
    data_groups,
    extra_groups,
    make_tree,
    predictive_draws,
)
from ppl_models.program import Data, Program, with_data
from ppl_models.program.batching import NOT_VECTORISABLE
from ppl_models.program.estimators import WeightedKl, make_estimator
from ppl_models.program.nodes import nodes_of
from ppl_models.seeds import check_seed, child_seed

if TYPE_CHECKING:
    from ppl_models.inference.fit_options import FitOptions

BOUND_OR_DENSITY = ("svi", "newton")
"""Methods whose losses are an ELBO's, or a log density's; those of others are objectives of their own."""
OTHER_BOUNDS = ("importance_weighted", "doubly_reparameterised", "renyi", "vimco")
"""Estimators whose bound is another than the ELBO."""
AUTO, USUAL = "auto", ("total", "sticking_the_landing")
"""Estimators that need no mention where nobody named them."""


@dataclass(frozen=True, repr=False)
class Fit:
    """A fitted variational posterior.

    Attributes:
        program: the model with its data and learnt parameters.
        guide: the fitted guide.
        guide_name: its name, for people.
        family: name of the automatic family, None for other guides.
        point: whether the guide is a point estimate, without uncertainty.
        losses: negative estimate of the `objective` in nats over all data at each step, shape (steps,).
        status: "converged", "max_steps", "out_of_time", "diverged", "interrupted", or "collapsed" for a training by
            epochs that left no latent unit which tells anything of the data.
        constant_phase: first and one past the last step at the fixed step size.
        stages: the step sizes, one after the other: where the iterates became stationary, and what was gained.
        starts: what each of several independent starts came to; empty for one.
        note: what went wrong or was out of the ordinary, empty otherwise.
        backend: what made the steps.
        backend_note: why it was not a faster one; empty otherwise.
        seconds: time spent.
        timing: seconds by stage: "prepare", then "capture" and "compile" where there was any, and "steps".
        config: the options, the seed and the versions that made it.
        labels: names of axes and their coordinates, as given.
        method: what fitted it: "svi", or the name of another method.
        evaluations: points at which the gradient of the model's log density was computed.
        evidence: what a method found beside the fit, by name.
        options: the options as they were given; None for a fit from a file.
        history: one row for each epoch of a training by epochs, in nats per row of the data: the mean `objective` of
            its steps, and at its end, of rows held out (`validation_…`) or of some that are trained on (`training_…`),
            the reconstruction E_q[log p(x | z)], the divergence `kl`, the ELBO `bound`, and the objective. NaN where
            an epoch ended without a look. None for other fits.
    """

    program: Program = field(repr=False)
    guide: Callable[..., Any] = field(repr=False)
    guide_name: str
    family: str | None
    point: bool
    losses: np.ndarray = field(repr=False)
    status: str
    constant_phase: tuple[int, int]
    note: str
    backend: str
    seconds: float
    config: Mapping[str, Any]
    labels: Labels = field(repr=False)
    backend_note: str = ""
    timing: Mapping[str, float] = field(default_factory=dict)
    stages: tuple[Stage, ...] = ()
    starts: tuple[Start, ...] = ()
    method: str = "svi"
    evaluations: int = 0
    evidence: Mapping[str, Any] = field(default_factory=dict)
    options: "FitOptions | None" = field(default=None, repr=False)
    history: pd.DataFrame | None = field(default=None, repr=False)

    def __post_init__(self):
        self.losses.setflags(write=False)

    @property
    def steps(self) -> int:
        """Number of SVI steps made."""
        return len(self.losses)

    @property
    def has_density(self) -> bool:
        """Whether the guide's draws have a density: points and particles have none, so no k-hat and no ELBO."""
        family = FAMILIES.get(self.family or "")
        return not self.point and (family is None or family.density)

    @cached_property
    def parameters(self) -> dict[str, torch.Tensor]:
        """Value of every learnt parameter of guide and model, constrained, by its name in Pyro's param store."""
        return self.program.parameters.constrained()

    def sample(self, num_draws: int = 1_000, *, seed: int = 0, include: tuple[str, ...] | str = ()) -> xr.DataTree:
        """Draw from the posterior.

        Args:
            num_draws: number of draws.
            seed: seed of the draws.
            include: further groups: "log_likelihood", "posterior_predictive", "prior", "prior_predictive".

        Returns:
            A tree with the groups posterior (latents and deterministics, dims chain = 1, draw, *event), sample_stats
            (`log_p`: log joint density of model and data, `log_q`: log density of the guide, both in nats and in
            constrained coordinates; enumerated sites summed out), observed_data, constant_data, and those asked for.

        Raises:
            OptionError, DataError: an option is out of its range.
        """
        num_draws = check_count("num_draws", num_draws)
        groups = check_include(include)
        values, log_q = self._latent_draws(num_draws, check_seed(seed))
        with self.program.isolated(seed=seed):
            log_p, deterministics = scored(self.program, values, num_draws)
        extra = extra_groups(self.program, values, (1, num_draws), groups, child_seed(seed, "groups"))
        draws = {name: _one_chain(value) for name, value in {**values, **deterministics}.items()}
        stats = {"log_p": _one_chain(log_p), "log_q": _one_chain(log_q)}
        return make_tree(
            {"posterior": draws, "sample_stats": stats, **extra, **data_groups(self.program)},
            self.labels.of_program(self.program),
            attrs={**self._attrs(), "sample_seed": seed},
        )

    def log_ratio(self, num_draws: int = 10_000, *, seed: int = 0) -> np.ndarray:
        """Log p - log q in nats at draws of the guide, shape (draw,): the raw material of the ELBO and of k-hat."""
        values, log_q = self._latent_draws(check_count("num_draws", num_draws), check_seed(seed))
        with self.program.isolated(seed=seed):
            log_p, _ = scored(self.program, values, num_draws)
        return (log_p - log_q).cpu().numpy()

    def elbo(self, num_draws: int = 10_000, *, seed: int = 0) -> tuple[float, float]:
        """The evidence lower bound in nats and its Monte Carlo standard error; NaN without a density, as of a point."""
        if not self.has_density:
            return math.nan, math.nan
        log_ratio = self.log_ratio(num_draws, seed=seed)
        return float(log_ratio.mean()), float(log_ratio.std(ddof=1) / np.sqrt(len(log_ratio)))

    def predict(self, num_draws: int = 1_000, *, data: Data | None = None, seed: int = 0) -> xr.DataTree:
        """Draw data from the posterior predictive distribution.

        Args:
            num_draws: number of draws.
            data: new arguments of the model (covariates of new rows, say, with None for the observed ones); None
                repeats the data of the fit.
            seed: seed of the draws.

        Returns:
            A tree with the groups posterior, posterior_predictive and the data; for new data predictions and
            predictions_constant_data. Dims chain = 1, draw, *event.

        Raises:
            DataError, ModelError: the new data do not fit the model, or the posterior's latents do not fit them.
        """
        num_draws = check_count("num_draws", num_draws)
        values, _ = self._latent_draws(num_draws, check_seed(seed))
        program, labels, group = self.program, self.labels.of_program(self.program), "posterior_predictive"
        if data is not None:
            program = with_data(program, data)
            labels, group = _labels_of_new_data(self.labels, program), "predictions"
        draws = predictive_draws(program, values, child_seed(seed, "predict"))
        groups = {group: {name: _one_chain(value) for name, value in draws.items()}}
        if data is not None:
            groups["predictions_constant_data"] = data_groups(program)["constant_data"]
        else:
            groups |= data_groups(program)
            groups["posterior"] = {name: _one_chain(value) for name, value in values.items()}
        return make_tree(groups, labels, attrs={**self._attrs(), "sample_seed": seed})

    def at(self, data: Data) -> "Fit":
        """The same guide and parameters at other data: what an amortised guide q(z | x) says of new rows.

        Args:
            data: as `ppl.fit` takes them, of any number of rows.

        Raises:
            DataError, ModelError: the data do not fit the model.
            GuideError: the guide keeps parameters for each row of its own data, so that it has none for others.
        """
        program = with_data(self.program, data)
        arguments = program.arguments
        with program.isolated(seed=0), torch.no_grad():
            try:
                drawn = nodes_of(poutine.trace(self.guide).get_trace(*arguments.args, **arguments.kwargs))
                shapes = {name: node["value"].shape for name, node in drawn.items() if node["type"] == "sample"}
            except NOT_VECTORISABLE as error:
                raise GuideError(not_amortised(self.guide_name, first_line(error))) from error
        for site in program.sites.latent + program.sites.discrete:
            if shapes.get(site.name) != site.shape:
                found = f"'{site.name}' has shape {tuple(shapes.get(site.name, ()))}, wanted {tuple(site.shape)}"
                raise GuideError(not_amortised(self.guide_name, found))
        if all(program.sites[site.name].shape == site.shape for site in self.program.sites.latent):
            check_amortised(program, self.guide, self.guide_name)
        return replace(self, program=program, labels=_labels_of_new_data(self.labels, program))

    def save(self, path: str | Path) -> Path:
        """Write the fit to one file: tensors in safetensors, everything else as JSON in its header; no pickle.

        `ppl_models.load_fit(path, model, data)` reads it. The file appears only when it is complete.

        Raises:
            FileError: the file cannot be written.
        """
        return fit_storage.write(self, path)

    def _latent_draws(self, num_draws: int, seed: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        with self.program.isolated(seed=child_seed(seed, "draws")):
            return latent_draws(self.program, self.guide, num_draws)

    def _attrs(self) -> dict[str, Any]:
        return {
            "inference_library": "ppl-models",
            "inference_library_version": self.config["versions"].get("ppl-models", ""),
            "guide": self.guide_name,
            "status": self.status,
            "backend": self.backend,
            "seconds": self.seconds,
            "config": self.config,
        }

    @property
    def objective(self) -> str:
        """What the losses are the negative of: "ELBO", "bound" (another), "log p", "objective (beta = 4)"."""
        if self.method not in BOUND_OR_DENSITY:
            return "objective"
        if self.config.get("estimator") in OTHER_BOUNDS:
            return "bound"
        if self.config.get("estimator") == WeightedKl.name:
            weighted = WeightedKl(**self.config["estimator_options"])
            return "ELBO" if weighted.is_elbo else f"objective ({weighted.weights})"
        # What laplace and delta optimise is the log density of a point, and no bound on anything; nor is particles'.
        return "ELBO" if self.has_density and self.family != "laplace" else "log p"

    def _rows(self) -> list[tuple[str, str]]:
        last = self.losses[-min(100, len(self.losses)) :] if len(self.losses) else np.array([np.nan])
        latents = ", ".join(
            f"{s.name}{list(s.shape) if s.shape else ''}"
            for s in self.program.sites.latent + self.program.sites.discrete
        )
        return [
            ("guide", self.guide_name),
            ("status", self.status + (f" ({self.note})" if self.note else "")),
            *self._estimator_row(),
            (self.objective, f"{-float(np.mean(last)):,.2f} nats (mean of the last {len(last)} steps)"),
            *self._epoch_rows(self.config.get("num_rows")),
            ("steps", _most(self.steps, self.config["max_steps"])),
            ("seconds", f"{self.seconds:.1f}"),
            ("backend", f"{self.backend}, {self.config['dtype']}, {self.config['num_particles']} particles"),
            ("latents", latents),
        ]

    def _epoch_rows(self, num_rows: int | None) -> list[tuple[str, str]]:
        """How a training by epochs ended, in nats per row."""
        if self.history is None or not len(self.history) or num_rows is None:
            return []
        kind = "validation" if "validation_bound" in self.history else "training"
        seen = self.history.dropna(subset=[f"{kind}_bound"])
        rows = [("epochs", f"{len(self.history)} of at most {self.config['max_epochs']}, {num_rows:,} rows each")]
        if len(seen):
            judged = f"{kind}_objective" if f"{kind}_objective" in seen else f"{kind}_bound"
            warm = seen[seen["epoch"] >= self.config.get("warmup_epochs", 0)]
            best = warm.iloc[int(np.argmax(warm[judged]))] if kind == "validation" and len(warm) else seen.iloc[-1]
            text = f"ELBO {best[f'{kind}_bound']:,.3f} nats per row (KL {best[f'{kind}_kl']:,.3f})"
            looked_at = self.config.get("rows_looked_at", num_rows)
            where = f", at {looked_at:,} of the rows" if kind == "training" and looked_at < num_rows else ""
            rows.append((kind, f"{text}, epoch {int(best['epoch'])}{where}"))
        return rows

    def _estimator_row(self) -> list[tuple[str, str]]:
        """The estimator, where it was named or is none of the usual ones."""
        name = self.config.get("estimator")
        asked = AUTO if self.options is None else self.options.estimator
        if name is None or (name in USUAL and asked in (AUTO, *USUAL[:1])):
            return []
        made = make_estimator(name, self.config.get("estimator_options"))
        return [("estimator", repr(made).replace("[biased]", "(biased)"))]

    def __repr__(self) -> str:
        rows = self._rows()
        width = max(9, *(len(name) for name, _ in rows))
        return "Fit\n" + "\n".join(f"  {name:<{width}} {value}" for name, value in rows)

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in self._rows())
        return f"<table><caption>Fit</caption>{rows}</table>"


def _most(steps: int, most: int | str) -> str:
    return f"{steps:,}" if isinstance(most, str) else f"{steps:,} of at most {most:,}"


def _one_chain(value: torch.Tensor) -> np.ndarray:
    return value.detach().cpu().numpy()[None]


def _labels_of_new_data(labels: Labels, program: Program) -> Labels:
    # Coordinates given for the fit's data hold for new data only where the lengths agree.
    sizes = {size for site in program.sites.observed + program.sites.latent for size in site.shape}
    kept = {dim: values for dim, values in labels.coords.items() if len(values) in sizes}
    return Labels(kept, labels.dims).of_program(program)
