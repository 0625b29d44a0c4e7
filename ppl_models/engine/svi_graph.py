"""One whole SVI step (ELBO, gradient, Adam) as one compiled graph."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx.experimental.proxy_tensor import make_fx

from ppl_models.engine.capture import MAX_NODES
from ppl_models.engine.elbo_graph import ElboFunction
from ppl_models.engine.protocol import CaptureError
from ppl_models.errors import first_line

EPSILON = 1e-8
NUM_PROOFS = 2
RELATIVE_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}


class CompiledSteps:
    """Adam on a compiled ELBO, step by step (Kingma and Ba 2015).

    The parameters live in one vector here; `write` hands them to the tensors that the program holds.

    Args:
        elbo: the negative ELBO as a pure function.
        num_particles: particles per step.
        step_size: first step size; `set_factor` scales it.
        betas: decay of Adam's averages of the gradient and of its square.
        chunk: steps whose noise is drawn at once.

    Raises:
        CaptureError: the step cannot be captured or compiled, or gives other numbers than eager.
    """

    def __init__(
        self,
        elbo: ElboFunction,
        num_particles: int,
        step_size: float,
        betas: tuple[float, float] = (0.9, 0.999),
        chunk: int = 50,
    ):
        self.elbo = elbo
        self.num_particles = num_particles
        self.step_size = step_size
        self.betas = betas
        self.chunk = chunk
        self.dtype = elbo.program.dtype
        flat = elbo.flat_parameters().to(self.dtype)
        self.state = [flat, torch.zeros_like(flat), torch.zeros_like(flat), torch.zeros((), dtype=self.dtype)]
        self.rate = torch.tensor(step_size, dtype=self.dtype)
        self.noise: list[tuple[torch.Tensor, torch.Tensor]] = []
        example = [*self.state, *self._draw(1)[0], self.rate]
        self.compiled = _compile(lambda *args: adam_step(elbo, betas, *args), example)
        self._prove()

    def __call__(self) -> float:
        """Make one step; returns its loss in nats."""
        if not self.noise:
            self.noise = self._draw(self.chunk)
        with torch.no_grad():
            *self.state, loss = self.compiled(*self.state, *self.noise.pop(), self.rate)
        return float(loss)

    def set_factor(self, factor: float) -> None:
        """Scale the step size, relative to the first one."""
        self.rate.fill_(self.step_size * factor)

    def write(self) -> None:
        """Hand the parameters to the tensors that the program holds."""
        self.elbo.write(self.state[0])

    def _draw(self, count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        normal = torch.randn(count, self.num_particles, self.elbo.num_normal, dtype=self.dtype)
        uniform = torch.rand(count, self.num_particles, self.elbo.num_uniform, dtype=self.dtype)
        return list(zip(normal.unbind(), uniform.unbind(), strict=True))

    def _prove(self) -> None:
        """Compare compiled steps with the same steps run by torch on the program, with noise unseen in capture."""
        state = self.state
        for normal, uniform in self._draw(NUM_PROOFS):
            flat, first, second, count = state
            wanted = adam_step(self.elbo, self.betas, flat, first, second, count, normal, uniform, self.rate)
            with torch.no_grad():
                found = self.compiled(*state, normal, uniform, self.rate)
            for one, other in zip(found, wanted, strict=True):
                scale = other.abs().max().clamp_min(1.0)
                if not bool(((one - other).abs() <= RELATIVE_TOLERANCE[self.dtype] * scale).all()):
                    raise CaptureError(
                        f"a compiled step differs from eager's by {float((one - other).abs().max()):.3g}: do model or "
                        "guide change Python state while they run?"
                    )
            state = list(wanted[:4])


def adam_step(
    elbo: ElboFunction,
    betas: tuple[float, float],
    flat: torch.Tensor,
    first: torch.Tensor,
    second: torch.Tensor,
    count: torch.Tensor,
    normal: torch.Tensor,
    uniform: torch.Tensor,
    rate: torch.Tensor,
) -> tuple[torch.Tensor, ...]:
    """One step of Adam, as torch.optim's: parameters, both moments, count of steps, and the loss before the step."""
    gradient, loss = torch.func.grad_and_value(elbo)(flat, normal, uniform)
    count = count + 1.0
    first = betas[0] * first + (1.0 - betas[0]) * gradient
    second = betas[1] * second + (1.0 - betas[1]) * gradient**2
    unbiased_first = first / (1.0 - betas[0] ** count)
    unbiased_second = second / (1.0 - betas[1] ** count)
    return flat - rate * unbiased_first / (unbiased_second.sqrt() + EPSILON), first, second, count, loss


def _compile(function: Any, example: Sequence[torch.Tensor]) -> Any:
    import torch._inductor as inductor

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, about itself
            graph = make_fx(function)(*example)
            if len(graph.graph.nodes) > MAX_NODES:
                raise CaptureError(f"the captured step has {len(graph.graph.nodes)} operations, more than {MAX_NODES}")
            return inductor.compile(graph, list(example))
    except CaptureError:
        raise
    except Exception as error:
        # Tracers and compilers fail in many ways; eager runs all that they refuse.
        raise CaptureError(f"capture failed: {type(error).__name__}: {first_line(error)}") from error
