"""`ppl.log_evidence`: log p(data) of a model, by the method of choice."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
import xarray as xr

from ppl_models.errors import DataError, ModelError, OptionError
from ppl_models.inference import Fit
from ppl_models.inference.evidence.annealing_options import AnnealingOptions
from ppl_models.inference.evidence.bidirectional import ais_evidence, bidirectional_evidence
from ppl_models.inference.evidence.bridge_evidence import bridge_evidence
from ppl_models.inference.evidence.importance_evidence import IMPORTANCE, importance_evidence
from ppl_models.inference.evidence.particle_filter import particle_filter
from ppl_models.inference.evidence.preconditions import check_observed, check_proper
from ppl_models.inference.evidence.result import CONFIDENCE, Evidence
from ppl_models.inference.evidence.reverse_starts import Draws
from ppl_models.inference.evidence.state_space import StateSpace
from ppl_models.inference.evidence.thermodynamic import thermodynamic_evidence
from ppl_models.inference.preparation import check_device
from ppl_models.inference.private import private_copy
from ppl_models.options import check_choice
from ppl_models.program import Data, Program, build_program
from ppl_models.seeds import child_seed
from ppl_models.workflow.auto import AutoFit

AUTO, WHERE = "auto", "log_evidence"


@dataclass(frozen=True)
class Request:
    """What was asked for.

    Attributes:
        subject: the model, fit or state-space model as it was given.
        data: as they were given.
        fit: the fit, if the subject is one.
        draws: as they were given.
        exact: whether they are exact draws.
        annealing: options of the methods that anneal, with the seed, `by_datum` and the confidence of all.
        num_draws: of a guide.
        num_particles: of a particle filter.
        proposal: at the other end of a bridge.
        dtype: of a program.
        device: of a program.
    """

    subject: Any
    data: Any
    fit: Fit | None
    draws: Draws | None
    exact: bool | None
    annealing: AnnealingOptions
    num_draws: int
    num_particles: int
    proposal: Fit | str | None
    dtype: torch.dtype
    device: torch.device

    @cached_property
    def num_observed(self) -> int | None:
        """How many numbers the model observes; a `ModelError` where it observes nothing."""
        return check_observed(self.built, WHERE)

    @cached_property
    def built(self) -> Program:
        """The model with its data; a fit's own."""
        if self.fit is not None:
            return self.fit.program
        if self.data is None:
            raise DataError("data: none given, wanted what the model is called with, as a mapping or a tuple.")
        copied = private_copy(self.subject, {}, self.dtype, self.device)
        seed = child_seed(self.annealing.seed, "program")
        return build_program(copied, self.data, dtype=self.dtype, device=self.device, seed=seed)

    def program(self) -> Program:
        """The model with its data, some of them observed."""
        _ = self.num_observed
        return self.built

    def wanted_fit(self) -> Fit:
        """The fit; an `OptionError` where there is none."""
        if self.fit is None:
            raise OptionError(f"model: found {type(self.subject).__name__}, and method='importance' needs a fit.")
        return self.fit


def _ais(request: Request) -> Evidence:
    return ais_evidence(request.program(), request.annealing, fit=request.fit)


def _bidirectional(request: Request) -> Evidence:
    return bidirectional_evidence(
        request.program(), request.annealing, fit=request.fit, draws=request.draws, exact=request.exact
    )


def _thermodynamic(request: Request) -> Evidence:
    return thermodynamic_evidence(request.program(), request.annealing, fit=request.fit)


def _bridge(request: Request) -> Evidence:
    if not isinstance(request.draws, xr.DataTree):
        found = type(request.draws).__name__
        raise OptionError(f"draws: found {found}, and a bridge needs posterior draws: draws=ppl.sample(model, data).")
    proposal = request.proposal or request.fit or "normal"
    program = request.program()
    check_proper(program)
    return bridge_evidence(program, request.draws, proposal=proposal, seed=request.annealing.seed)


def _smc(request: Request) -> Evidence:
    if not _is_state_space(request.subject):
        raise OptionError(
            f"model: found {type(request.subject).__name__}, and method='smc' needs a StateSpace, or a model for "
            "Pyro's SMCFilter, with its observations as data."
        )
    if request.data is None:
        raise DataError("data: none given, wanted the observations, shape (time, *event).")
    return particle_filter(
        request.subject, request.data, num_particles=request.num_particles, seed=request.annealing.seed
    )


def _importance(request: Request) -> Evidence:
    options = request.annealing
    return importance_evidence(
        request.wanted_fit(),
        num_draws=request.num_draws,
        by_datum=options.by_datum,
        confidence=options.confidence,
        seed=options.seed,
    )


METHODS: Mapping[str, Callable[[Request], Evidence]] = {
    "ais": _ais,
    "bidirectional": _bidirectional,
    "thermodynamic": _thermodynamic,
    "bridge": _bridge,
    "smc": _smc,
    IMPORTANCE: _importance,
}
"""What makes each estimate. A further method is one file and one entry here."""
TAKE_DRAWS = ("bidirectional", "bridge")
BY_DATUM = ("ais", "bidirectional", "thermodynamic", "importance")


