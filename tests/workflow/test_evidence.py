"""`log_evidence`: each method reaches the closed form, and mistakes are named."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import ppl_models as ppl
from ppl_models import datasets
from ppl_models.errors import DataError, ModelError, OptionError, UnknownNameError
from ppl_models.inference.evidence.state_space import StateSpace
from ppl_models.workflow.evidence import METHODS, log_evidence
from tests import closed_forms
from tests.inference.evidence import tempered_models as models

MODEL, DATA = closed_forms.regression, closed_forms.DATA
FEW = {"num_temperatures": 40, "seed": 1}


@pytest.fixture(scope="module")
def fit():
    return ppl.fit(MODEL, DATA, guide="normal", backend="eager", max_steps=200, seed=1)


@pytest.fixture(scope="module")
def tree():
    """Independent posterior draws as a tree of four chains."""
    rng = np.random.default_rng(0)
    root = np.linalg.cholesky(closed_forms.COVARIANCE.numpy())
    draws = closed_forms.MEAN.numpy() + rng.standard_normal((4, 500, 2)) @ root.T
    return ppl.to_datatree({"weights": torch.tensor(draws)}, model=MODEL, data=DATA, by_chain=True)


@pytest.mark.parametrize("method", ["auto", "ais", "thermodynamic"])
def test_methods_of_a_model_reach_the_closed_form(method):
    options = {"num_temperatures": 16} if method == "thermodynamic" else FEW
    found = log_evidence(MODEL, DATA, method=method, **{**options, "seed": 1})
    assert abs(found.total - closed_forms.EVIDENCE) < 4.0 * found.total_error
    assert found.method == ("bidirectional" if method == "auto" else method)
    # no draws were given to begin a reverse run at
    assert {check.name for check in found.checks if not check.passed} == (
        {"reverse starts"} if method == "auto" else set()
    )
    assert found.seed == 1
    assert "nats" in repr(found)
    assert "<table>" in found._repr_html_()


@pytest.mark.parametrize("method", ["auto", "ais", "importance"])
def test_methods_of_a_fit_reach_the_closed_form(method, fit):
    found = log_evidence(fit, method=method, **FEW)
    assert abs(found.total - closed_forms.EVIDENCE) < 4.0 * found.total_error


@pytest.mark.parametrize("given", ["model", "fit"])
def test_bridge_takes_draws(given, fit, tree):
    found = log_evidence(fit, draws=tree) if given == "fit" else log_evidence(MODEL, DATA, draws=tree, method="bridge")
    assert found.method == "bridge"
    assert abs(found.total - closed_forms.EVIDENCE) < 4.0 * found.total_error


def test_mcmc_draws_are_called_approximate(tree):
    found = log_evidence(MODEL, DATA, draws=tree, **FEW)
    check = next(check for check in found.checks if "R-hat" in check.name)
    assert check.passed
    assert "2,000 MCMC draws" in check.detail
    assert not found.config["exact"]


def test_chains_that_have_not_met_are_seen(tree):
    apart = tree["posterior"]["weights"].to_numpy() + 0.3 * np.arange(4)[:, None, None]
    found = log_evidence(MODEL, DATA, draws={"weights": apart}, **FEW)
    assert next(check for check in found.checks if "R-hat" in check.name).passed is False


def test_a_state_space_model_is_filtered():
    space = StateSpace(
        lambda: dist.Normal(0.0, 1.0),
        lambda time, state: dist.Normal(state, 1.0),
        lambda time, state: dist.Normal(state, 1.0),
    )
    found = log_evidence(space, torch.tensor([0.5]), seed=1)
    assert found.method == "smc"
    truth = float(torch.distributions.Normal(0.0, math.sqrt(2.0)).log_prob(torch.tensor(0.5)))
    assert abs(found.total - truth) < 4.0 * found.total_error


def test_ppca_of_digits_by_datum():
    pixels = datasets.digits()["pixels"]
    centred = torch.tensor(pixels[:6] - pixels.mean(axis=0)) / 6.0
    w = torch.linalg.svd(torch.tensor(pixels - pixels.mean(axis=0)) / 6.0 / math.sqrt(len(pixels)))
    loadings = (w.Vh[:3] * w.S[:3, None]).mT

    def ppca(y):
        with pyro.plate("image", len(y)):
            z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            pyro.sample("y", dist.Normal(z @ loadings.mT, 1.0).to_event(1), obs=y)

    covariance = loadings @ loadings.mT + torch.eye(64, dtype=torch.float64)
    zero = torch.zeros(64, dtype=torch.float64)
    truth = torch.distributions.MultivariateNormal(zero, covariance).log_prob(centred).numpy()
    root = torch.linalg.cholesky(torch.linalg.inv(torch.eye(3, dtype=torch.float64) + loadings.mT @ loadings))
    noise = torch.randn(64, 6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    draws = {"z": centred @ loadings @ root @ root.mT + noise @ root.mT}
    found = log_evidence(ppca, {"y": centred}, draws=draws, exact=True, by_datum=True, num_temperatures=60, seed=3)
    assert found.log_evidence.shape == (6,)
    assert (np.abs(found.log_evidence - truth) < 4.0 * found.standard_error).all()
    assert float(np.abs(found.width).max()) < 0.5
    assert found.passed


def test_every_method_is_registered():
    assert set(METHODS) == {"ais", "bidirectional", "thermodynamic", "bridge", "smc", "importance"}


def improper(x, y):
    weights = pyro.sample("weights", dist.ImproperUniform(dist.constraints.real, (), (2,)))
    pyro.sample("y", dist.Normal(x @ weights, 1.0).to_event(1), obs=y)


@pytest.mark.parametrize(
    ("model", "options", "error", "says"),
    [
        (improper, {}, ModelError, "improper"),
        (MODEL, {"method": "harmonic"}, UnknownNameError, "harmonic"),
        (MODEL, {"by_datum": True}, OptionError, "'weights' stands outside"),
        (MODEL, {"draws": np.zeros((5, 3))}, DataError, "length 2"),
        (MODEL, {"draws": {"weights": np.zeros(3)}}, DataError, "wanted \\(2,\\)"),
        (MODEL, {"draws": {"slope": np.zeros(2)}}, UnknownNameError, "weights"),
        (MODEL, {"draws": np.full((5, 2), np.nan)}, DataError, "not finite"),
        (MODEL, {"draws": "mine"}, DataError, "found str"),
        (MODEL, {"method": "ais", "draws": np.zeros((5, 2))}, OptionError, "takes none"),
        (MODEL, {"method": "bridge"}, OptionError, "needs posterior draws"),
        (MODEL, {"method": "smc"}, OptionError, "StateSpace"),
        (MODEL, {"method": "importance"}, OptionError, "needs a fit"),
        (MODEL, {"method": "bridge", "by_datum": True}, OptionError, "all data alone"),
        (MODEL, {"start": "guide"}, OptionError, "no fit was given"),
        (MODEL, {"temperatures": [0.0, 0.7, 0.5, 1.0]}, OptionError, "rise from 0"),
        (MODEL, {"num_chains": 2}, OptionError, "num_chains"),
        (MODEL, {"confidence": 1.5}, OptionError, "confidence"),
        (MODEL, {"device": "abacus"}, OptionError, "device"),
        (models.half_line, {"backend": "steam"}, UnknownNameError, "steam"),
    ],
)
def test_mistakes_are_named(model, options, error, says):
    data = {} if model is models.half_line else DATA
    with pytest.raises(error, match=says):
        log_evidence(model, data, **options)


def test_data_are_needed_by_a_model_and_refused_by_a_fit(fit):
    with pytest.raises(DataError, match="none given"):
        log_evidence(MODEL)
    with pytest.raises(OptionError, match="its own data"):
        log_evidence(fit, DATA)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("method", ["ais", "bidirectional", "thermodynamic"])
def test_cuda_finds_what_the_cpu_finds(method):
    found = log_evidence(models.normals, {"y": torch.tensor([0.5, -1.0])}, method=method, device="cuda", by_datum=True)
    truth = models.normals_truth(torch.tensor([0.5, -1.0]))
    assert (np.abs(found.log_evidence - truth) < 4.0 * found.standard_error).all()
