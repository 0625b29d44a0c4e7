"""Plates that hold a part of the data."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from closed_forms import log_normal_density

from ppl_models.program import build_program, isolated

from .evaluation import value_and_gradient

Y = np.linspace(-2.0, 3.0, 12)


def by_index(y, batch=4):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("row", len(y), subsample_size=batch) as index:
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y[index])


def by_pyro_subsample(y):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("row", len(y), subsample_size=4):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=pyro.subsample(y, event_dim=0))


def with_local_latents(y):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("row", len(y), subsample_size=4) as index:
        z = pyro.sample("z", dist.Normal(mu, 1.0))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y[index])


def by_given_index(y, index):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("row", 12, subsample=index):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def twelve(mu):
    return log_normal_density(mu, 0, 1) + log_normal_density(Y, mu, 1).sum()


@pytest.mark.parametrize("model", [by_index, by_pyro_subsample])
def test_log_density_is_that_of_all_the_data(model):
    program = build_program(model, (Y,))
    assert program.subsampled
    assert program.sites["y"].shape == (12,)
    assert program.sites.plate_sizes == {"row": 12}
    value, gradient = value_and_gradient(program, [0.4])
    assert value == pytest.approx(twelve(0.4), rel=1e-10)
    assert gradient.tolist() == pytest.approx([-0.4 + (Y - 0.4).sum()], rel=1e-10)
    assert program.observed_values["y"].tolist() == Y.tolist()


def test_local_latents_are_all_there():
    program = build_program(with_local_latents, (Y,))
    assert program.num_dims == 13
    assert program.sites["z"].plates == ("row",)


def test_without_full_data_a_run_holds_a_scaled_part():
    program = build_program(by_index, (Y,))
    mu = torch.tensor(0.4, dtype=torch.float64)
    for seed in range(5):
        with isolated(seed=seed), pyro.plate("row", 12, subsample_size=4) as index:
            part = Y[index.numpy()]
        with program.isolated(seed=seed, full_data=False):
            found = float(program.log_joint({"mu": mu}))
        wanted = log_normal_density(0.4, 0, 1) + 12 / 4 * log_normal_density(part, 0.4, 1).sum()
        assert found == pytest.approx(wanted, rel=1e-10)


def test_given_indices_are_kept_and_scaled():
    index = torch.tensor([1, 5, 7])
    program = build_program(by_given_index, {"y": Y[index], "index": index})
    assert program.explicit_subsamples == {"row"}
    wanted = log_normal_density(0.4, 0, 1) + 12 / 3 * log_normal_density(Y[index], 0.4, 1).sum()
    assert value_and_gradient(program, [0.4])[0] == pytest.approx(wanted, rel=1e-10)


def test_whole_plates_end_with_the_call():
    def size():
        with pyro.plate("row", 12, subsample_size=4) as index:
            return len(index)

    with isolated(seed=0):
        assert size() == 4
        with isolated(full_data=True):
            assert size() == 12
            with isolated(full_data=True):
                assert size() == 12
            assert size() == 12
        assert size() == 4
        with pytest.raises(KeyError), isolated(full_data=True):
            raise KeyError
        assert size() == 4


def test_plate_of_unknown_size_is_left_alone():
    def model(y):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("row"):
            pyro.sample("y", dist.Normal(mu, 1.0), obs=y)

    program = build_program(model, (Y,))
    assert value_and_gradient(program, [0.4])[0] == pytest.approx(twelve(0.4), rel=1e-10)
