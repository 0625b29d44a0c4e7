"""A fit's guide over the flat vector: its draws and density against the guide's own trace."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import ppl_models as ppl
from ppl_models.engine import Target
from ppl_models.inference.flat_guide import FlatGuide


def model(y):
    scale = pyro.sample("scale", dist.HalfCauchy(1.0))
    weights = pyro.sample("weights", dist.Dirichlet(torch.ones(3)))
    with pyro.plate("row", len(y)):
        mean = pyro.sample("mean", dist.Normal(weights[0], 1.0))
        pyro.sample("y", dist.Normal(mean, scale), obs=y)


DATA = {"y": torch.tensor([0.5, 1.0, 2.5])}


def fitted(guide):
    return ppl.fit(model, DATA, guide=guide, max_steps=20, backend="eager", seed=1)


@pytest.mark.parametrize("guide", ["full_rank", "low_rank", "iaf", "realnvp", "mixture"])
def test_density_is_that_of_the_guides_trace(guide):
    fit = fitted(guide)
    flat = FlatGuide.of(fit)
    points = flat.draw(5, seed=3)
    assert points.shape == (5, fit.program.num_dims)
    log_q = flat.log_prob(points)
    with fit.program.isolated(seed=0):
        log_p, _ = Target(fit.program)(points)
    # in constrained coordinates both densities change by the same Jacobian, so that the ratios must agree
    values, q = fit._latent_draws(400, 5)
    joint = [fit.program.log_joint({name: value[i] for name, value in values.items()}) for i in range(400)]
    ratios = (torch.stack(joint) - q).numpy()
    fresh = flat.draw(400, seed=11)
    with fit.program.isolated(seed=0):
        again = Target(fit.program)(fresh)[0] - flat.log_prob(fresh)
    spread = np.hypot(ratios.std(), again.std()) / np.sqrt(400)
    assert abs(ratios.mean() - again.mean()) < 4 * spread
    assert np.isfinite(log_p - log_q).all()


def test_exact_ratio_at_the_same_draws():
    fit = fitted("full_rank")
    flat = FlatGuide.of(fit)
    points = flat.draw(6, seed=3)
    with fit.program.isolated(seed=0), torch.no_grad():
        log_p = Target(fit.program)(points)[0]
        for point, ours in zip(torch.as_tensor(points), log_p - flat.log_prob(points), strict=True):
            values = fit.program.constrain(point)
            jacobian = fit.program.log_density(point) - fit.program.log_joint(
                {site.name: values[site.name] for site in fit.program.sites.latent}
            )
            own = fit.guide.get_posterior().log_prob(point[torch.argsort(flat._places)]) - jacobian
            joint = fit.program.log_joint({site.name: values[site.name] for site in fit.program.sites.latent})
            np.testing.assert_allclose(float(joint - own), ours, rtol=1e-10)


def test_other_kinds_have_none():
    assert FlatGuide.of(fitted("normal")) is None
    assert FlatGuide.of(fitted("delta")) is None


def test_same_seed_same_draws_and_nothing_left_behind():
    flat = FlatGuide.of(fitted("full_rank"))
    before = torch.get_rng_state()
    np.testing.assert_array_equal(flat.draw(4, seed=1), flat.draw(4, seed=1))
    assert torch.equal(before, torch.get_rng_state())
    assert not dict(pyro.get_param_store().items())
