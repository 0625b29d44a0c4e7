"""Run Pyro code so that nothing it does to global state outlives the call."""

import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import numpy as np
import pyro
import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.subsample_messenger import SubsampleMessenger

from ppl_models.program.parameters import Parameters

CPU = torch.device("cpu")


def forked_random(device: torch.device = CPU) -> AbstractContextManager[None]:
    """Give torch's generators back the states that they have now."""
    on_cuda = device.type == "cuda" or torch.cuda.is_initialized()
    return torch.random.fork_rng(devices=range(torch.cuda.device_count()) if on_cuda else [])


def seed_torch(seed: int) -> None:
    """Seed torch's generator for the CPU, and those of other devices where one is in use."""
    if torch.get_default_device().type == "cpu" and not torch.cuda.is_initialized():
        # torch.manual_seed writes down the call stack for a CUDA that may never come, which takes a millisecond.
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


@contextmanager
def isolated(
    *,
    seed: int | None = None,
    dtype: torch.dtype | None = None,
    validate: bool = False,
    parameters: Parameters | None = None,
    num_threads: int | None = None,
    full_data: bool = False,
    device: torch.device = CPU,
) -> Iterator[None]:
    """Enter a private Pyro world and restore the caller's on the way out, also after an exception.

    Covers the param store, the random states of Python, NumPy and torch (CPU and CUDA), torch's default dtype, the
    validation flags of torch and Pyro, and torch's thread count.

    Args:
        seed: seeds all three generators; None keeps their present state (which is still restored at the end).
        dtype: default floating dtype inside; None keeps the present one.
        validate: whether Pyro and torch check arguments, shapes and supports inside.
        parameters: what the param store holds inside; None gives an empty store.
        num_threads: torch threads inside; None keeps the present count.
        full_data: plates ignore their `subsample_size` and hold all their data.
        device: where new tensors stand inside.
    """
    with ExitStack() as stack:
        stack.enter_context(_random_states(device))
        if device.type != "cpu":
            stack.enter_context(device)
        stack.enter_context(_torch_settings(dtype, num_threads))
        stack.enter_context(pyro.validation_enabled(validate))
        stack.enter_context(pyro.get_param_store().scope())
        stack.enter_context(_OwnInitialValues())
        if parameters is not None:
            stack.enter_context(parameters.loaded())
        if full_data:
            stack.enter_context(_whole_plates())
        if seed is not None:
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            seed_torch(seed)
        yield


class _OwnInitialValues(Messenger):
    """Let the param store keep a copy of an initial value: Pyro would train the caller's own tensor.

    Parameters of modules are left alone; the module must go on seeing them.
    """

    def _pyro_param(self, msg):
        name, *rest = msg["args"]
        if rest and name not in pyro.get_param_store():
            value = rest[0]
            if isinstance(value, torch.Tensor) and not isinstance(value, torch.nn.Parameter):
                msg["args"] = (name, value.detach().clone())


@contextmanager
def _random_states(device: torch.device) -> Iterator[None]:
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with forked_random(device):
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002


@contextmanager
def _torch_settings(dtype: torch.dtype | None, num_threads: int | None) -> Iterator[None]:
    old_dtype, old_threads = torch.get_default_dtype(), torch.get_num_threads()
    try:
        if dtype is not None:
            torch.set_default_dtype(dtype)
        if num_threads is not None and num_threads != old_threads:
            torch.set_num_threads(num_threads)
        yield
    finally:
        torch.set_default_dtype(old_dtype)
        if torch.get_num_threads() != old_threads:
            torch.set_num_threads(old_threads)


@contextmanager
def _whole_plates() -> Iterator[None]:
    # Pyro settles a plate's size inside this static method, before any handler can change it.
    original = SubsampleMessenger._subsample

    def whole(name, size=None, subsample_size=None, subsample=None, use_cuda=None, device=None):
        wanted = subsample_size if subsample is not None else None
        return original(name, size, wanted, subsample, use_cuda, device)

    SubsampleMessenger._subsample = staticmethod(whole)
    try:
        yield
    finally:
        SubsampleMessenger._subsample = staticmethod(original)
