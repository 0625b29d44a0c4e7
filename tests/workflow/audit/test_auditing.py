"""`ppl.audit` on a model whose posterior is known: z ~ N(0, I), x ~ N(W z, sigma), exact and faulty guides."""

import json
import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import ppl_models as ppl
from ppl_models.errors import DataError, GuideError, ModelError, OptionError
from ppl_models.workflow.audit import audit

NUM_UNITS, NUM_FEATURES, SIGMA = 2, 8, 0.7
WEIGHTS = torch.randn(NUM_FEATURES, NUM_UNITS, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
PRECISION = torch.eye(NUM_UNITS, dtype=torch.float64) + WEIGHTS.T @ WEIGHTS / SIGMA**2
COVARIANCE = torch.linalg.inv(PRECISION)
QUICK = {"num_warmup": 25, "num_draws": 40, "num_chains": 2, "num_rows": 3}
LONG = {"num_rows": 20}


def make_model(weights):
    def model(x=None, num_rows=None):
        count = len(x) if x is not None else num_rows
        with pyro.plate("datum", count):
            z = pyro.sample("z", dist.Normal(torch.zeros(count, NUM_UNITS), 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(z @ weights.to(z).T, SIGMA).to_event(1), obs=x)

    return model


def make_guide(*, narrower=1.0, shift=0.0, ignore=False):
    """The exact posterior, or one that is too narrow, shifted, or the prior whatever x is."""

    def guide(x=None, num_rows=None):
        scale = pyro.param("scale", torch.tensor(1.0, dtype=torch.float64))
        mean = x @ WEIGHTS.to(x) @ COVARIANCE.to(x) / SIGMA**2
        factor = narrower * torch.linalg.cholesky(COVARIANCE).to(x)
        mean = mean + shift * COVARIANCE.to(x).diagonal().sqrt() + 0.0 * scale
        if ignore:
            mean, factor = torch.zeros_like(mean), torch.eye(NUM_UNITS).to(x)
        with pyro.plate("datum", len(x)):
            pyro.sample("z", dist.MultivariateNormal(mean, scale_tril=factor.expand(len(x), -1, -1)))

    return guide


def made(guide, *, num_rows=400, weights=WEIGHTS, noise=SIGMA):
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(num_rows, NUM_UNITS, generator=generator, dtype=torch.float64)
    x = z @ weights.T + noise * torch.randn(num_rows, NUM_FEATURES, generator=generator, dtype=torch.float64)
    labels = {
        "coords": {"datum": [f"row {row}" for row in range(num_rows)], "latent": ["a", "b"]},
        "dims": {"z": ("datum", "latent"), "x": ("datum", "feature")},
    }
    return ppl.fit(make_model(weights), {"x": x}, guide=guide, max_steps=1, backend="eager", seed=1, **labels)


@pytest.fixture(scope="module")
def exact():
    return audit(made(make_guide()), seed=1, **QUICK)


def named(found):
    return {check.name: check for check in found.checks}


def test_exact_posterior_has_no_gap(exact):
    checks = named(exact)
    assert checks["inference gap"].passed is True
    assert abs(checks["inference gap"].value) < 4.0 * checks["inference gap"].mcse + 1e-6
    assert checks["SBC of the encoder"].passed is True
    assert checks["k-hat by datum"].passed is True
    assert exact.units.collapse == "none"


def test_evidence_is_the_closed_form(exact):
    x = exact.data["x"]
    total = WEIGHTS @ WEIGHTS.T + SIGMA**2 * torch.eye(NUM_FEATURES, dtype=torch.float64)
    wanted = dist.MultivariateNormal(torch.zeros(NUM_FEATURES, dtype=torch.float64), total).log_prob(x).numpy()
    np.testing.assert_allclose(exact.table["elbo"], wanted, atol=1e-8)  # equal weights: no Monte Carlo error
    error = np.maximum(exact.table["log_evidence_se"], 1e-6)
    assert (np.abs(exact.table["log_evidence"] - wanted) < 4.5 * error).all()


def test_model_is_found_without_fault(exact):
    assert all(check.passed is not False for check in exact.model_checks)
    assert exact.model_checks[1].passed is True
    assert exact.summary[1].startswith("generative model: no fault found")


def test_result_tells_what_made_it(exact):
    assert exact.config["seed"] == 1
    assert "versions" in exact.config
    assert exact.config["own_data"] is True
    assert list(exact.table.index) == list(exact.rows)
    assert exact.draws["amortised/posterior"]["z"].dims == ("chain", "draw", "row", "unit")
    assert exact.draws["mcmc/posterior"]["z"].sizes["row"] == 3
    assert exact.point.elbo == -(exact.point.rate + exact.point.distortion)
    text = repr(exact)
    assert text.splitlines()[0].startswith("Audit: q(z | x):")
    assert "generative model" in text.splitlines()[1]
    assert "<td>SBC of the encoder</td>" in exact._repr_html_()
    assert set(exact.seconds) >= {"encoding", "calibration", "weights"}
    json.dumps(exact.config, default=str)


FAULTS = pytest.mark.parametrize("fault", [{"narrower": 0.5}, {"shift": 1.0}], ids=["half the sd", "shifted"])


@FAULTS
def test_faulty_guide_is_not_trusted(fault):
    found = audit(made(make_guide(**fault)), num_rows=5, seed=1, mcmc=False)
    assert found.verdict in ("correct", "reject")
    assert named(found)["SBC of the encoder"].passed is False


@pytest.mark.exhaustive
def test_exact_posterior_is_trusted():
    found = audit(made(make_guide(), num_rows=2_000), seed=1, **LONG)
    assert found.verdict == "trust", found
    assert all(check.passed for check in found.model_checks)


@pytest.mark.exhaustive
@FAULTS
def test_gap_of_a_faulty_guide_is_its_kl(fault):
    found = audit(made(make_guide(**fault)), seed=1, **LONG)
    gap = named(found)["inference gap"]
    narrower, shift = fault.get("narrower", 1.0), fault.get("shift", 0.0)
    sds = torch.sqrt(COVARIANCE.diagonal())
    wanted = NUM_UNITS * (0.5 * (narrower**2 - 1.0) - math.log(narrower))
    wanted += 0.5 * float((shift * sds) @ PRECISION @ (shift * sds))
    assert gap.passed is False
    assert abs(gap.value - wanted) < 4.5 * gap.mcse + 1e-3
    assert found.verdict in ("correct", "reject")


def test_collapsed_fit_is_rejected_though_its_posterior_is_exact():
    """A decoder that ignores z: the prior is the posterior, and the representation is none."""
    nothing = torch.zeros_like(WEIGHTS)
    found = audit(made(make_guide(ignore=True), weights=nothing), num_rows=5, mcmc=False, seed=1)
    assert found.verdict == "reject"
    assert "collapsed" in found.reasons[0]
    assert found.units.collapse == "all"
    assert named(found)["SBC of the encoder"].passed is True


def test_what_was_left_out_is_no_pass():
    found = audit(made(make_guide()), num_rows=5, mcmc=False, num_simulations=50, seed=1)
    checks = named(found)
    assert found.verdict == "correct"
    for name in ("inference gap", "amortisation gap", "means against MCMC", "bracket"):
        assert checks[name].passed is None
        assert math.isnan(checks[name].value)
    assert found.posteriors is None
    assert "log_evidence" not in found.table


def test_wrong_noise_of_the_model_shows_in_its_own_checks():
    found = audit(made(make_guide(), noise=2.0 * SIGMA), num_rows=5, mcmc=False, num_simulations=50, seed=1)
    assert named(found)["predictive calibration"].passed is False
    assert "predictive calibration" in found.summary[1]


def test_held_out_rows_and_seeds():
    fit = made(make_guide())
    rows = {"x": fit.program.arguments.named()["x"][:150] + 0.1}
    few = {"num_rows": 5, "mcmc": False, "num_simulations": 50}
    first, again = audit(fit, rows, **few, seed=2), audit(fit, rows, **few, seed=2)
    assert first.config["own_data"] is False
    np.testing.assert_array_equal(first.table.to_numpy(), again.table.to_numpy())
    assert max(first.rows) < 150
    assert audit(fit, rows, **few, seed=3).rows != first.rows


def test_wrong_input_is_refused():
    fit = made(make_guide(), num_rows=50)
    with pytest.raises(OptionError, match="num_rows"):
        audit(fit, num_rows=0)
    with pytest.raises(OptionError, match=r"wanted the result of ppl\.fit"):
        audit("fit")
    with pytest.raises(DataError):
        audit(fit, {"x": torch.full((5, NUM_FEATURES), math.nan, dtype=torch.float64)}, mcmc=False)
    with pytest.raises(DataError, match="at least two"):
        audit(fit, {"x": torch.zeros(1, NUM_FEATURES, dtype=torch.float64)}, mcmc=False)
    with pytest.raises(DataError):
        audit(fit, {"y": torch.zeros(5, NUM_FEATURES)}, mcmc=False)


def test_guides_that_serve_no_other_rows_are_refused():
    x = torch.randn(30, NUM_FEATURES, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    local = ppl.fit(make_model(WEIGHTS), {"x": x}, guide="normal", max_steps=5, backend="eager", seed=1)
    with pytest.raises(GuideError, match="amortised"):
        audit(local, mcmc=False)


def test_models_without_rows_are_refused():
    def model(x):
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("datum", len(x)):
            pyro.sample("x", dist.Normal(mean, 1.0), obs=x)

    fit = ppl.fit(model, {"x": torch.zeros(20)}, guide="normal", max_steps=5, backend="eager", seed=1)
    with pytest.raises(ModelError, match="latent"):
        audit(fit, mcmc=False)


def test_what_the_model_masks_is_not_taken_for_data():
    """Placeholders of 9 stand where nothing was observed; the posterior is exact for what was."""
    seen = torch.rand(150, NUM_FEATURES, generator=torch.Generator().manual_seed(5)) < 0.7
    x = made(make_guide(), num_rows=150).program.arguments.named()["x"]

    def model(x, seen):
        with pyro.plate("datum", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x), NUM_UNITS), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ WEIGHTS.T, SIGMA).mask(seen > 0).to_event(1), obs=x)

    def guide(x, seen):
        scale = pyro.param("scale", torch.tensor(1.0, dtype=torch.float64))
        precision = torch.eye(NUM_UNITS) + torch.einsum("nd,di,dj->nij", seen, WEIGHTS, WEIGHTS) / SIGMA**2
        covariance = torch.linalg.inv(precision)
        mean = torch.einsum("nij,nj->ni", covariance, (x * seen) @ WEIGHTS) / SIGMA**2
        with pyro.plate("datum", len(x)):
            pyro.sample("z", dist.MultivariateNormal(mean, scale_tril=scale * torch.linalg.cholesky(covariance)))

    data = {"x": torch.where(seen, x, 9.0), "seen": seen.double()}
    fit = ppl.fit(model, data, guide=guide, max_steps=1, step_size=1e-12, backend="eager", seed=1)
    checks = named(audit(fit, num_rows=3, mcmc=False, num_simulations=20, seed=1))
    assert checks["predictive calibration"].passed is True
    assert checks["generated features"].passed is None
    assert "masks" in checks["generated features"].detail


