"""Compiled steps of every estimator against autograd on the program itself, draw by draw."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from closed_forms import DATA, regression

from engine.steps import elbo_of
from ppl_models.engine import COMPILERS, Adam, SviGraph
from ppl_models.errors import CaptureError
from ppl_models.program.estimators import (
    DoublyReparameterised,
    Entropy,
    ImportanceWeighted,
    Renyi,
    StickingTheLanding,
)

BETAS = (0.9, 0.99)
Y = torch.tensor([0.3, -1.2, 2.0, 0.1], dtype=torch.float64)


def local(y):
    slope = pyro.param("slope", torch.tensor(1.5, dtype=torch.float64))
    with pyro.plate("row", len(y), subsample_size=2) as index:
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(slope * z, 1.0), obs=y[index])


def amortised(y):
    gain = pyro.param("gain", torch.tensor(0.4, dtype=torch.float64))
    with pyro.plate("row", len(y), subsample_size=2) as index:
        pyro.sample("z", dist.Normal(gain * y[index], 0.8))


CASES = [
    (regression, DATA, "full_rank", StickingTheLanding()),
    (regression, DATA, "iaf", StickingTheLanding()),
    (regression, DATA, "low_rank", Entropy()),
    (local, (Y,), amortised, ImportanceWeighted(3)),
    (local, (Y,), amortised, DoublyReparameterised(3)),
    (local, (Y,), amortised, Renyi(0.3, 3)),
]


BY_BACKEND = [
    *(("graph", *case) for case in CASES),
    *(pytest.param("native", *case, marks=pytest.mark.native) for case in CASES[:1]),
    *(pytest.param("native", *case, marks=(pytest.mark.native, pytest.mark.exhaustive)) for case in CASES[1:]),
]


@pytest.mark.parametrize(
    ("backend", "model", "data", "guide", "estimator"),
    BY_BACKEND,
    ids=lambda one: getattr(one, "name", None) or str(one)[:12],
)
def test_loss_and_gradient(backend, model, data, guide, estimator):
    with elbo_of(model, data, guide, particles=6, estimator=estimator) as elbo:
        svi = SviGraph(elbo, Adam(0.05, BETAS))
        flat = elbo.flat_parameters()
        noise = elbo.draw_noise(1)
        schedule = svi.optimizer.schedule(0, np.ones(1), torch.float64)
        state = svi.start(flat)
        if backend == "native":
            loss = torch.empty(1, dtype=torch.float64)
            COMPILERS[backend].compile(svi.graph).bind(state, svi.graph.fixed).run(1, [schedule, *noise], [loss])
        else:
            with torch.no_grad():
                (loss,) = svi.graph.module(*state, schedule[0], *(one[0] for one in noise), *svi.graph.fixed)
        _, (wanted, slope) = elbo._by_autograd(flat, [one[0] for one in noise])
        assert float(loss) == pytest.approx(float(wanted), rel=1e-10)
        np.testing.assert_allclose(state[1] / (1.0 - BETAS[0]), slope, rtol=1e-8, atol=1e-10 * float(slope.abs().max()))


def test_a_parameter_that_slips_past_the_freeze_is_noticed():
    def guide(x, y=None):
        location = pyro.param("location", torch.zeros(2))
        copied = location.clone() if not kept else kept[0]
        kept[:] = [copied]
        pyro.sample("weights", dist.Normal(copied, 0.5).to_event(1))

    kept = []
    with (
        pytest.raises((CaptureError, RuntimeError)),
        elbo_of(regression, DATA, guide, particles=2, estimator=StickingTheLanding()) as elbo,
    ):
        elbo.prove()
