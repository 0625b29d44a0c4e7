"""`ppl.fit(estimator=...)`: what it takes, what it refuses, and where it arrives."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from closed_forms import COVARIANCE, DATA, EVIDENCE, MEAN, regression
from pyro.distributions.testing.fakes import NonreparameterizedNormal
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam

import guides as families
import ppl_models as ppl
from ppl_models.engine import elbo_function
from ppl_models.errors import OptionError, UnknownNameError
from ppl_models.inference.estimating import default_particles
from ppl_models.inference.estimator_elbo import EstimatorELBO
from ppl_models.inference.particles import can_vmap_particles
from ppl_models.program import build_program
from ppl_models.program.estimators import (
    DoublyReparameterised,
    ImportanceWeighted,
    Nvil,
    Score,
    StickingTheLanding,
    Total,
    Vimco,
)


def fit(**options):
    return ppl.fit(regression, DATA, **{"guide": "normal", "backend": "eager", "max_steps": 2, "seed": 1, **options})


def by_score(x, y=None):
    location = pyro.param("location", torch.zeros(2))
    pyro.sample("weights", NonreparameterizedNormal(location, 0.5).to_event(1))


def test_an_unknown_name_lists_the_others_nearest_first():
    with pytest.raises(UnknownNameError, match="nearest first: sticking_the_landing"):
        fit(estimator="sticking")
    with pytest.raises(UnknownNameError, match="nearest first: num_importance"):
        fit(estimator="renyi", estimator_options={"num_importanc": 3})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"estimator": "total", "elbo": Trace_ELBO()}, "give one of the two"),
        ({"estimator": "score", "num_particles": 1}, "at least 2"),
        ({"estimator_options": {"alpha": 0.5}}, "'auto' takes none"),
        ({"estimator": "entropy", "estimator_options": {"alpha": 0.5}}, "'entropy' has none"),
        ({"estimator": "renyi", "estimator_options": {"alpha": "half"}}, "wanted a finite number"),
        ({"estimator": "importance_weighted", "estimator_options": {"num_importance": 0}}, "at least 1"),
        ({"estimator": "entropy", "guide": "iaf"}, "'_AutoInverseAutoregressive_latent'|has none"),
        ({"estimator": "sticking_the_landing", "guide": "structured"}, "with parameters of its own"),
        ({"estimator": "sticking_the_landing", "guide": by_score}, "'weights'.*not reparameterised. Take 'score'"),
        ({"estimator": "total", "guide": "laplace", "method": "newton"}, "only method='svi'"),
    ],
)
def test_what_does_not_go_together_is_refused(options, message):
    with pytest.raises(OptionError, match=message):
        fit(**options)


@pytest.mark.parametrize(
    ("guide", "name", "particles"),
    [
        ("normal", "total", 64),
        ("full_rank", "sticking_the_landing", 100),
        ("structured", "total", 64),
        (by_score, "score", 64),
    ],
)
def test_auto(guide, name, particles):
    config = fit(guide=guide).config
    assert (config["estimator"], config["num_particles"]) == (name, particles)


def test_options_are_recorded():
    config = fit(estimator="renyi", estimator_options={"alpha": 0.25, "num_importance": 8}).config
    assert config["estimator_options"] == {"alpha": 0.25, "num_importance": 8}
    assert config["num_particles"] == 8
    assert config["elbo"] == "EstimatorELBO"


def test_particles_fall_with_the_draws_inside():
    program = build_program(regression, DATA)
    assert [default_particles(program, one) for one in (Total(), StickingTheLanding(), ImportanceWeighted(16))] == [
        64,
        100,
        4,
    ]
    assert default_particles(program, ImportanceWeighted(1_000)) == 1
    wide = build_program(regression, {"x": np.zeros((150_000, 2)), "y": np.zeros(150_000)})
    assert default_particles(wide, Score()) == 2


@pytest.mark.exhaustive
def test_exact_family_arrives_at_the_posterior_without_noise():
    done = fit(guide="full_rank", max_steps=1_500)
    mean, error = done.elbo(2_000)
    assert mean == pytest.approx(EVIDENCE, abs=1e-3)
    assert error < 1e-4


def test_score_fits_a_guide_that_is_not_reparameterised():
    done = fit(guide=by_score, estimator="score", max_steps=1_500)
    assert done.config["num_particles"] == 64
    weights = done.sample(2_000, seed=1).posterior["weights"].to_numpy().reshape(-1, 2)
    error = 0.5 / np.sqrt(2_000) + 0.02
    assert np.abs(weights.mean(axis=0) - MEAN.numpy()).max() < 4.5 * error


def flagged(y):
    """y_i ~ Normal(3 b_i, 1), b_i ~ Bernoulli(0.4); the posterior of b_i is known."""
    with pyro.plate("row", len(y)):
        flag = pyro.sample("flag", dist.Bernoulli(0.4))
        pyro.sample("y", dist.Normal(3.0 * flag, 1.0), obs=y)


def flagging(y):
    logits = pyro.param("logits", torch.zeros(len(y)))
    with pyro.plate("row", len(y)):
        pyro.sample("flag", dist.Bernoulli(logits=logits))


FLAGS = torch.tensor([0.6, 2.9, 1.4, 1.9], dtype=torch.float64)
FLAG_LOGITS = np.log(0.4 / 0.6) + 3.0 * FLAGS.numpy() - 4.5
UNBIASED_FITS = [
    pytest.param("enumeration", {}),
    *(
        pytest.param(name, options, marks=pytest.mark.exhaustive)
        for name, options in (
            ("nvil", {}),
            ("rebar", {}),
            ("relax", {}),
            ("score", {"baseline": "running"}),
            ("score", {"baseline": "learned"}),
        )
    ),
]


@pytest.mark.parametrize("name", ["nvil", "rebar", "relax", "gumbel_softmax", "straight_through", "score", "total"])
def test_estimators_of_discrete_guides_step(name):
    done = ppl.fit(flagged, (FLAGS,), guide=flagging, estimator=name, num_particles=2, max_steps=2, step_size=0.05)
    assert done.steps == 2
    assert np.isfinite(done.losses).all()


@pytest.mark.parametrize("estimator", [Score(), Score("learned"), Nvil(), Vimco(2)], ids=repr)
def test_estimators_of_discrete_guides_are_captured_where_nothing_is_discrete(estimator):
    program = build_program(regression, DATA)
    with program.isolated(seed=0):
        guide = families.make("normal", regression)
        guide(**DATA)
        elbo_function(program, guide, estimator, 4).prove()


@pytest.mark.parametrize(("name", "options"), UNBIASED_FITS)
def test_estimators_of_discrete_guides_arrive(name, options):
    particles = 1 if name == "enumeration" else 16
    done = ppl.fit(
        flagged,
        (FLAGS,),
        guide=flagging,
        estimator=name,
        estimator_options=options,
        num_particles=particles,
        max_steps=300,
        step_size=0.05,
        seed=1,
    )
    assert (done.backend, done.config["estimator"]) == ("eager", name)
    # the unconstrained optimum is the posterior's logits; what is left is the noise of Adam's steps
    share = 1.0 / (1.0 + np.exp(-done.parameters["logits"].numpy()))
    np.testing.assert_allclose(share, 1.0 / (1.0 + np.exp(-FLAG_LOGITS)), atol=0.05)
    assert set(done.parameters) == {"logits"}


def test_what_an_estimator_learns_stays_out_of_the_store_and_of_the_next_fit():
    options = {"guide": flagging, "estimator": "nvil", "num_particles": 2, "max_steps": 3, "step_size": 0.05, "seed": 1}
    one, other = (ppl.fit(flagged, (FLAGS,), **options) for _ in range(2))
    np.testing.assert_array_equal(one.losses, other.losses)
    np.testing.assert_array_equal(one.parameters["logits"], other.parameters["logits"])


def test_the_multi_sample_bound_of_a_discrete_guide():
    done = ppl.fit(
        flagged,
        (FLAGS,),
        guide=flagging,
        estimator="vimco",
        estimator_options={"num_importance": 4},
        max_steps=2,
        seed=1,
    )
    assert done.config["num_particles"] == 16
    assert done.config["estimator_options"] == {"num_importance": 4}


@pytest.mark.parametrize(
    ("guide", "name", "message"),
    [
        ("normal", "rebar", "there are none. Take 'reparameterised', or 'total'"),
        ("normal", "enumeration", "there are none. Take 'total'"),
        (by_score, "relax", "is neither. Take 'score'"),
        (by_score, "enumeration", "no list of them. Take 'score'"),
        (by_score, "reparameterised", "is not reparameterised. Take 'score'"),
    ],
)
def test_guides_that_an_estimator_cannot_serve_are_refused_by_name(guide, name, message):
    with pytest.raises(OptionError, match=message):
        fit(guide=guide, estimator=name)


def test_draws_of_discrete_guides_are_vectorised():
    def model(y):
        flag = pyro.sample("flag", dist.Bernoulli(0.3))
        pyro.sample("y", dist.Normal(flag, 1.0), obs=y)

    def guide(y):
        pyro.sample("flag", dist.Bernoulli(logits=pyro.param("logit", torch.tensor(0.0))))

    program = build_program(model, (torch.tensor(0.7),))
    with program.isolated(seed=0):
        assert can_vmap_particles(program, guide, Score())
        assert not can_vmap_particles(program, guide)


@pytest.mark.parametrize("estimator", [StickingTheLanding(), DoublyReparameterised(4)], ids=lambda one: one.name)
def test_an_estimator_is_an_elbo_of_pyros(estimator):
    tril = torch.linalg.cholesky(COVARIANCE)

    def guide(x, y=None):
        location = pyro.param("location", MEAN + 0.3)
        pyro.sample("weights", dist.MultivariateNormal(location, scale_tril=tril))

    with build_program(regression, DATA).isolated(seed=0):
        svi = SVI(regression, guide, Adam({"lr": 0.02}), EstimatorELBO(estimator, num_particles=8))
        for _ in range(300):
            svi.step(**DATA)
        np.testing.assert_allclose(pyro.param("location").detach().numpy(), MEAN.numpy(), atol=1e-3)
