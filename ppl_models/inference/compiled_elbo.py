"""`Trace_ELBO` on compiled code, for people who keep their own loop around Pyro's SVI."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyro
import pyro.poutine as poutine
import torch
from pyro.infer import Trace_ELBO

from ppl_models.engine import AUTO, COMPILERS, EAGER, CaptureError, ElboFunction, Runner, check_backend, elbo_function
from ppl_models.engine.graph import Graph, capture
from ppl_models.engine.proof import agree, largest_difference
from ppl_models.engine.python_state import changed_name, python_state
from ppl_models.errors import BackendWarning
from ppl_models.program.data import Arguments
from ppl_models.program.elbo import Call
from ppl_models.program.estimators import Total
from ppl_models.program.isolation import forked_random
from ppl_models.program.nodes import nodes_of

MAX_GRAPHS = 16
"""More kinds of calls than this are a sign of a number that changes from step to step, passed as an argument."""


class CompiledTrace_ELBO(Trace_ELBO):  # noqa: N801 (named like Pyro's)
    """Pyro's `Trace_ELBO` with loss and gradient from compiled code.

        svi = SVI(model, guide, Adam({"lr": 0.01}), ppl.CompiledTrace_ELBO())

    The first step captures and compiles model and guide; later steps with arguments of the same shapes run the code.
    Tensors among the arguments may change from step to step. Everything else is compiled in: other arguments (each
    value is compiled for anew), tensors that the model holds (a change in place is noticed and compiled for anew), and
    what Python decides on the way, so a weight that changes belongs in a tensor among the arguments. What cannot be
    captured is left to Pyro, with one warning. Every site of the guide must be reparameterised.

    Args:
        num_particles: particles a step, always vectorised.
        backend: "auto", "native", "inductor" or "eager".
    """

    def __init__(self, num_particles: int = 1, *, backend: str = AUTO, **options: Any):
        super().__init__(num_particles=num_particles, **options)
        check_backend(backend)
        self.backend = backend
        self._code: dict[Any, _Code | None] = {}
        self._warned = False

    def loss_and_grads(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        """Negative ELBO estimate in nats; its gradients are added to those of the parameters."""
        code = self._compiled(model, guide, args, kwargs) if self.backend != EAGER else None
        if code is None:
            return float(super().loss_and_grads(model, guide, *args, **kwargs))
        loss, gradient = code(_arguments(args, kwargs))
        start = 0
        for name, holder in code.elbo.holders.items():
            pyro.param(name)  # so that SVI sees what is learnt
            piece = gradient[start : start + holder.numel()].reshape(holder.shape)
            start += holder.numel()
            holder.grad = piece.clone() if holder.grad is None else holder.grad + piece
        return loss

    def loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        """Negative ELBO estimate in nats, by Pyro."""
        return float(super().loss(model, guide, *args, **kwargs))

    def differentiable_loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Negative ELBO estimate in nats with its graph, by Pyro."""
        return super().differentiable_loss(model, guide, *args, **kwargs)

    def _compiled(self, model: Any, guide: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> "_Code | None":
        key: Any = None
        try:
            key = (model, guide, _modes(model, guide), _kind(_arguments(args, kwargs)))
            found = self._code.get(key)
            if key in self._code and (found is None or found.is_current()):
                return found
            if key not in self._code and len(self._code) >= MAX_GRAPHS:
                raise CaptureError(
                    f"{MAX_GRAPHS} kinds of arguments were compiled; pass numbers that change as tensors"
                )
            self._code[key] = self._make(model, guide, _arguments(args, kwargs))
            return self._code[key]
        except CaptureError as error:
            if not self._warned:
                warnings.warn(f"CompiledTrace_ELBO: {error}. Running slower, with eager.", BackendWarning, stacklevel=4)
            self._warned = True
            if key is not None and len(self._code) < MAX_GRAPHS:
                self._code[key] = None
            return None

    def _make(self, model: Any, guide: Any, arguments: Arguments) -> "_Code":
        # One tensor given twice would be one input, and another's strides are none of the compiled code's business.
        apart = {name: tensor.detach().clone().contiguous() for name, tensor in arguments.tensors().items()}
        arguments = arguments.with_tensors(apart)
        args, kwargs = arguments.args, arguments.kwargs
        with torch.no_grad(), forked_random(), pyro.validation_enabled(False), poutine.trace(param_only=True) as seen:
            poutine.trace(poutine.replay(model, poutine.trace(guide).get_trace(*args, **kwargs))).get_trace(
                *args, **kwargs
            )
        names = set(nodes_of(seen.trace))
        store = pyro.get_param_store()
        dtypes = {holder.dtype for name, holder in store.named_parameters() if name in names}
        if len(dtypes) != 1:
            raise CaptureError("the parameters that model and guide learn have no dtype in common")
        call = Call(model, arguments, dtypes.pop())
        with forked_random(), pyro.validation_enabled(False):
            elbo = elbo_function(call, guide, Total(), self.num_particles, names)
            elbo.prove()
            return _compile(elbo, self.backend)


@dataclass(frozen=True)
class _Code:
    """Compiled loss and gradient of one kind of call."""

    elbo: ElboFunction
    graph: Graph
    runner: Runner

    def is_current(self) -> bool:
        """Whether parameters, and tensors that the model holds, are still those that the code was made for."""
        store = dict(pyro.get_param_store().named_parameters())
        same = all(store.get(name) is holder for name, holder in self.elbo.holders.items())
        return same and self.graph.is_current()

    def __call__(self, arguments: Arguments) -> tuple[float, torch.Tensor]:
        """Loss in nats and its gradient, shape (num_parameters,), with fresh noise."""
        data = [tensor.detach() for tensor in arguments.tensors().values()]
        return self.run(self.elbo.flat_parameters(), [noise[0] for noise in self.elbo.draw_noise(1)], data)

    def run(
        self, flat: torch.Tensor, noise: list[torch.Tensor], data: list[torch.Tensor]
    ) -> tuple[float, torch.Tensor]:
        """Loss in nats and its gradient, shape (num_parameters,)."""
        loss, gradient = torch.empty(1, dtype=flat.dtype), torch.empty(1, len(flat), dtype=flat.dtype)
        self.runner.run(1, [tensor[None].contiguous() for tensor in (flat, *noise, *data)], [loss, gradient])
        return float(loss), gradient[0]


def _compile(elbo: ElboFunction, backend: str) -> _Code:
    def loss_and_gradient(flat: torch.Tensor, *streams: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gradient, loss = torch.func.grad_and_value(elbo)(flat, *streams[: 2 + len(elbo.subsamples)])
        return loss, gradient

    flat, data = elbo.flat_parameters(), list(elbo.data)
    first, second = ([noise[0] for noise in elbo.draw_noise(1)] for _ in range(2))
    before = python_state(elbo.program.model, elbo.guide)
    graph = capture(loss_and_gradient, (), (flat, *first, *data), (), other_streams=(flat, *second, *data))
    if (name := changed_name(before, python_state(elbo.program.model, elbo.guide))) is not None:
        raise CaptureError(f"model or guide changes '{name}' in Python as it runs; pass what changes as a tensor")
    failures = []
    for candidate in COMPILERS.values():
        if backend not in (AUTO, candidate.name):
            continue
        try:
            if (missing := candidate.available()) is not None:
                raise CaptureError(missing)
            code = _Code(elbo, graph, candidate.compile(graph).bind((), graph.fixed))
            _prove(code, flat, second)
        except CaptureError as error:
            failures.append(f"backend {candidate.name}: {error}")
        else:
            return code
    raise CaptureError("; ".join(failures))


def _prove(code: _Code, flat: torch.Tensor, noise: list[torch.Tensor]) -> None:
    """Compare compiled code with the function, on data in another order and noise not seen in capture."""
    arguments = code.elbo.program.arguments
    turned = {name: tensor.flip(0) if tensor.dim() else tensor for name, tensor in arguments.tensors().items()}
    elbo = code.elbo.with_arguments(arguments.with_tensors(turned))
    torch.manual_seed(0)
    with torch.no_grad():
        gradient, loss = torch.func.grad_and_value(elbo)(flat, *noise)
    torch.manual_seed(0)
    found = code.run(flat, noise, list(elbo.data))
    for one, other in zip((torch.tensor(found[0], dtype=flat.dtype), found[1]), (loss, gradient), strict=True):
        if not agree(one, other):
            raise CaptureError(f"compiled numbers differ from eager's by {largest_difference(one, other):.3g}")


def _arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Arguments:
    return Arguments(args, kwargs, tuple(str(number) for number in range(len(args))))


def _kind(arguments: Arguments) -> tuple[Any, ...]:
    """What must be equal for compiled code to serve: shapes and dtypes of tensors, other values themselves."""
    kinds = []
    for name, value in arguments.named().items():
        if isinstance(value, torch.Tensor):
            kinds.append((name, tuple(value.shape), value.dtype, value.device))
        elif value is None or isinstance(value, (bool, int, float, str)):
            kinds.append((name, type(value), value))
        else:
            raise CaptureError(
                f"argument '{name}' is a {type(value).__name__}; compiled steps take tensors, numbers and text"
            )
    return tuple(kinds)


def _modes(*programs: Any) -> tuple[bool, ...]:
    """Which of the modules behind model and guide are in training mode."""
    owners = [getattr(program, "__self__", program) for program in programs]
    return tuple(part.training for one in owners if isinstance(one, torch.nn.Module) for part in one.modules())
