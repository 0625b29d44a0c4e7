from collections.abc import Iterator

import pyro
import pytest
import torch


@pytest.fixture(autouse=True)
def isolated() -> Iterator[None]:
    """An empty parameter store, a fixed seed, and everything as before afterwards."""
    dtype, num_threads = torch.get_default_dtype(), torch.get_num_threads()
    torch.set_num_threads(1)  # these tensors are small: threads only cost
    with pyro.get_param_store().scope(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
    torch.set_default_dtype(dtype)
    torch.set_num_threads(num_threads)
