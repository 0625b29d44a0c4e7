"""Ways through the latent space against closed forms."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from ppl_models.errors import DataError, ModelError, OptionError, UnknownNameError
from ppl_models.workflow.representation import decode, encode, interpolate, traverse
from tests.workflow.representation.models import counts, fitted


def mean_of(exact, z):
    return z @ exact.W.numpy().T + exact.b.numpy()


def test_linear_and_spherical_ways_between_latents(exact, exact_fit):
    start, end = np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[0.0, 1.0], [2.0, 0.0]])
    t = np.linspace(0, 1, 5)[:, None, None]
    tree = interpolate(exact_fit, start, end, num_steps=5, kind="linear")
    assert tree["mean"]["x"].dims == ("step", "datum", "x_dim_1")
    assert tree["mean"]["step"].values.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    np.testing.assert_allclose(tree["mean"]["x"], mean_of(exact, start + t * (end - start)), rtol=1e-12)
    tree = interpolate(exact_fit, {"z": start}, {"z": end}, num_steps=5)
    way = np.stack([np.cos(t[..., 0] * np.pi / 2), np.sin(t[..., 0] * np.pi / 2)], -1)
    np.testing.assert_allclose(tree["posterior"]["z"].values[0, 0, :, 0], way[:, 0], atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(tree["posterior"]["z"].values[0, 0], axis=-1), [[1, 2]] * 5, rtol=1e-12)
    np.testing.assert_allclose(tree["mean"]["x"].values[:, 0], mean_of(exact, way[:, 0]), rtol=1e-10)
    # the straight line where there is no angle, or no plane
    same = interpolate(exact_fit, start, 2 * start, num_steps=3)["posterior"]["z"].values[0, 0]
    np.testing.assert_allclose(same[1], 1.5 * start)
    opposite = interpolate(exact_fit, start, -start, num_steps=3)["posterior"]["z"].values[0, 0]
    assert np.abs(opposite[1]).max() < 1e-12


def test_a_spherical_way_keeps_to_the_lengths_of_its_ends(exact_fit):
    """The plain formula is 8.7 long halfway between lengths of 0.5 and 2 at 170 degrees."""
    angle = np.deg2rad([170.0, 179.99, 90.0])
    start = 0.5 * np.stack([np.ones(3), np.zeros(3)], -1)
    end = 2.0 * np.stack([np.cos(angle), np.sin(angle)], -1)
    start[2] = 0.0  # no direction: the straight line
    way = interpolate(exact_fit, {"z": start}, {"z": end}, num_steps=5)["posterior"]["z"].values[0, 0]
    t = np.linspace(0, 1, 5)
    np.testing.assert_allclose(np.linalg.norm(way[:, :2], axis=-1), np.stack([0.5 + 1.5 * t] * 2, -1), rtol=1e-9)
    turned = np.arctan2(way[:, :2, 1], way[:, :2, 0])
    np.testing.assert_allclose(turned, t[:, None] * angle[:2], atol=1e-9)
    np.testing.assert_allclose(way[:, 2], t[:, None] * end[2], atol=1e-12)


def test_ends_that_are_data_keep_their_uncertainty(exact, exact_fit):
    x = exact.draw(4, 6)
    tree = interpolate(exact_fit, x[:2], x[2:], num_steps=3, kind="linear", num_draws=400)
    assert tree["likelihood_mean"]["x"].shape == (1, 400, 3, 2, 6)
    spread = exact.W.numpy() @ exact.cov.numpy() @ exact.W.numpy().T
    sd = np.sqrt(np.diag(spread))
    mean = exact.mean(x).numpy()
    for step, (wanted, width) in enumerate(
        [(mean[:2], 1.0), ((mean[:2] + mean[2:]) / 2, np.sqrt(0.5)), (mean[2:], 1.0)]
    ):
        error = (tree["mean"]["x"].values[step] - mean_of(exact, wanted)) / (width * sd / 20)
        assert np.abs(error).max() < 4.0
        assert np.abs(tree["sd"]["x"].values[step] / (width * sd) - 1).max() < 4.0 / np.sqrt(800)


def test_covariates_stay_on_the_way(counts_fit):
    data = counts(4)
    half = [{name: value[part] for name, value in data.items()} for part in (slice(0, 2), slice(2, 4))]
    tree = interpolate(counts_fit, *half, num_steps=3, num_draws=6)
    below, effect = tree["posterior"]["below"].values[0], tree["likelihood_mean"]["x"].values[0, ..., 0]
    assert below.shape == (6, 3, 2)
    shift = np.log(effect - 0.1) - 0.3 * below - 0.2 * data["group"][:2]
    np.testing.assert_allclose(shift, np.broadcast_to(shift[:, :1, :1], shift.shape), rtol=1e-3, atol=1e-5)


def test_traverse(exact, exact_fit):
    tree = traverse(exact_fit, centre=np.array([[0.5, -1.0]]), num_steps=5, span=2.0)
    assert tree["mean"]["x"].dims == ("latent", "step", "x_dim_1")
    assert tree["mean"]["latent"].values.tolist() == ["z[0]", "z[1]"]
    z = tree["latents"]["z"].values
    np.testing.assert_allclose(z[:, 2], [[0.5, -1.0]] * 2)
    assert (z[0, :, 1] == -1.0).all()
    # 1,000 draws of the prior give its sd
    assert abs((z[0, 4, 0] - 0.5) / 2.0 - 1) < 4.0 / np.sqrt(2_000)
    np.testing.assert_allclose(tree["mean"]["x"], mean_of(exact, z), rtol=1e-12)
    x = exact.draw(1, 3)
    centre = traverse(exact_fit, centre=x, num_steps=3)["latents"]["z"].values[:, 1]
    assert np.abs((centre[0] - exact.mean(x).numpy()[0]) / np.sqrt(np.diag(exact.cov.numpy()) / 1_000)).max() < 4.0
    assert np.abs(traverse(exact_fit, num_steps=3)["latents"]["z"].values[0, 1]).max() < 4.0 / np.sqrt(1_000)


def test_traverse_with_covariates(counts_fit):
    tree = traverse(counts_fit, data={"group": [1.0]}, num_steps=3)
    assert tree["mean"]["x"].shape == (2, 3, 4)
    assert tree["mean"]["latent"].values.tolist() == ["above", "below"]
    with pytest.raises(DataError, match="'group'"):
        traverse(counts_fit)


def test_the_tree_of_encode_gives_the_centre_and_ends(exact, exact_fit):
    x = exact.draw(2, 3)
    means = [encode(exact_fit, x[i : i + 1], num_draws=7)["mean"] for i in (0, 1)]
    tree = traverse(exact_fit, centre=means[0], num_steps=3)
    np.testing.assert_allclose(tree["latents"]["z"].values[:, 1], np.repeat(means[0]["z"].values, 2, 0))
    way = interpolate(exact_fit, *means, num_steps=2)["posterior"]["z"].values[0, 0]
    np.testing.assert_allclose(way, [mean["z"].values for mean in means])


def test_one_array_is_data_where_the_rows_have_several_latents():
    def model(x):
        with pyro.plate("datum", len(x)):
            top = pyro.sample("top", dist.Normal(torch.zeros(len(x), 1), 1.0).to_event(1))
            z = pyro.sample("z", dist.Normal(top, 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.expand(*z.shape[:-1], 2), 1.0).to_event(1), obs=x)

    def guide(x):
        shift = pyro.param("shift", torch.tensor(0.0))
        with pyro.plate("datum", len(x)):
            pyro.sample("top", dist.Normal(0.4 * x[:, :1] + shift, 0.7).to_event(1))
            pyro.sample("z", dist.Normal(0.4 * x[:, :1], 0.7).to_event(1))

    x = torch.linspace(-1.0, 1.0, 12).reshape(6, 2)
    fit = fitted(model, guide, {"x": x})
    for one, other in ((x, {"x": x}), (x.numpy(), {"x": x})):
        a, b = (interpolate(fit, ends, ends, num_steps=2, num_draws=3) for ends in (one, other))
        assert a["mean"].to_dataset().identical(b["mean"].to_dataset())
    assert traverse(fit, centre=x[:1], num_steps=3)["mean"]["x"].shape == (2, 3, 2)
    with pytest.raises(DataError, match=r"^centre: found one array.*top, z.*the shape of 'x'.*row\[None\]"):
        traverse(fit, centre=x[0])


def test_wrong_input_is_refused(exact, exact_fit, counts_fit):
    z = np.zeros((2, 2))
    with pytest.raises(UnknownNameError, match="'cubic'"):
        interpolate(exact_fit, z, z, kind="cubic")
    with pytest.raises(OptionError, match="num_steps"):
        interpolate(exact_fit, z, z, num_steps=1)
    with pytest.raises(DataError, match="2 rows at the start and 1"):
        interpolate(exact_fit, z, z[:1])
    with pytest.raises(DataError, match="wanted one"):
        traverse(exact_fit, centre=z)
    with pytest.raises(DataError, match=r"^centre: 'z'.*shape \(6,\).*the shape of 'x'.*ppl.encode\(fit, row\[None\]"):
        traverse(exact_fit, centre=exact.draw(1, 3)[0])
    with pytest.raises(DataError, match=r"^end: 'z'"):
        interpolate(exact_fit, z, np.zeros((2, 9)))
    with pytest.raises(DataError, match=r"^centre: .*above, below.*encode\(fit, {'group': ..., 'x': ...}\)"):
        traverse(counts_fit, centre=counts(1)["x"][0])
    with pytest.raises(DataError, match="shape"):
        interpolate(exact_fit, np.zeros((2, 9)), z)
    with pytest.raises(DataError, match="'below'"):
        interpolate(counts_fit, {"above": np.zeros(1)}, {"above": np.ones(1)}, data={"group": [0.0]})


def test_discrete_latents_have_no_way_between():
    def model(x):
        with pyro.plate("datum", len(x)):
            k = pyro.sample("k", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Normal(k, 1.0), obs=x)

    def guide(x):
        with pyro.plate("datum", len(x)):
            pyro.sample("k", dist.Bernoulli(logits=x - 0.5 + pyro.param("offset", torch.tensor(0.0))))

    fit = fitted(model, guide, {"x": torch.linspace(-2, 3, 6)})
    with pytest.raises(ModelError, match="discrete"):
        traverse(fit)
    tree = encode(fit, num_draws=200)
    x = np.linspace(-2, 3, 6)
    p = 1 / (1 + np.exp(-(x - 0.5)))
    assert np.abs((tree["mean"]["k"].values - p) / np.sqrt(p * (1 - p) / 200)).max() < 4.0
    evidence = np.log(0.5 * np.exp(-0.5 * x**2) + 0.5 * np.exp(-0.5 * (x - 1) ** 2)) - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(tree["sample_stats"]["log_weight"].values[0], [evidence] * 200, rtol=1e-5)
    np.testing.assert_allclose(decode(fit, tree)["likelihood_mean"]["x"], tree["posterior"]["k"])
