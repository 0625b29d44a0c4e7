"""Counts of single cells: SciPy's densities, libraries observed and latent, and the fit."""

import numpy as np
import pyro
import pytest
import scipy.stats
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from torch import nn

import ppl_models as ppl
from guides.amortization import NormalHead
from guides.errors import MissingDataError
from guides.networks import MLP
from ppl_models.autoencoders import SingleCellVAE
from ppl_models.errors import DataError, UnknownNameError
from ppl_models.program import build_program, find_rows

NUM_CELLS, NUM_GENES, LATENT_DIM = 9, 7, 2


def single_cell(**options):
    posterior = nn.Sequential(MLP(NUM_GENES, 8, ()), nn.Tanh(), NormalHead(8, LATENT_DIM))
    decoder = MLP(LATENT_DIM, NUM_GENES, (8,))
    return SingleCellVAE(decoder, LATENT_DIM, num_features=NUM_GENES, posterior=posterior, **options).double()


@pytest.fixture
def x():
    return torch.poisson(torch.full((NUM_CELLS, NUM_GENES), 3.0, dtype=torch.float64))


@pytest.fixture(autouse=True)
def _own_store():
    with pyro.get_param_store().scope():
        yield


@pytest.mark.parametrize("library", ["observed", "latent"])
@pytest.mark.parametrize("counts", ["negative_binomial", "poisson"])
def test_the_density_is_scipys(x, counts, library):
    vae = single_cell(counts=counts, library=library)
    with torch.no_grad():
        for parameter in vae.likelihood.parameters():
            parameter.copy_(torch.linspace(-1.0, 2.0, NUM_GENES))  # log inverse dispersions
    trace = poutine.trace(vae).get_trace(x)
    trace.compute_log_prob()
    z = trace.nodes["z"]["value"]
    sizes = x.sum(-1, keepdim=True)
    if library == "latent":
        log_library = trace.nodes["log_library"]["value"]
        sizes = log_library.exp()
        wanted = scipy.stats.norm(np.log(2_000.0), 1.0).logpdf(log_library[:, 0].detach().numpy())
        np.testing.assert_allclose(trace.nodes["log_library"]["log_prob"].detach().numpy(), wanted, rtol=1e-6)
    mean = (sizes * vae.decoder(z).softmax(-1)).detach().numpy()
    theta = np.exp(np.linspace(-1.0, 2.0, NUM_GENES))
    fixed = (
        scipy.stats.nbinom(theta, theta / (theta + mean))
        if counts == "negative_binomial"
        else scipy.stats.poisson(mean)
    )
    wanted = fixed.logpmf(x.numpy()).sum(-1)
    np.testing.assert_allclose(trace.nodes["x"]["log_prob"].detach().numpy(), wanted, rtol=1e-6)


def test_means_are_the_library_times_the_shares(x):
    vae = single_cell()
    z = torch.randn(NUM_CELLS, LATENT_DIM, dtype=torch.float64)
    sizes = x.sum(-1, keepdim=True)
    mean = vae.decode(z, sizes.log()).mean
    torch.testing.assert_close(mean.sum(-1, keepdim=True), sizes, rtol=1e-10, atol=0.0)
    torch.testing.assert_close(mean, sizes * vae.shares(z), rtol=1e-10, atol=0.0)


@pytest.mark.parametrize("library", ["observed", "latent"])
def test_particles_rows_and_prior_draws(x, library):
    vae = single_cell(library=library)
    elbo = Trace_ELBO(num_particles=5, vectorize_particles=True, max_plate_nesting=1)
    assert torch.tensor(elbo.loss(vae, vae.guide, x)).isfinite()
    rows = find_rows(build_program(vae, {"x": x}))
    assert (rows.plate, rows.num_rows) == ("datum", NUM_CELLS)
    assert set(rows.latents) == ({"z", "log_library"} if library == "latent" else {"z"})
    drawn = vae(num_rows=4)
    assert drawn.shape == (4, NUM_GENES)
    assert (drawn == drawn.round()).all()
    assert 400 < drawn.sum(-1).mean() < 10_000 or library == "latent"


@pytest.mark.parametrize("library", ["observed", "latent"])
def test_a_fit_raises_the_elbo(x, library):
    vae = single_cell(library=library)
    options = {"max_steps": 40, "step_size": 0.05, "backend": "eager", "seed": 1}
    fit = ppl.fit(vae, {"x": x}, guide=vae.guide, **options)
    assert fit.losses[-10:].mean() < fit.losses[:5].mean() - 1.0


def test_shares_that_round_to_zero_have_a_density_and_a_slope():
    """In float32 a share of exp(-120) is zero, whose log is infinite."""
    vae = single_cell().float()
    x, z = torch.zeros(1, NUM_GENES), torch.zeros(1, vae.latent_dim)
    x[0, 0] = 5.0
    logits = torch.zeros(1, NUM_GENES)
    logits[0, 1:] = -120.0
    logits.requires_grad_()
    vae.decoder = torch.nn.Identity()
    value = vae.decode(logits, torch.zeros_like(z[:, :1])).log_prob(x).sum()
    assert value.isfinite()
    assert torch.autograd.grad(value, logits)[0].isfinite().all()


def test_an_empty_cell_has_a_density():
    x = torch.zeros(2, NUM_GENES, dtype=torch.float64)
    assert poutine.trace(single_cell()).get_trace(x).log_prob_sum().isfinite()


def test_what_does_not_fit_is_refused(x):
    with pytest.raises(DataError, match=r"not whole.*raw counts"):
        build_program(single_cell(), {"x": x + 0.5})
    with pytest.raises(DataError, match=r"outside the support"):
        build_program(single_cell(), {"x": x - 30.0})
    with pytest.raises(MissingDataError):
        single_cell().guide()
    for options in ({"counts": "normal"}, {"library": "none"}):
        with pytest.raises(UnknownNameError, match=r"normal|none"):
            single_cell(**options)
