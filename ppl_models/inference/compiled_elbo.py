"""`Trace_ELBO` on compiled code, for people who keep their own loop around Pyro's SVI."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyro
import pyro.poutine as poutine
import torch
from pyro.infer import Trace_ELBO

from ppl_models.engine import AUTO, COMPILERS, EAGER, CaptureError, ElboFunction, Runner, check_backend, elbo_function
from ppl_models.engine.graph import capture
from ppl_models.engine.proof import agree, largest_difference
from ppl_models.errors import BackendWarning
from ppl_models.program.data import Arguments
from ppl_models.program.elbo import Call, call_log_ratio
from ppl_models.program.isolation import forked_random

MAX_GRAPHS = 16
"""More kinds of calls than this are a sign of a number that changes from step to step, passed as an argument."""


class CompiledTrace_ELBO(Trace_ELBO):  # noqa: N801 (named like Pyro's)
    """Pyro's `Trace_ELBO` with loss and gradient from compiled code.

        svi = SVI(model, guide, Adam({"lr": 0.01}), ppl.CompiledTrace_ELBO())

    The first step captures and compiles model and guide; later steps with arguments of the same shapes run the code.
    Tensors among the arguments may change from step to step, and tensors that the model holds may change in place;
    Python numbers among the arguments are compiled in, so a weight that changes belongs in a tensor. What cannot be
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

    def _compiled(self, model: Any, guide: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> "_Code | None":
        key = (model, guide, _kind(args), _kind(tuple(sorted(kwargs.items()))))
        found = self._code.get(key)
        if found is not None and found.is_current():
            return found
        if key in self._code and found is None:
            return None
        try:
            if len(self._code) >= MAX_GRAPHS:
                raise CaptureError(
                    f"{MAX_GRAPHS} kinds of arguments were compiled; pass numbers that change as tensors"
                )
            self._code[key] = self._make(model, guide, args, kwargs)
        except CaptureError as error:
            self._code[key] = None
            warnings.warn(f"CompiledTrace_ELBO: {error}. Running slower, with eager.", BackendWarning, stacklevel=4)
        return self._code[key]

    def _make(self, model: Any, guide: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> "_Code":
        with torch.no_grad(), forked_random(), pyro.validation_enabled(False):
            poutine.trace(poutine.replay(model, poutine.trace(guide).get_trace(*args, **kwargs))).get_trace(
                *args, **kwargs
            )  # the parameters are there from now on
            holders = dict(pyro.get_param_store().named_parameters())
            dtype = next(iter(holders.values())).dtype if holders else torch.get_default_dtype()
            call = Call(model, _arguments(args, kwargs), dtype)
            elbo = elbo_function(call, guide, call_log_ratio, self.num_particles)
            return _compile(elbo, self.backend)


@dataclass(frozen=True)
class _Code:
    """Compiled loss and gradient of one kind of call."""

    elbo: ElboFunction
    runner: Runner

    def is_current(self) -> bool:
        """Whether the parameters are still the tensors that the code was made for."""
        store = dict(pyro.get_param_store().named_parameters())
        return all(store.get(name) is holder for name, holder in self.elbo.holders.items())

    def __call__(self, arguments: Arguments) -> tuple[float, torch.Tensor]:
        flat = self.elbo.flat_parameters()
        data = [tensor.detach().contiguous() for tensor in arguments.tensors().values()]
        return self.run(flat, [noise[0] for noise in self.elbo.draw_noise(1)], data)

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
    graph = capture(loss_and_gradient, (), (flat, *first, *data), (), other_streams=(flat, *second, *data))
    failures = []
    for candidate in COMPILERS.values():
        if backend not in (AUTO, candidate.name):
            continue
        try:
            if (missing := candidate.available()) is not None:
                raise CaptureError(missing)
            code = _Code(elbo, candidate.compile(graph).bind((), graph.fixed))
            _prove(code, loss_and_gradient, flat, second, data)
        except CaptureError as error:
            failures.append(f"backend {candidate.name}: {error}")
        else:
            return code
    raise CaptureError("; ".join(failures))


def _prove(code: _Code, function: Callable[..., Any], flat: torch.Tensor, noise: list, data: list) -> None:
    loss, gradient = code.run(flat, noise, data)
    wanted = function(flat, *noise)
    for found, value in zip((torch.tensor(loss, dtype=flat.dtype), gradient), wanted, strict=True):
        if not agree(found, value):
            raise CaptureError(f"compiled numbers differ from eager's by {largest_difference(found, value):.3g}")


def _arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Arguments:
    return Arguments(args, kwargs, tuple(str(number) for number in range(len(args))))


def _kind(value: Any) -> Any:
    """What must be equal for compiled code to serve: shapes and dtypes of tensors, other values themselves."""
    if isinstance(value, torch.Tensor):
        return torch.Tensor, tuple(value.shape), value.dtype
    if isinstance(value, (tuple, list)):
        return type(value), tuple(_kind(item) for item in value)
    if isinstance(value, dict):
        return dict, tuple((key, _kind(item)) for key, item in sorted(value.items()))
    try:
        hash(value)
    except TypeError:
        return id(value)
    return value
