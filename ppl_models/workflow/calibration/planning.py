"""What a calibration will do: the model that is refitted, the data that it is given, and what is ranked."""

from collections.abc import Mapping
from dataclasses import replace

from ppl_models.errors import OptionError
from ppl_models.inference import Fit
from ppl_models.inference.draws import latent_draws
from ppl_models.inference.refitting import RefitSpec
from ppl_models.program import build_program
from ppl_models.seeds import child_seed
from ppl_models.workflow.calibration.generative import check_generative, observed_arguments
from ppl_models.workflow.calibration.quantities import Quantity, checked_quantities
from ppl_models.workflow.calibration.refits import Plan
from ppl_models.workflow.calibration.simulate import BLOCK, Simulate, Simulator, Truths
from ppl_models.workflow.calibration.twice import observed_twice


def plan_of(
    fit: Fit,
    kind: str,
    num_draws: int,
    quantities: Mapping[str, Quantity] | None,
    simulate: Simulate | None,
    amortised: bool,
    seed: int,
) -> Plan:
    """Plan a calibration; the options are those of `calibrate`.

    Raises:
        ModelError, DataError, OptionError: the model cannot make its own data, or the guide cannot be refitted to them.
    """
    program = fit.program
    check_generative(program, kind=kind, amortised=amortised, simulated=simulate is not None)
    if simulate is not None and (kind == "posterior" or not callable(simulate)):
        raise OptionError(
            f"simulate: found {type(simulate).__name__} with kind={kind!r}, wanted a function, and kind='prior' or "
            "'symmetry'."
        )
    spec = RefitSpec.of(fit, amortised=amortised)
    spec = replace(spec, options=replace(spec.options, held_out=None))  # what is held out is none of simulated data's
    replaced = {} if simulate is not None else observed_arguments(program)
    target = program
    if kind == "posterior":
        if fit.family is None or amortised:
            raise OptionError(
                f"kind='posterior': the guide {fit.guide_name!r} is called with the model's data, and would need two "
                "sets of them. Use an automatic family, or kind='prior'."
            )
        model, data, replaced = observed_twice(program, replaced)
        target = build_program(model, data, dtype=program.dtype, device=program.device)
        spec = replace(spec, model=model, data=data)
    user = checked_quantities(quantities, program)
    sites = program.sites.latent + program.sites.discrete
    return Plan(
        simulator=Simulator(program, target, replaced, simulate, seed),
        spec=spec,
        latents={site.name: tuple(site.shape) for site in sites},
        quantities=None if kind == "symmetry" else user,
        num_draws=num_draws,
        seed=seed,
    )


def truths_of(fit: Fit, seed: int, num_blocks: int) -> list[Truths]:
    """Draws of the fit for each block, each of shape (BLOCK, *event)."""
    found = []
    for index in range(num_blocks):
        with fit.program.isolated(seed=child_seed(seed, f"truths {index}")):
            values, _ = latent_draws(fit.program, fit.guide, BLOCK)
        found.append({name: value.detach().cpu().numpy() for name, value in values.items()})
    return found
