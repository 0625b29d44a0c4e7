"""Fixtures of every test: a guard that fails whoever leaks global state, and the problems that many tests use."""

import random
import tempfile

import matplotlib as mpl
import numpy as np
import pyro
import pytest
import torch
from torch.distributions import Distribution


def pytest_configure(config):
    """Keep compiled code out of the user's cache: in a folder of this run, which its workers inherit."""
    if hasattr(config, "workerinput"):
        return
    folder = tempfile.TemporaryDirectory(prefix="ppl-models-tests-")
    config.add_cleanup(folder.cleanup)
    patch = pytest.MonkeyPatch()
    config.add_cleanup(patch.undo)
    patch.setenv("PPL_MODELS_CACHE_DIR", folder.name)
    patch.delenv("PPL_MODELS_CACHE_MB", raising=False)


def _global_state() -> dict[str, object]:
    store = pyro.get_param_store()
    return {
        "param store": {name: (id(value), value.detach().clone()) for name, value in store.named_parameters()},
        "torch random state": torch.get_rng_state().clone(),
        "NumPy random state": np.random.get_state()[1].copy(),  # noqa: NPY002
        "Python random state": random.getstate(),
        "default dtype": torch.get_default_dtype(),
        "torch threads": torch.get_num_threads(),
        "validation of distributions": Distribution._validate_args,
        "validation of poutine": pyro.poutine.is_validation_enabled(),
        "validation of infer": pyro.infer.is_validation_enabled(),
        "gradient mode": torch.is_grad_enabled(),
        "matplotlib settings": dict(mpl.rcParams),
    }


def _same(before: object, after: object) -> bool:
    if isinstance(before, torch.Tensor):
        return isinstance(after, torch.Tensor) and torch.equal(before, after)
    if isinstance(before, np.ndarray):
        return np.array_equal(before, np.asarray(after))
    if isinstance(before, dict):
        return (
            isinstance(after, dict)
            and before.keys() == after.keys()
            and all(_same(before[k], after[k]) for k in before)
        )
    if isinstance(before, tuple):
        return isinstance(after, tuple) and len(before) == len(after) and all(map(_same, before, after))
    return before == after


@pytest.fixture(autouse=True)
def _no_leaks():
    """Fail the test that leaves any global state other than it found it."""
    before = _global_state()
    yield
    after = _global_state()
    leaked = [name for name in before if not _same(before[name], after[name])]
    if leaked:
        pyro.clear_param_store()
        torch.set_rng_state(before["torch random state"])
        pytest.fail(f"this test leaks: {', '.join(leaked)}")
