"""The inductor backend: the captured graph compiled to C++ in this process by torch's own compiler."""

import os
import shutil
import warnings
from typing import Any

import torch

from ppl_models.engine.capture import capture_gradient
from ppl_models.engine.protocol import CaptureError, GradientFunction
from ppl_models.program import Program


class Inductor:
    """Compiles with `torch._inductor`; needs a C++ compiler."""

    name = "inductor"

    def available(self) -> str | None:
        """What is missing: a C++ compiler, or torch's inductor."""
        if not hasattr(torch, "_inductor") and not hasattr(torch, "compile"):
            return "torch has no inductor"
        if cpp_compiler() is None:
            return "no C++ compiler found (set CXX, or install g++ or clang++)"
        return None

    def compile(self, program: Program) -> GradientFunction:
        """Capture, compile, and return (value, gradient) at a flat vector."""
        import torch._inductor as inductor

        example = torch.zeros(program.num_dims, dtype=program.dtype)
        graph = capture_gradient(program, example)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's own, about itself
                with torch.no_grad():
                    compiled: Any = inductor.compile(graph, [example])
        except Exception as error:
            # A failing compiler reports in many ways; the last line is what a person can act on.
            lines = [line for line in str(error).splitlines() if line.strip()]
            cause = lines[-1].rstrip(".") if lines else type(error).__name__
            raise CaptureError(f"the compiler failed: {cause}") from error

        def gradient(flat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            with torch.no_grad():
                slope, value = compiled(flat)
            return value, slope

        return gradient


def cpp_compiler() -> str | None:
    """Path of the C++ compiler that would be used, None where there is none."""
    named = os.environ.get("CXX")
    candidates = [named] if named else ["g++", "clang++", "c++"]
    return next((path for name in candidates if (path := shutil.which(name))), None)
