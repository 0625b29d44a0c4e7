"""Sites, plates and axes of any name, in every tree: nothing of ours or of ArviZ's stands in their way."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import ppl_models as ppl
from ppl_models.errors import ModelError
from ppl_models.workflow.representation import (
    decode,
    encode,
    generate,
    impute,
    interpolate,
    out_of_distribution,
    reconstruct,
    traverse,
)
from tests.randomness import seeded
from tests.workflow.representation.models import fitted

CALLS = {
    "encode": lambda fit, x: encode(fit, x, num_draws=5),
    "decode": lambda fit, x: decode(fit, encode(fit, x, num_draws=5)),
    "reconstruct": lambda fit, x: reconstruct(fit, x, num_draws=5),
    "generate": lambda fit, x: generate(fit, 3, num_draws=5),
    "impute": lambda fit, x: impute(fit, np.where([[True, False]], np.nan, x[:1]), num_steps=20, num_chains=2),
    "interpolate": lambda fit, x: interpolate(fit, x[:2], x[2:4], num_steps=3, num_draws=5),
    "traverse": lambda fit, x: traverse(fit, num_steps=3),
    "out_of_distribution": lambda fit, x: out_of_distribution(fit, x[:2], num_draws=100),
    "sample": lambda fit, x: fit.sample(5, include=("log_likelihood", "posterior_predictive", "prior")),
    "predict": lambda fit, x: fit.predict(5),
}
NAMES = [  # latent, plate, observed; the plate's axis
    ("latent", "draw", "log_likelihood", "draw_plate"),
    ("step", "chain", "latent", "chain_plate"),
    ("log_likelihood", "sample", "step", "sample_plate"),
    ("log_p", "step", "log_q", "step"),
    ("w_dim_1", "log_weight", "draw_plate", "log_weight"),
    ("r_hat", "khat/ess", "p_value", "khat_ess"),
    ("sample", "ess", "lp", "ess"),
]
OURS = ("/sample_stats", "/health", "/score", "/reference")
"""Groups without sites."""
LATER = {"w_dim_1_plate": "w_dim_1"}
"""The axis of "w" where a latent is called as it."""


def rows(number=20):
    with seeded(3):
        return torch.randn(number, 2, dtype=torch.float64)


def model_of(latent="z", plate="datum", observed="x"):
    def model(x=None, num_rows=5):
        n = num_rows if x is None else len(x)
        with pyro.plate(plate, n):
            z = pyro.sample(latent, dist.Normal(torch.zeros(n, 2), 1.0).to_event(1))
            w = pyro.sample("w", dist.Normal(torch.zeros(n, 1), 1.0).to_event(1))
            return pyro.sample(observed, dist.Normal(z + w, 1.0).to_event(1), obs=x)

    def guide(x=None, num_rows=5):
        shift = pyro.param("shift", torch.tensor(0.0))
        with pyro.plate(plate, len(x)):
            pyro.sample(latent, dist.Normal(0.4 * x + shift, 0.7).to_event(1))
            pyro.sample("w", dist.Normal(0.2 * x.sum(-1, keepdim=True), 0.8).to_event(1))

    return model, guide


def every_tree(latent="z", plate="datum", observed="x"):
    x = rows()
    model, guide = model_of(latent, plate, observed)
    fit = fitted(model, guide, {"x": x})
    trees = {name: call(fit, x.numpy()) for name, call in CALLS.items()}
    trees["sample_prior"] = ppl.sample_prior(model, {"x": x}, num_draws=5)
    samples = {latent: torch.zeros(5, 20, 2), "w": torch.zeros(5, 20, 1)}
    trees["to_datatree"] = ppl.to_datatree(samples, model=model, data={"x": x})
    return trees


@pytest.fixture(scope="module")
def plain():
    return every_tree()


def content(tree, variables, dims):
    """Every variable, with its axes, under the names of the plain model."""
    found = {}
    for group in tree.groups:
        for name, array in tree[group].to_dataset().data_vars.items():
            standard = name.rstrip("_") if group in OURS else variables.get(name, name.rstrip("_"))
            axes = tuple(dims.get(dim, dim.rstrip("_")) for dim in array.dims)
            found[group, standard] = axes, array.to_numpy()
    return found


@pytest.mark.parametrize(("latent", "plate", "observed", "axis"), NAMES)
def test_the_same_trees_under_any_names(plain, latent, plate, observed, axis):
    variables = {latent: "z", observed: "x"}
    dims = {f"{latent}_dim_1": "z_dim_1", f"{observed}_dim_1": "x_dim_1", axis: "datum", **LATER}
    trees = every_tree(latent, plate, observed)
    for call, tree in trees.items():
        found, wanted = content(tree, variables, dims), content(plain[call], {}, {})
        assert {name: axes for name, (axes, _) in found.items()} == {name: axes for name, (axes, _) in wanted.items()}
        for name, (_, values) in wanted.items():
            np.testing.assert_array_equal(found[name][1], values, err_msg=f"{call} {name}")


@pytest.mark.parametrize("name", ["draw", "chain", "a/z"])
def test_sites_that_no_tree_holds_are_refused_before_any_work(name):
    model, guide = model_of(name)
    x = rows()
    calls = {
        "fit": lambda: ppl.fit(model, {"x": x}, guide=guide, max_steps=10**9, backend="eager"),
        "sample": lambda: ppl.sample(model, {"x": x}, warmup=10**9),
        "sample_prior": lambda: ppl.sample_prior(model, {"x": x}, num_draws=10**9),
        "to_datatree": lambda: ppl.to_datatree({name: torch.zeros(5, 2)}),
    }
    for run in calls.values():
        with pytest.raises(ModelError, match=rf"site '{name}'.*Rename the site"):
            run()


def test_axes_of_rows_by_other_names_than_the_plate():
    """Dims that a user gives, with the fit's own labels; other rows are numbered."""
    x = rows()
    cells = [f"cell {i}" for i in range(20)]
    model, guide = model_of(plate="draw")
    fit = fitted(
        model, guide, {"x": x}, dims={"z": ("sample", "k")}, coords={"sample": cells, "draw": cells, "k": ["a", "b"]}
    )
    own = encode(fit, num_draws=3)["mean"]
    assert own["z"].dims == ("sample_plate", "k")
    assert own["w"].dims == ("draw_plate", "w_dim_1")
    assert own["sample_plate"].values.tolist() == own["draw_plate"].values.tolist() == cells
    other = encode(fit, x[:7], num_draws=3, batch_size=4)["mean"]
    assert other["sample_plate"].values.tolist() == other["draw_plate"].values.tolist() == list(range(7))
    assert other["k"].values.tolist() == ["a", "b"]
