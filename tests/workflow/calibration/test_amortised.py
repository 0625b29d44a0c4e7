"""A guide that reads the data is calibrated as it is: its parameters are held, and nothing is refitted."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

import ppl_models as ppl

DATA = {"y": torch.tensor([0.5, -1.0, 2.0])}


def model(y=None):
    """Each datum has its latent; its posterior is Normal(y / 2, sd 1 / sqrt 2)."""
    with pyro.plate("row", 3):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def guide_of(width):
    def guide(y=None):
        slope = pyro.param("slope", torch.tensor(0.5))
        with pyro.plate("row", 3):
            pyro.sample("z", dist.Normal(slope * y, width / math.sqrt(2.0)))

    return guide


@pytest.mark.parametrize(("width", "passed"), [(1.0, True), (0.5, False)])
def test_the_guide_itself_is_judged(width, passed):
    fit = ppl.fit(model, DATA, guide=guide_of(width), max_steps=1, step_size=1e-12, backend="eager")
    found = ppl.calibrate(fit, amortised=True, num_simulations=100, num_draws=59)
    assert found.passed is passed
    assert found.ranks["z"].dims == ("simulation", "row")
    assert found.table.index[0] == "z[0]"
    symmetry = ppl.calibrate(fit, kind="symmetry", amortised=True, num_simulations=100, num_draws=59)
    assert symmetry.passed is True


def test_two_sets_of_data_are_not_for_such_a_guide():
    fit = ppl.fit(model, DATA, guide=guide_of(1.0), max_steps=1, step_size=1e-12, backend="eager")
    with pytest.raises(ppl.PPLError, match="would need two sets"):
        ppl.calibrate(fit, kind="posterior", num_simulations=20)
