"""A fit with the latents outside of its data plate held, so that each datum's posterior stands alone."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample

from ppl_models.errors import ModelError
from ppl_models.inference.draws import latent_draws, unconstrained
from ppl_models.inference.fit_result import Fit
from ppl_models.program import Program, build_program, find_rows
from ppl_models.seeds import child_seed

NUM_DRAWS = 1_000
WHERE_HELD = "the guide's mean in unconstrained coordinates"


class Hold(Messenger):
    """Give sites fixed values and hide them; hide all others outside of a plate too, where asked.

    Args:
        values: constrained values by site name.
        plate: the plate outside of which nothing is seen; None hides the sites of the values alone.
    """

    def __init__(self, values: Mapping[str, torch.Tensor], plate: str | None = None):
        super().__init__()
        self.values, self.plate = values, plate

    def _pyro_sample(self, msg: Any) -> None:
        if site_is_subsample(msg):
            return
        if msg["name"] in self.values:
            msg["value"], msg["stop"] = self.values[msg["name"]], True
        elif self.plate is not None and self.plate not in {frame.name for frame in msg["cond_indep_stack"]}:
            msg["stop"] = True


def hold_outside(fit: Fit, *, seed: int = 0) -> tuple[Fit, dict[str, str]]:
    """Hold the latents that all rows share at the guide's mean, in unconstrained coordinates.

    Args:
        fit: at the rows of interest.
        seed: of the draws whose mean is taken.

    Returns:
        A fit whose model and guide have the latents of each row alone, and by latent where it was held; the same fit
        where there are none outside.

    Raises:
        ModelError: the model has no plate over its rows, no latent inside it, or discrete latents in the way.
    """
    if fit.program.batched and not fit.program.subsampled:
        # these rows are all that matter now: their posteriors do not depend on how the others were fed
        fit = replace(fit, program=replace(fit.program, batched=False))
    program = fit.program
    if program.sites.enumerated:
        name = program.sites.enumerated[0].name
        raise ModelError(
            f"site '{name}': a discrete latent that is summed out, and a row's posterior is taken over continuous "
            "latents. Write a mixture distribution (pyro.distributions.MixtureSameFamily), or give the values as data."
        )
    rows = find_rows(program)
    if not rows.latents:
        raise ModelError(f"the plate '{rows.plate}' over the rows holds no latent: there is no posterior of one row.")
    if not rows.outside:
        return fit, {}
    discrete = [site.name for site in program.sites.discrete if site.name in rows.outside]
    if discrete:
        raise ModelError(f"site '{discrete[0]}': a discrete latent outside of plate '{rows.plate}' has no mean.")
    with program.isolated(seed=child_seed(seed, "held")), torch.no_grad():
        drawn, _ = latent_draws(program, fit.guide, NUM_DRAWS)
        middle = torch.as_tensor(unconstrained(program, drawn).mean(0), dtype=program.dtype, device=program.device)
        constrained = program.constrain(middle)
    values = {name: constrained[name].detach() for name in rows.outside}
    local = _program(program, _held(program.model, Hold(values)))
    guide = _held(fit.guide, Hold(values, rows.plate))
    return replace(fit, program=local, guide=guide), dict.fromkeys(values, WHERE_HELD)


def _held(function: Callable[..., Any], handler: Hold) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        with handler:
            return function(*args, **kwargs)

    held: Any = run
    held.__wrapped__ = getattr(function, "__wrapped__", function)  # keeps its signature
    return held


def _program(program: Program, model: Callable[..., Any]) -> Program:
    arguments = program.arguments
    data = {**dict(zip(arguments.names, arguments.args, strict=True)), **arguments.kwargs}
    return build_program(
        model, data, dtype=program.dtype, parameters=program.parameters, device=program.device, batched=program.batched
    )
