"""The model of two sets of data has the density of both, and of the latents once."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from ppl_models.program import build_program
from ppl_models.workflow.calibration.generative import observed_arguments
from ppl_models.workflow.calibration.twice import observed_twice

Y = torch.tensor([0.5, -1.0, 2.0, 0.1], dtype=torch.float64)
AGAIN = torch.tensor([1.5, 0.3, -0.2, 0.7], dtype=torch.float64)


def hierarchy(sigma, y=None):
    """A latent for each datum, a deterministic, and plates."""
    mu = pyro.sample("mu", dist.Normal(0.0, 2.0))
    tau = pyro.sample("tau", dist.HalfNormal(1.0))
    with pyro.plate("school", 4):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.deterministic("double", 2.0 * theta, event_dim=0)
        return pyro.sample("y", dist.Normal(theta, sigma), obs=y)


def series(length, y=None):
    """Each datum depends on the one before it, in its own course."""
    rho = pyro.sample("rho", dist.Uniform(-1.0, 1.0))
    noise = pyro.sample("noise", dist.LogNormal(0.0, 1.0))
    before = torch.zeros(())
    for i in range(length):
        before = pyro.sample(f"y_{i}", dist.Normal(rho * before, noise), obs=None if y is None else y[i])


def subsampled(y):
    """A plate that a fit would subsample."""
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("row", 4, subsample_size=2) as rows:
        pyro.sample("y", dist.Normal(mean, 1.0), obs=y if len(rows) == 4 else y[rows])


def densities(model, data, again, values, *, names=None):
    """Log joint of both data, and what it must be."""
    program = build_program(model, data)
    twice, doubled, replaced = observed_twice(program, names or observed_arguments(program))
    both = build_program(twice, doubled)
    both_args = both.arguments.with_tensors({name: again[site] for site, name in replaced.items()})
    second_args = program.arguments.with_tensors(
        {program.arguments.name_of(program.observed_values[site]): again[site] for site in replaced}
    )
    first, second = (build_program(model, arguments_like(a)) for a in (program.arguments, second_args))
    found = build_program(twice, arguments_like(both_args))
    with found.isolated(seed=0):
        together = found.log_joint(values)
        wanted = first.log_joint(values) + sum(part.sum() for part in second.log_likelihood(values).values())
    return float(together), float(wanted), both


def arguments_like(arguments):
    return arguments.args if arguments.args else dict(arguments.kwargs)


VALUES = {
    "mu": torch.tensor(0.3, dtype=torch.float64),
    "tau": torch.tensor(0.8, dtype=torch.float64),
    "theta": torch.tensor([0.1, 0.2, -0.4, 1.0], dtype=torch.float64),
}


@pytest.mark.parametrize("positional", [False, True])
def test_density_of_a_hierarchy(positional):
    sigma = torch.ones(4, dtype=torch.float64) * 0.7
    data = (sigma, Y) if positional else {"y": Y, "sigma": sigma}
    together, wanted, both = densities(hierarchy, data, {"y": AGAIN}, VALUES)
    assert together == pytest.approx(wanted, rel=1e-10)
    assert [site.name for site in both.sites.latent] == ["mu", "tau", "theta"]
    assert [site.name for site in both.sites.observed] == ["y", "y_replicate"]
    assert [site.name for site in both.sites.deterministic] == ["double"]


def test_density_with_a_plate_that_is_subsampled():
    values = {"mean": torch.tensor(0.2, dtype=torch.float64)}
    together, wanted, _ = densities(subsampled, {"y": Y}, {"y": AGAIN}, values)
    assert together == pytest.approx(wanted, rel=1e-10)


def test_density_of_a_series_in_two_courses():
    values = {"rho": torch.tensor(0.4, dtype=torch.float64), "noise": torch.tensor(0.9, dtype=torch.float64)}
    # Site by site the data are parts of the argument; the doubled model takes whole arguments.
    program = build_program(series, {"length": 4, "y": Y})
    twice, data, _ = observed_twice(program, {"y_0": "y"})
    data = {**data, "replicate_y": AGAIN}
    found, second = build_program(twice, data), build_program(series, {"length": 4, "y": AGAIN})
    with found.isolated(seed=0):
        wanted = program.log_joint(values) + sum(part.sum() for part in second.log_likelihood(values).values())
        assert float(found.log_joint(values)) == pytest.approx(float(wanted), rel=1e-10)
    assert len(found.sites.observed) == 8