def shared_scale(kind):
    """An exact q(z | x, scale), and a scale that all rows share; or a discrete latent of each row."""
    x = torch.randn(60, 1, generator=torch.Generator().manual_seed(7))

    def model(x):
        scale = pyro.sample("scale", dist.LogNormal(torch.tensor(0.0), 0.1))
        with pyro.plate("datum", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))
            if kind == "discrete":
                z = z + pyro.sample("k", dist.Bernoulli(torch.full((len(x),), 0.5)))
            pyro.sample("x", dist.Normal(z[..., None], scale).to_event(1), obs=x)

    def guide(x):
        loc = pyro.param("loc", torch.tensor(0.0))
        scale = pyro.sample("scale", dist.LogNormal(loc, 0.1))
        variance = scale**2 / (1.0 + scale**2)
        with pyro.plate("datum", len(x)):
            pyro.sample("z", dist.Normal(x[:, 0] / (1.0 + scale**2), variance.sqrt()))
            if kind == "discrete":
                pyro.sample("k", dist.Bernoulli(torch.full((len(x),), 0.5)))

    return ppl.fit(model, {"x": x}, guide=guide, max_steps=1, step_size=1e-12, backend="eager", seed=1)


def test_what_is_held_is_said():
    found = audit(shared_scale("continuous"), num_rows=10, num_simulations=20, mcmc=False, seed=1)
    assert "scale" in found.config["held"]
    assert "held" in repr(found)


