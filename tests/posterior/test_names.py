"""Names of axes and variables that would stand twice in one tree."""

import arviz_base
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from ppl_models.errors import DataError, ModelError
from ppl_models.posterior import Labels, data_groups, free_name, make_tree
from ppl_models.posterior.names import free_dims
from ppl_models.program import build_program


def test_free_names():
    assert free_name("step", {"z", "x"}) == "step"
    assert free_name("step", {"step", "step_"}) == "step__"
    assert free_dims(["datum", "draw", "z", "draw_plate", "a/b"], {"z", "a_b"}) == {
        "draw": "draw_plate_",
        "z": "z_plate",
        "a/b": "a_b_",
    }


def counties(county, income, y):
    """An argument and a plate of one name: which county a row is in, and the counties."""
    with pyro.plate("county", 3):
        level = pyro.sample("level", dist.Normal(income, 1.0))
    with pyro.plate("draw", len(y)):
        pyro.sample("y", dist.Normal(level[county], 1.0), obs=y)


COUNTIES = {"county": np.array([0, 1, 2, 2]), "income": np.array([0.1, 0.2, 0.3]), "y": np.arange(4.0)}


def test_an_argument_called_like_an_axis_of_its_group_gets_another_name():
    program = build_program(counties, COUNTIES)
    labels = Labels({"county": ["a", "b", "c"], "draw": list("wxyz")}, {"income": ("county",), "county": ("draw",)})
    complete = labels.of_program(program)
    draws = {"posterior": {"level": np.zeros((2, 5, 3))}, "log_likelihood": {"y": np.zeros((2, 5, 4))}}
    tree = make_tree({**draws, **data_groups(program)}, complete)
    assert tree["constant_data"]["county_"].dims == ("draw_plate",)
    assert tree["constant_data"]["income"].dims == ("county",)
    assert tree["posterior"]["county"].values.tolist() == ["a", "b", "c"]
    assert tree["log_likelihood"]["y"].dims == ("chain", "draw", "draw_plate")
    assert tree["observed_data"]["draw_plate"].values.tolist() == list("wxyz")
    # what is complete stays as it is
    assert complete.of_program(program).dims == complete.dims
    assert arviz_base.extract(tree).sizes == {"county": 3, "sample": 10}


def test_an_argument_with_the_name_of_a_site_of_another_shape_has_its_own_axes():
    def model(w, y):
        found = pyro.sample("w", dist.Normal(w.mean(), 1.0).expand([3]).to_event(1))
        pyro.sample("y", dist.Normal(found.sum(), 1.0).expand([4]).to_event(1), obs=y)

    program = build_program(model, {"w": np.zeros((2, 5)), "y": np.zeros(4)})
    groups = {"posterior": {"w": np.zeros((1, 6, 3))}, **data_groups(program)}
    tree = make_tree(groups, Labels().of_program(program))
    assert tree["posterior"]["w"].dims == ("chain", "draw", "w_dim_0")
    assert tree["constant_data"]["w"].dims == ("w_dim_0_", "w_dim_1")


def test_draws_without_a_model():
    groups = {"posterior": {"z": torch.zeros(2, 3, 4), "z_dim_0": torch.zeros(2, 3)}}
    assert make_tree(groups, Labels())["posterior"]["z"].dims == ("chain", "draw", "z_dim_0_")
    tree = make_tree(groups, Labels({"draw": list("abcd")}, {"z": ("draw",)}))
    assert tree["posterior"]["draw_plate"].values.tolist() == list("abcd")
    with pytest.raises(ModelError, match="site 'chain'"):
        make_tree({"posterior": {"chain": torch.zeros(2, 3)}}, Labels())


def test_numbered_axes_do_not_take_the_name_of_a_plate():
    def model(y):
        with pyro.plate("y_dim_1", 3):
            mu = pyro.sample("mu", dist.Normal(0.0, 1.0)).unsqueeze(-1)
            pyro.sample("y", dist.Normal(mu.expand(3, 2), 1.0).to_event(1), obs=y)

    labels = Labels().of_program(build_program(model, {"y": np.zeros((3, 2))}))
    assert labels.dims == {"mu": ("y_dim_1",), "y": ("y_dim_1", "y_dim_1_")}


def test_axes_of_one_name_and_two_lengths_are_refused():
    program = build_program(counties, COUNTIES)
    with pytest.raises(DataError, match=r"'k' is an axis of 'level', of length 3, and of 'y', of length 4"):
        Labels({}, {"level": ("k",), "y": ("k",)}).of_program(program)
