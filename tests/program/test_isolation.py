"""Nothing that happens inside outlives the call."""

import random

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import constraints
from torch.distributions import Distribution

from ppl_models.program import Parameters, isolated


def disturb():
    """Change everything that isolation covers."""
    pyro.param("disturbance", torch.ones(3))
    random.random()
    np.random.random()  # noqa: NPY002
    torch.rand(3)
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(torch.get_num_threads() + 1)
    pyro.enable_validation(not pyro.poutine.is_validation_enabled())


def state():
    return (
        random.getstate(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002
        torch.get_rng_state().tolist(),
        torch.get_default_dtype(),
        torch.get_num_threads(),
        Distribution._validate_args,
        pyro.poutine.is_validation_enabled(),
        pyro.infer.is_validation_enabled(),
        sorted(pyro.get_param_store().keys()),
    )


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("options", [{}, {"seed": 1, "dtype": torch.float64, "validate": True, "num_threads": 1}])
def test_everything_is_restored(error, options):
    before = state()
    try:
        with isolated(**options):
            disturb()
            if error is not None:
                raise error
    except (RuntimeError, KeyboardInterrupt, SystemExit):
        pass
    assert state() == before


def test_nested_worlds_are_apart():
    before = state()
    with isolated(seed=0, dtype=torch.float32):
        pyro.param("outer", torch.ones(1))
        middle = state()
        with isolated(seed=0, dtype=torch.float64):
            assert "outer" not in pyro.get_param_store()
            pyro.param("inner", torch.zeros(1))
            disturb()
        assert state() == middle
        assert list(pyro.get_param_store().keys()) == ["outer"]
    assert state() == before


def test_settings_inside():
    with isolated(dtype=torch.float64, validate=True, num_threads=1):
        assert torch.get_default_dtype() == torch.float64
        assert torch.get_num_threads() == 1
        assert pyro.poutine.is_validation_enabled()
    with isolated(validate=False):
        assert Distribution._validate_args is False


def test_seed_covers_all_three_generators():
    def numbers():
        with isolated(seed=3):
            return random.random(), np.random.random(), float(torch.rand(()))  # noqa: NPY002

    assert numbers() == numbers()


def test_parameters_fill_the_store_and_their_holders_are_given_back():
    holder = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    with isolated():
        pyro.param("location", holder)
        pyro.param("scale", torch.tensor(2.0), constraint=constraints.positive)
        with torch.no_grad():
            holder.copy_(torch.tensor([5.0, 6.0]))
        parameters = Parameters.from_store()
        with torch.no_grad():
            holder.copy_(torch.tensor([1.0, 2.0]))
    with isolated(parameters=parameters):
        assert pyro.param("location").tolist() == [5.0, 6.0]
        assert holder.tolist() == [5.0, 6.0]
        with isolated(parameters=parameters.replaced({"scale": torch.tensor(3.0)})):
            assert float(pyro.param("scale").detach()) == pytest.approx(3.0)
        assert float(pyro.param("scale").detach()) == pytest.approx(2.0)
    assert holder.tolist() == [1.0, 2.0]
    with pytest.raises(KeyError), isolated(parameters=parameters):
        raise KeyError
    assert holder.tolist() == [1.0, 2.0]


def test_parameters_are_copies():
    with isolated():
        pyro.param("scale", torch.tensor(2.0), constraint=constraints.positive)
        parameters = Parameters.from_store()
        pyro.get_param_store()["scale"] = torch.tensor(9.0)
    assert float(parameters.constrained()["scale"]) == pytest.approx(2.0)
    parameters.constrained()["scale"].zero_()
    assert float(parameters.constrained()["scale"]) == pytest.approx(2.0)


def test_users_store_is_there_afterwards():
    with pyro.get_param_store().scope():
        pyro.param("mine", torch.ones(2))
        with isolated(seed=0):
            assert "mine" not in pyro.get_param_store()
            pyro.clear_param_store()
            pyro.sample("z", dist.Normal(0, 1))
        assert pyro.param("mine").tolist() == [1.0, 1.0]
