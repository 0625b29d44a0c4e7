"""A Pyro model with its data, seen as pure functions of one flat unconstrained vector."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pyro.poutine as poutine
import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import site_is_subsample
from torch.distributions import biject_to

from ppl_models.errors import DataError, ModelError
from ppl_models.program.data import Arguments, Data, prepare_arguments
from ppl_models.program.enumeration import choose_evaluator
from ppl_models.program.first_run import first_run
from ppl_models.program.handlers import Enumerate, FromUnconstrained, FromValues, ImproperSites
from ppl_models.program.isolation import CPU, isolated
from ppl_models.program.nodes import nodes_of
from ppl_models.program.parameters import Parameters
from ppl_models.program.sites import Site, Sites, read_sites


@dataclass(frozen=True)
class Program:
    """A model with its data as functions of its latent values.

    The methods run the model in the Pyro state of the caller: enter `program.isolated(...)` around them. Each takes one
    draw; `ppl_models.program.batching.map_draws` applies them to many.

    Attributes:
        model: the model, with improper priors made sampleable.
        arguments: what it is called with.
        sites: what a validated first run found, all plates whole.
        observed_values: what the model observes, by site.
        dtype: floating dtype of latents and data.
        parameters: values of the model's `pyro.param`s, held fixed.
        moving_supports: latents whose support depends on another latent.
        explicit_subsamples: plates whose subsample indices the model gives itself.
        subsampled: whether a plate holds fewer data than its full size.
        evaluator: sums the enumerated sites out; None where there are none.
        device: where its tensors stand.
        batched: whether the data are one batch of many, which a plate's full size does not fit.
    """

    model: Callable
    arguments: Arguments
    sites: Sites
    observed_values: Mapping[str, torch.Tensor]
    dtype: torch.dtype
    parameters: Parameters
    moving_supports: frozenset[str]
    explicit_subsamples: frozenset[str]
    subsampled: bool
    evaluator: type | None
    device: torch.device = CPU
    batched: bool = False

    @cached_property
    def slices(self) -> dict[str, tuple[slice, torch.Size]]:
        """Where each latent stands in the flat vector, and its unconstrained shape."""
        found, start = {}, 0
        for site in self.sites.latent:
            assert site.unconstrained_shape is not None
            stop = start + site.unconstrained_shape.numel()
            found[site.name] = (slice(start, stop), site.unconstrained_shape)
            start = stop
        return found

    @property
    def num_dims(self) -> int:
        """Length of the flat unconstrained vector."""
        return sum(shape.numel() for _, shape in self.slices.values())

    @property
    def size_hint(self) -> int:
        """About how many numbers one run of the model holds."""
        observed = sum(site.shape.numel() for site in self.sites.observed)
        return self.num_dims + observed + sum(value.numel() for value in self.arguments.tensors().values())

    def isolated(
        self, *, seed: int | None = None, validate: bool = False, full_data: bool = True, num_threads: int | None = None
    ) -> AbstractContextManager[None]:
        """A private Pyro world with this program's dtype and parameters; plates hold all their data by default."""
        return isolated(
            seed=seed,
            dtype=self.dtype,
            validate=validate,
            parameters=self.parameters,
            full_data=full_data and not self.batched,
            num_threads=num_threads,
            device=self.device,
        )

    def with_parameters(self, parameters: Parameters) -> "Program":
        """The same program with other values of the model's `pyro.param`s."""
        return replace(self, parameters=parameters)

    def log_density(self, flat: torch.Tensor) -> torch.Tensor:
        """Log joint density plus log Jacobian, in nats, of one unconstrained vector of shape (num_dims,).

        Discrete sites marked for enumeration are summed out.
        """
        return self.log_density_and_values(flat)[0]

    def log_density_and_values(self, flat: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The log density, with the constrained latents and the deterministics at that point."""
        handler = FromUnconstrained(flat, self.slices)
        trace = self._trace(handler)
        return self._log_prob(trace) + handler.log_jacobian, self._values(trace)

    def log_joint(self, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Log joint density in nats of one draw of the constrained latents, by site name."""
        return self._log_prob(self._trace(FromValues(values)))

    def log_joint_and_deterministics(
        self, values: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The log joint density of constrained latents, and the deterministics there."""
        trace = self._trace(FromValues(values))
        found = self._values(trace)
        return self._log_prob(trace), {site.name: found[site.name] for site in self.sites.deterministic}

    def log_likelihood(self, values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Log density in nats of every observation given one draw of the latents, by observed site.

        Observations that the model masks have zero; scales of `pyro.poutine.scale` do not count.

        Raises:
            ModelError: an observation depends on an enumerated site, so that its density is no single term.
        """
        if self.sites.enumerated:
            raise ModelError(
                "log_likelihood: the model sums out discrete sites, so its observations have no separate terms. "
                "Marginalise by hand with a mixture distribution (pyro.distributions.MixtureSameFamily)."
            )
        trace = self._trace(FromValues(values))
        found = {}
        for site in self.sites.observed:
            node = nodes_of(trace)[site.name]
            log_prob = scale_and_mask(node["fn"].log_prob(node["value"]), mask=node["mask"])
            batch_shape = site.shape[: len(site.shape) - site.event_dim]
            found[site.name] = log_prob.expand(batch_shape) if log_prob.shape != batch_shape else log_prob
        return found

    def constrain(self, flat: torch.Tensor) -> dict[str, torch.Tensor]:
        """The constrained latents and the deterministics of one unconstrained vector."""
        return self.log_density_and_values(flat)[1]

    def unconstrain(self, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The flat unconstrained vector of one draw of the constrained latents."""
        trace = self._trace(FromValues(values))
        return self._flat(trace)

    def prior_draw(self) -> torch.Tensor:
        """The unconstrained vector of one draw of the prior (improper sites: of their starting values)."""
        trace = self._trace(FromValues({}), enumerate_discrete=False)
        return self._flat(trace)

    def _flat(self, trace: Trace) -> torch.Tensor:
        parts = []
        for site in self.sites.latent:
            node = nodes_of(trace)[site.name]
            parts.append(biject_to(node["fn"].support).inv(node["value"]).reshape(-1))
        return torch.cat(parts)

    def _trace(self, handler: poutine.messenger.Messenger, *, enumerate_discrete: bool = True) -> Trace:
        enumerated = enumerate_discrete and self.sites.enumerated
        model = _enumerated(self.model, self.sites) if enumerated else self.model
        with handler:
            return poutine.trace(model).get_trace(*self.arguments.args, **self.arguments.kwargs)

    def _log_prob(self, trace: Trace) -> torch.Tensor:
        if self.evaluator is None:
            log_prob = trace.log_prob_sum()
        else:
            log_prob = self.evaluator(trace, True, self.sites.max_plate_nesting).log_prob(trace)
        return torch.as_tensor(log_prob, dtype=self.dtype)

    def _values(self, trace: Trace) -> dict[str, torch.Tensor]:
        return {site.name: nodes_of(trace)[site.name]["value"] for site in self.sites.latent + self.sites.deterministic}


def build_program(
    model: Callable,
    data: Data,
    *,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    parameters: Parameters | None = None,
    device: torch.device = CPU,
    batched: bool = False,
) -> Program:
    """Run a model once with validation and describe it.

    Args:
        model: a Pyro model, function or module.
        data: mapping for `model(**data)` or tuple for `model(*data)`.
        dtype: floating dtype of latents and data.
        seed: seed of the prior draw that the first run makes.
        parameters: values of the model's `pyro.param`s; None takes their initial values.
        device: where the data are put and the model runs.
        batched: whether the data are one batch of many; plates keep their subsample sizes then.

    Raises:
        DataError, ModelError: the model and data do not go together; the message names site and argument.
    """
    if not callable(model):
        raise ModelError(f"model: found {type(model).__name__}, wanted a Pyro model: a function or a PyroModule.")
    arguments = prepare_arguments(model, data, dtype).on(device)
    sampleable: Any = ImproperSites()(model)
    sampleable.__wrapped__ = model  # keeps its signature
    with isolated(seed=seed, dtype=dtype, validate=True, parameters=parameters, device=device):
        try:
            trace, explicit = first_run(sampleable, arguments)
        except DataError as error:
            if error.whole_numbers is None:
                raise
            # Outcomes are often whole numbers or truth values where torch's densities want 0.0 and 1.0.
            arguments = arguments.in_dtype(error.whole_numbers, dtype)
            trace, explicit = first_run(sampleable, arguments)
        if parameters is None:
            parameters = Parameters.from_store()
        with isolated(dtype=dtype, validate=True, parameters=parameters, full_data=not batched, device=device):
            whole, _ = first_run(sampleable, arguments)
            _check_same_sites(trace, whole)
            sites = read_sites(whole)
            evaluator = _evaluator(sampleable, arguments, sites, dtype) if sites.enumerated else None
    return Program(
        model=sampleable,
        arguments=arguments,
        sites=sites,
        observed_values={site.name: nodes_of(whole)[site.name]["value"] for site in sites.observed},
        dtype=dtype,
        parameters=parameters,
        moving_supports=frozenset(s.name for s in sites.latent if _support_moves(s, trace, whole)),
        explicit_subsamples=explicit,
        subsampled=_is_subsampled(trace),
        evaluator=evaluator,
        device=device,
        batched=batched,
    )


def with_data(program: Program, data: Data) -> Program:
    """The same model on other data, with the program's parameters, dtype and device.

    Raises:
        DataError, ModelError: as `build_program`.
    """
    return build_program(
        program.model,
        data,
        dtype=program.dtype,
        parameters=program.parameters,
        device=program.device,
        batched=program.batched,
    )


def _enumerated(model: Callable, sites: Sites) -> Callable:
    return Enumerate(first_available_dim=-1 - sites.max_plate_nesting)(model)


def _evaluator(model: Callable, arguments: Arguments, sites: Sites, dtype: torch.dtype) -> type:
    trace = poutine.trace(_enumerated(model, sites)).get_trace(*arguments.args, **arguments.kwargs)
    return choose_evaluator(trace, sites.max_plate_nesting, dtype)


def _check_same_sites(first: Trace, second: Trace) -> None:
    names = [
        {name for name, node in nodes_of(trace).items() if node["type"] == "sample" and not site_is_subsample(node)}
        for trace in (first, second)
    ]
    passing = sorted(names[0] ^ names[1])
    if passing:
        raise ModelError(
            f"site '{passing[0]}': present in one run of the model and absent in the next. Models whose sites come and "
            "go cannot be fitted; give every site in every run, masked where it does not count."
        )


def _support_moves(site: Site, first: Trace, second: Trace) -> bool:
    found = [bounds(nodes_of(trace)[site.name]["fn"].support) for trace in (first, second)]
    return any(
        not torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(found[0], found[1], strict=False)
    )


def bounds(support) -> list:
    """Lower and upper bounds of a support, where it has any."""
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    return [value for name in ("lower_bound", "upper_bound") if (value := getattr(support, name, None)) is not None]


def _is_subsampled(trace: Trace) -> bool:
    return any(
        node["type"] == "sample" and site_is_subsample(node) and len(node["value"]) < node["fn"].size
        for node in nodes_of(trace).values()
    )