def test_a_discrete_latent_is_refused():
    with pytest.raises(ModelError, match="discrete"):
        audit(shared_scale("discrete"), mcmc=False)


LEVELS = torch.linspace(-2.0, 4.0, 2_001, dtype=torch.float64)


def counts(spread=0.5, num_rows=400, seed=0):
    """Y ~ Poisson(exp eps), eps ~ N(1, 0.5): nothing learnt, one feature, a normal q with the posterior's moments."""
    generator = torch.Generator().manual_seed(seed)
    eps = 1.0 + spread * torch.randn(num_rows, generator=generator, dtype=torch.float64)
    y = torch.poisson(eps.exp(), generator=generator)
    table = torch.arange(60.0, dtype=torch.float64)[:, None] * LEVELS - LEVELS.exp() - 2.0 * (LEVELS - 1.0) ** 2
    weights = torch.softmax(table, 1)
    means = weights @ LEVELS
    sds = (weights @ LEVELS.square() - means.square()).sqrt()

    def model(y=None, num_rows=None):
        number = len(y) if y is not None else num_rows
        with pyro.plate("datum", number):
            eps = pyro.sample("eps", dist.Normal(torch.ones(number), 0.5))
            return pyro.sample("y", dist.Poisson(eps.exp()), obs=y)

    def guide(y=None, num_rows=None):
        scale = pyro.param("scale", torch.tensor(1.0, dtype=torch.float64))
        place = y.long().clamp(max=59)
        with pyro.plate("datum", len(y)):
            pyro.sample("eps", dist.Normal(means[place], scale * sds[place]))

    return ppl.fit(model, {"y": y}, guide=guide, max_steps=1, step_size=1e-12, backend="eager", seed=1)


def test_a_model_of_one_feature_that_is_true_passes():
    """Weights of rows with large counts are heavy; what would be left without them is too much in the middle."""
    few = {"num_rows": 3, "mcmc": False, "num_simulations": 20}
    found = [named(audit(counts(seed=seed), seed=seed, **few))["predictive calibration"] for seed in range(3)]
    assert sum(check.passed is False for check in found) <= 1  # of three, two fail with a probability of 0.0003
    assert all("the only feature" in check.detail for check in found)
    for spread in (0.0, 1.0):
        assert named(audit(counts(spread), seed=1, **few))["predictive calibration"].passed is False


def test_a_nearly_exact_q_is_not_rejected_for_its_tail_and_its_chains_pass():
    found = audit(counts(), num_rows=8, num_simulations=20, seed=1)
    checks = named(found)
    assert checks["k-hat by datum"].passed is True
    assert "nearly constant weights" in checks["k-hat by datum"].detail
    assert checks["inference gap"].passed is True
    assert checks["rows whose MCMC fails its gates"].passed is True, checks
    assert found.verdict != "reject"
