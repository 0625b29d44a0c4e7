"""Which of Pyro's evaluators sums a model's discrete sites out rightly."""

from typing import Any

import pyro
import torch
from pyro.infer.mcmc.util import TraceEinsumEvaluator, TraceTreeEvaluator
from pyro.poutine.trace_struct import Trace

from ppl_models.errors import ModelError, first_line

RELATIVE_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}


def choose_evaluator(trace: Trace, max_plate_nesting: int, dtype: torch.dtype) -> type[Any]:
    """The evaluator of log densities that is right for a model, found on one enumerated trace of it.

    Pyro's tree evaluator is the stabler one, and the one that `torch.func` takes, but it is silently wrong where
    `pyro.markov` lets the sites of a chain share their axes. The einsum evaluator is right there too.

    Raises:
        ModelError: the discrete sites cannot be summed out.
    """
    try:
        wanted = TraceEinsumEvaluator(trace, True, max_plate_nesting).log_prob(trace)
    except (NotImplementedError, ValueError) as error:
        raise ModelError(
            f"the discrete sites cannot be summed out: {first_line(error)}. Nest their plates as a "
            "tree, or write a mixture distribution in their place."
        ) from error
    with pyro.validation_enabled(False):  # it would take nested plates' own sites for misshapen ones
        found = TraceTreeEvaluator(trace, True, max_plate_nesting).log_prob(trace)
    agree = torch.isclose(found, wanted, rtol=RELATIVE_TOLERANCE[dtype], atol=RELATIVE_TOLERANCE[dtype])
    return TraceTreeEvaluator if bool(agree) else TraceEinsumEvaluator
