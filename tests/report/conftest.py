from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import pytest
import torch

import ppl_models as ppl
from ppl_models.report import gather


@pytest.fixture(scope="session")
def judged():
    """A quick fit, a point estimate, and draws of an accurate fit in the part of a baseline."""
    problem = ppl.load("eight_schools_noncentered")
    labels = {"coords": problem.coords, "dims": problem.dims}

    def fit(guide, **options):
        return ppl.fit(problem.model, problem.data, guide=guide, seed=1, **options, **labels)

    baseline = fit("full_rank", method="batch_and_match").sample(4_000, seed=5)
    # `ppl.check` knows a fit's own draws by this, and refuses them
    baseline.attrs = {name: value for name, value in baseline.attrs.items() if name != "guide"}
    fits = {name: fit(name, max_steps=150, backend="eager") for name in ("normal", "delta")}
    pairs = {name: (one, ppl.check(one, baseline=baseline)) for name, one in fits.items()}
    alone = (fits["normal"], ppl.check(fits["normal"]))
    return SimpleNamespace(problem=problem, baseline=baseline, pairs=pairs, alone=alone)


@pytest.fixture(scope="session")
def evidence(judged):
    return gather(judged.pairs, judged.baseline)


@pytest.fixture(scope="session")
def one_of_two_modes():
    """A fit of one root of two: its own weights see nothing wrong, proposals from other starts do."""

    def squared(y=None):
        x = pyro.sample("x", dist.Normal(1.0, 3.0))
        pyro.sample("y", dist.Normal(x**2, 2.0), obs=y)

    fit = ppl.fit(squared, {"y": torch.tensor(25.0)}, guide="laplace", seed=1)
    return fit, ppl.check(fit)
