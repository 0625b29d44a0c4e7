"""What is ranked beside the latents: the log joint density, the log likelihood, and functions of the user's."""

from collections.abc import Callable, Mapping

import numpy as np
import pyro.poutine as poutine
import torch

from ppl_models.errors import OptionError
from ppl_models.program import Program, map_draws
from ppl_models.program.handlers import FromValues
from ppl_models.program.nodes import nodes_of

LOG_JOINT, LOG_LIKELIHOOD = "log joint density", "log likelihood"
"""With blanks, which names of sites do not have."""

Arrays = Mapping[str, np.ndarray]
Quantity = Callable[[Arrays, Arrays], np.ndarray]
"""A function of draws of the latents, by name and each of shape (draw, *event), and of the data, by argument."""


def data_quantities(program: Program, values: Arrays, quantities: Mapping[str, Quantity]) -> dict[str, np.ndarray]:
    """Scalars that depend on latents and data, for each draw.

    Args:
        program: the model with the data.
        values: latents, constrained, by name, each of shape (draw, *event).
        quantities: functions of the user's, by name.

    Returns:
        The log joint density and the log likelihood in nats (the latter not where sites are summed out), and the user's
        quantities; each of shape (draw,).

    Raises:
        OptionError: a function of the user's returns another shape, or no real numbers.
    """
    data = {name: value.detach().cpu().numpy() for name, value in program.arguments.tensors().items()}
    return {**_log_terms(program, values), **of_user(quantities, values, data)}


def of_user(quantities: Mapping[str, Quantity], values: Arrays, data: Arrays) -> dict[str, np.ndarray]:
    """The user's quantities, each of shape (draw,)."""
    num_draws = len(next(iter(values.values())))
    found = {}
    for name, quantity in quantities.items():
        array = np.asarray(quantity(values, data))
        if array.shape != (num_draws,) or array.dtype.kind not in "fiub":
            raise OptionError(
                f"quantities[{name!r}]: returned shape {array.shape}, dtype {array.dtype}; wanted real numbers of "
                f"shape ({num_draws},), one for each draw. Its arguments are the latents, of shape (draw, "
                "*event), and the data."
            )
        found[name] = array.astype(float)
    return found


def checked_quantities(quantities: Mapping[str, Quantity] | None, program: Program) -> dict[str, Quantity]:
    """The user's quantities.

    Raises:
        OptionError: no mapping from names to functions, or a name that is taken.
    """
    if quantities is None:
        return {}
    taken = {LOG_JOINT, LOG_LIKELIHOOD, *(site.name for site in program.sites.latent + program.sites.discrete)}
    if not isinstance(quantities, Mapping):
        raise OptionError(f"quantities: found {type(quantities).__name__}, wanted a mapping from names to functions.")
    for name, quantity in quantities.items():
        if not isinstance(name, str) or not callable(quantity):
            raise OptionError(f"quantities[{name!r}]: found {type(quantity).__name__}, wanted a function by its name.")
        if name in taken:
            raise OptionError(f"quantities[{name!r}]: a latent, or a quantity that is always ranked. Rename it.")
    return dict(quantities)


def _log_terms(program: Program, values: Arrays) -> dict[str, np.ndarray]:
    observed = [site.name for site in program.sites.observed]

    def one(draw: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if program.sites.enumerated:
            return {LOG_JOINT: program.log_joint(draw)}
        with FromValues(draw):
            trace = poutine.trace(program.model).get_trace(*program.arguments.args, **program.arguments.kwargs)
        joint = torch.as_tensor(trace.log_prob_sum(), dtype=program.dtype)
        parts = [torch.as_tensor(nodes_of(trace)[name]["log_prob_sum"], dtype=program.dtype) for name in observed]
        return {LOG_JOINT: joint, LOG_LIKELIHOOD: torch.stack(torch.broadcast_tensors(*parts)).sum(0)}

    num_draws = len(next(iter(values.values())))
    tensors = {name: torch.as_tensor(value, device=program.device) for name, value in values.items()}
    with program.isolated(seed=0), torch.no_grad():
        found = map_draws(one, num_draws, tensors, size_hint=program.size_hint)
    return {name: value.cpu().numpy() for name, value in found.items()}