def log_evidence(
    model: Callable[..., Any] | Fit | StateSpace,
    data: Data | Any = None,
    *,
    method: str = AUTO,
    draws: Draws | None = None,
    exact: bool | None = None,
    by_datum: bool = False,
    num_temperatures: int | None = None,
    temperatures: Sequence[float] | np.ndarray | None = None,
    num_chains: int = 64,
    num_leapfrog: int = 3,
    start: str = AUTO,
    num_draws: int = 10_000,
    num_particles: int = 1_000,
    proposal: Fit | str | None = None,
    confidence: float = CONFIDENCE,
    dtype: torch.dtype = torch.float64,
    device: str = "cpu",
    backend: str = AUTO,
    seed: int = 0,
) -> Evidence:
    """Estimate log p(data), with its error and its health.

    Args:
        model: a Pyro model, a fit of one, or a `StateSpace` ("smc").
        data: what the model is called with, or the observations of a state-space model; a fit has its own.
        method: how.

            - "ais": annealed importance sampling from the prior, or a fit's guide, to the posterior. Below the truth in
              expectation.
            - "bidirectional": the same, and back from posterior draws: a bracket, below and above the truth.
            - "thermodynamic": the mean log likelihood integrated over the temperature, chains at all at once.
            - "bridge": between posterior draws and a fit, or a normal of half of them.
            - "smc": a particle filter, for state-space models.
            - "importance": the mean weight of a fit's draws.
            - "auto": "smc" for a state-space model, "bridge" for a fit with draws, else "bidirectional".
        draws: of the posterior. For "bridge" a tree, from `ppl.sample`. For "bidirectional" also values by site, or
            unconstrained points (draw, dim); one draw alone is taken for the latents from which the data were
            simulated, which is an exact one. Without draws, `upper` is an estimate
            and no bound, and the result does not pass.
        exact: whether `draws` are independent exact ones; None decides as said.
        by_datum: the evidence of each datum; the plate must hold every latent.
        num_temperatures: steps along the path; None takes 1,000, or 48 for "thermodynamic".
        temperatures: inverse temperatures that rise from 0 to 1, in place of the schedule.
        num_chains: independent chains.
        num_leapfrog: leapfrog steps of one Hamiltonian transition.
        start: where a path starts: "prior", "guide", or "auto", a fit's guide where it has a density.
        num_draws: draws of a fit's guide ("importance").
        num_particles: of each of a hundred runs ("smc").
        proposal: the other end of a bridge: a fit, "normal" or "t"; None takes the fit, or "normal".
        confidence: of the interval.
        dtype: floating dtype of the computation; a fit has its own.
        device: where to compute; a fit has its own.
        backend: what computes the densities: "auto", "native", "inductor" or "eager".
        seed: seed of everything random.

    Returns:
        The estimate in nats with standard error, interval, bounds where the method has them, and checks.

    Raises:
        OptionError, UnknownNameError: an option is out of its range, or does not suit the method or the model.
        DataError: data or draws are not of this model.
        ModelError: the model has no evidence (an improper prior, nothing observed), or none that the method can reach.
    """
    check_choice("method", method, (AUTO, *METHODS))
    fit = (model.plain if isinstance(model, AutoFit) else model) if isinstance(model, Fit) else None
    if fit is not None and data is not None:
        raise OptionError("data: a fit has its own data. Give the model in place of the fit, or leave data out.")
    used = _chosen(model, draws, by_datum) if method == AUTO else method
    if draws is not None and used not in TAKE_DRAWS:
        raise OptionError(f"draws: method={used!r} takes none. Leave them out, or take 'bidirectional' or 'bridge'.")
    if by_datum and used not in BY_DATUM:
        raise OptionError(f"by_datum: method={used!r} gives the evidence of all data alone. Take 'bidirectional', say.")
    if confidence != CONFIDENCE and used in ("bridge", "smc"):
        raise OptionError(f"confidence: method={used!r} gives intervals of {CONFIDENCE:.0%}. Leave it out.")
    annealing = AnnealingOptions(
        num_temperatures, temperatures, num_chains, num_leapfrog, by_datum, start, backend, seed, confidence
    )
    _check_continuous(fit, used)
    where = check_device(device)
    request = Request(model, data, fit, draws, exact, annealing, num_draws, num_particles, proposal, dtype, where)
    found = METHODS[used](request)
    if used == "smc":
        return found
    return replace(found, config={**found.config, "num_observed": request.num_observed})


def _check_continuous(fit: Fit | None, method: str) -> None:
    """Refuse a fit whose guide draws discrete latents, but by the method that needs draws alone."""
    if fit is None or method == IMPORTANCE or not fit.program.sites.discrete:
        return
    names = ", ".join(f"'{site.name}'" for site in fit.program.sites.discrete)
    raise ModelError(
        f"site {names}: a discrete latent that the guide draws, and method={method!r} needs continuous ones. Take "
        f"method={IMPORTANCE!r}."
    )


def _chosen(model: Any, draws: Any, by_datum: bool) -> str:
    if _is_state_space(model):
        return "smc"
    bridged = isinstance(model, Fit) and isinstance(draws, xr.DataTree) and not by_datum
    return "bridge" if bridged else "bidirectional"


def _is_state_space(model: Any) -> bool:
    return isinstance(model, StateSpace) or (hasattr(model, "init") and hasattr(model, "step"))
