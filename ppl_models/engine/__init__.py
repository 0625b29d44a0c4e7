"""What runs a program's log density: backends, capture and the proof of parity."""

from ppl_models.engine.density import BACKENDS, check_backend, compile_density
from ppl_models.engine.elbo_graph import ElboFunction, elbo_function
from ppl_models.engine.inductor import cpp_compiler
from ppl_models.engine.protocol import Backend, CaptureError, CompiledDensity
from ppl_models.engine.svi_graph import CompiledSteps

__all__ = [
    "BACKENDS",
    "Backend",
    "CaptureError",
    "CompiledDensity",
    "CompiledSteps",
    "ElboFunction",
    "check_backend",
    "compile_density",
    "cpp_compiler",
    "elbo_function",
]
