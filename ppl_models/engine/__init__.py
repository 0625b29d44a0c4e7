"""What runs a program's log density: backends, capture and the proof of parity."""

from ppl_models.engine.density import BACKENDS, check_backend, compile_density
from ppl_models.engine.inductor import cpp_compiler
from ppl_models.engine.protocol import Backend, CaptureError, CompiledDensity

__all__ = [
    "BACKENDS",
    "Backend",
    "CaptureError",
    "CompiledDensity",
    "check_backend",
    "compile_density",
    "cpp_compiler",
]
