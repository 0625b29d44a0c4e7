"""What runs a program's density and its SVI steps: capture, backends, and the proof of parity."""

from ppl_models.engine.backends import AUTO, COMPILERS, EAGER, check_backend
from ppl_models.engine.batched_density import batched_gradient
from ppl_models.engine.compiled_steps import CompiledSteps
from ppl_models.engine.coordinates import Coordinates, write_flat
from ppl_models.engine.density import CompiledDensity, compile_density
from ppl_models.engine.elbo_graph import ElboFunction, elbo_function
from ppl_models.engine.native.build import cpp_compiler
from ppl_models.engine.optimizers import Adam
from ppl_models.engine.protocol import Backend, Compiled, Runner
from ppl_models.engine.svi_graph import MOST_AVERAGED, SviGraph
from ppl_models.engine.target import Constrained, Target
from ppl_models.errors import CaptureError

__all__ = [
    "AUTO",
    "COMPILERS",
    "EAGER",
    "MOST_AVERAGED",
    "Adam",
    "Backend",
    "CaptureError",
    "Compiled",
    "CompiledDensity",
    "CompiledSteps",
    "Constrained",
    "Coordinates",
    "ElboFunction",
    "Runner",
    "SviGraph",
    "Target",
    "batched_gradient",
    "check_backend",
    "compile_density",
    "cpp_compiler",
    "elbo_function",
    "write_flat",
]
