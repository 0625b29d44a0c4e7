"""The plate over the rows of the data: found, taken apart, and missed where there is none."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from ppl_models.errors import ModelError
from ppl_models.program import build_program, find_rows


def local(x=None, num_rows=5):
    n = num_rows if x is None else len(x)
    with pyro.plate("datum", n):
        z = pyro.sample("z", dist.Normal(torch.zeros(n, 2), 1.0).to_event(1))
        return pyro.sample("x", dist.Normal(z.sum(-1, keepdim=True), 1.0).expand([n, 3]).to_event(1), obs=x)


def grouped(num_images, scale, group, y):
    mean = pyro.sample("mean", dist.Normal(torch.zeros(len(scale)), 1.0).to_event(1))
    with pyro.plate("image", num_images):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("pixel", 2, dim=-2):
            pyro.sample("y", dist.Normal(z + mean[group.long()], 1.0), obs=y.T)


def rows_of(model, data):
    program = build_program(model, data)
    return program, find_rows(program)


def test_a_model_of_our_own_form():
    program, rows = rows_of(local, {"x": torch.arange(12.0).reshape(4, 3)})
    assert (rows.plate, rows.dim, rows.num_rows) == ("datum", -1, 4)
    assert (rows.tensors, rows.counts) == (("x",), ())
    assert (rows.latents, rows.outside, rows.observed) == (("z",), (), ("x",))
    taken = rows.take(program.arguments, [2, 0, 2])
    assert taken.named()["x"][:, 0].tolist() == [6.0, 0.0, 6.0]
    sizes = [len(chunk.named()["x"]) for chunk in rows.chunks(program.arguments, 3)]
    assert sizes == [3, 1]


@pytest.mark.parametrize("positional", [False, True])
def test_counts_covariates_and_a_plate_of_features(positional):
    data = {
        "num_images": 6,
        "scale": torch.ones(3),
        "group": torch.tensor([0, 1, 2, 0, 1, 2]),
        "y": torch.randn(6, 2, generator=torch.Generator().manual_seed(0)),
    }
    program, rows = rows_of(grouped, tuple(data.values()) if positional else data)
    assert (rows.plate, rows.dim, rows.num_rows) == ("image", -1, 6)
    assert (rows.tensors, rows.counts) == (("group", "y"), ("num_images",))
    assert (rows.latents, rows.outside, rows.observed) == (("z",), ("mean",), ("y",))
    taken = rows.take(program.arguments, slice(1, 4)).named()
    assert taken["num_images"] == 3
    assert taken["group"].tolist() == [1, 2, 0]
    assert taken["scale"] is program.arguments.named()["scale"]
    assert torch.equal(taken["y"], data["y"][1:4].double())
    again = build_program(grouped, taken)
    assert again.sites["z"].shape == (3,)


def test_an_argument_that_happens_to_be_as_long_is_left_alone():
    def model(weights, x):
        with pyro.plate("datum", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z + weights.sum() * torch.ones(4)[: len(weights)].sum(), 1.0), obs=x)

    def dots(weights, x):
        with pyro.plate("datum", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(4), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ weights, 1.0), obs=x)

    _, rows = rows_of(dots, {"weights": torch.ones(4), "x": torch.zeros(4)})
    assert rows.tensors == ("x",)  # 4 weights for 4 latents, and 4 rows


def test_one_row():
    _, rows = rows_of(local, {"x": torch.zeros(1, 3)})
    assert (rows.plate, rows.num_rows, rows.tensors) == ("datum", 1, ("x",))


def test_models_without_such_a_plate_are_told_what_they_need():
    def none(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0).expand([len(x)]).to_event(1), obs=x)

    def fixed(x):
        with pyro.plate("group", 3):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def inside(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("latent", len(x)):
            pyro.sample("w", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0).expand([len(x)]).to_event(1), obs=x)

    for model in (none, fixed, inside):
        with pytest.raises(ModelError, match=r"no plate over the rows.*pyro\.plate\('datum', len\(x\)\)"):
            rows_of(model, {"x": torch.zeros(3)})


def test_random_numbers_and_parameters_stay_as_they_were():
    program = build_program(local, {"x": torch.zeros(4, 3)})
    before = torch.get_rng_state()
    find_rows(program)
    assert torch.equal(before, torch.get_rng_state())
