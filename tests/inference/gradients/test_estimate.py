"""One gradient of a free expectation with its error, and what users may get wrong."""

import numpy as np
import pyro
import pyro.distributions as pyro_dist
import pytest
import torch
import torch.distributions as dist
from pyro.distributions.testing.fakes import NonreparameterizedNormal

from ppl_models.errors import OptionError, UnknownNameError
from ppl_models.inference.gradients import estimate_gradient, free_setting, make_replicates
from ppl_models.program.estimators import ESTIMATORS, Reparameterised, Score, StickingTheLanding, make_estimator

Z = 4.5
MU = torch.tensor(1.3, dtype=torch.float64)
T, PHI = 0.499, torch.tensor(0.3, dtype=torch.float64)
SHARE = float(PHI.sigmoid())
EXACT = SHARE * (1.0 - SHARE) * (1.0 - 2.0 * T)


def square(z):
    return z**2


def normal(mu):
    return dist.Normal(mu, 1.0)


def quadratic(b):
    return (b - T) ** 2


def flip(phi):
    return dist.Bernoulli(logits=phi)


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("estimator", "variance"),
    [(Score("none"), float(MU**4 + 14 * MU**2 + 15)), (Reparameterised(), 4.0)],
    ids=["score", "path"],
)
def test_variance_of_one_draw_is_the_known_one(estimator, variance):
    setting = free_setting(square, normal, MU)
    with setting.enter(4):
        found = make_replicates(setting, estimator, num_draws=1, num_replicates=100_000).gradients[:, 0]
    squares = (found - 2.0 * float(MU)) ** 2
    assert abs(squares.mean() - variance) < Z * squares.std() / np.sqrt(len(squares))
    assert abs(found.mean() - 2.0 * float(MU)) < Z * found.std() / np.sqrt(len(found))


@pytest.mark.statistical
@pytest.mark.parametrize("name", ["score", "nvil", "rebar", "relax"])
def test_gradient_of_a_coin_is_the_known_one(name):
    found = estimate_gradient(quadratic, flip, PHI, estimator=name, num_draws=20_000, num_tuning=30, seed=2)
    assert found.gradient["q"].shape == ()
    assert abs(found.gradient["q"] - EXACT) < Z * found.standard_error["q"]
    assert abs(found.value - (SHARE * (1 - T) ** 2 + (1 - SHARE) * T**2)) < Z * found.value_error
    assert not found.biased
    assert found.checks[0].passed


def test_gradient_of_a_coin_by_enumeration_is_exact():
    found = estimate_gradient(quadratic, flip, PHI, estimator="enumeration")
    assert float(found.gradient["q"]) == pytest.approx(EXACT, rel=1e-10)
    assert (float(found.standard_error["q"]), found.num_draws) == (0.0, 1)


@pytest.mark.statistical
@pytest.mark.parametrize("name", ["gumbel_softmax", "straight_through"])
def test_bias_of_a_coin_is_seen_and_labelled(name):
    found = estimate_gradient(quadratic, flip, PHI, estimator=name, num_draws=20_000)
    assert found.biased
    assert "[biased]" in repr(found)
    assert abs(found.gradient["q"] - EXACT) > Z * found.standard_error["q"]


@pytest.mark.statistical
def test_errors_cover_as_often_as_they_should():
    """2,000 intervals of 95 %: a right share is within 0.93 and 0.97 but once in 20,000 times."""
    setting = free_setting(square, normal, MU)
    with setting.enter(7):
        each = make_replicates(setting, Reparameterised(), num_draws=20, num_replicates=2_000 * 100).gradients[:, 0]
    groups = each.reshape(2_000, 100)
    error = groups.std(axis=1, ddof=1) / 10.0
    share = np.mean(np.abs(groups.mean(axis=1) - 2.0 * float(MU)) < 1.96 * error)
    assert 0.93 < share < 0.97


def test_parameters_by_name_keep_their_shapes():
    parameters = {"mean": torch.zeros(3), "log_scale": torch.zeros(())}
    found = estimate_gradient(
        lambda z: (z * torch.arange(3.0)).sum(),
        lambda p: pyro_dist.Normal(p["mean"], p["log_scale"].exp()).to_event(1),
        parameters,
        estimator="reparameterised",
        num_draws=200,
    )
    np.testing.assert_allclose(found.gradient["mean"], [0.0, 1.0, 2.0], rtol=1e-6)
    assert found.gradient["log_scale"].shape == ()
    assert found.config["seed"] == 0
    assert "mean[2]" in repr(found)
    assert "<table>" in found._repr_html_()


def test_at_the_posterior_the_gradient_without_the_score_is_zero():
    """z ~ Normal(0, 1), x | z ~ Normal(z, 1) has the posterior Normal(x / 2, 1 / 2)."""
    x = torch.tensor(0.8, dtype=torch.float64)
    posterior = {"mean": x / 2.0, "variance": torch.tensor(0.5, dtype=torch.float64)}

    def log_joint(z):
        return dist.Normal(0.0, 1.0).log_prob(z) + dist.Normal(z, 1.0).log_prob(x)

    setting = free_setting(
        log_joint, lambda p: dist.Normal(p["mean"], p["variance"].sqrt()), posterior, log_density=True
    )
    with setting.enter(0):
        still, noisy = (
            make_replicates(setting, one, num_draws=1, num_replicates=100).gradients
            for one in (StickingTheLanding(), Reparameterised())
        )
    assert np.abs(still).max() < 1e-12
    assert np.abs(noisy).max(axis=0).min() > 0.1


def test_the_same_seed_gives_the_same_numbers():
    one, same, other = (
        estimate_gradient(square, normal, MU, num_draws=100, seed=seed).gradient["q"] for seed in (1, 1, 2)
    )
    assert one == same != other


def test_functions_that_look_at_values_run_one_draw_at_a_time():
    def stepped(z):
        return z**2 if float(z.detach()) > 0 else z * 0.0

    found = estimate_gradient(stepped, normal, MU, estimator="score", num_draws=200)
    assert found.num_draws == 200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"f": lambda z: z.expand(3)}, r"shape \(3,\), wanted a scalar"),
        ({"f": lambda z: z @ z}, "f: failed at one draw"),
        ({"q": lambda _: 3.0}, "q: found float"),
        ({"q": lambda p: dist.Normal(p["mu"], 1.0)}, "q: failed at these parameters"),
        ({"parameters": 1.3}, "parameters: found float, wanted a floating tensor"),
        ({"parameters": {}}, "parameters: found none"),
        ({"parameters": torch.tensor(1)}, "wanted a floating tensor"),
        ({"parameters": torch.tensor(float("nan"))}, "not finite"),
        ({"num_draws": 0}, "num_draws"),
        ({"seed": -1}, "seed"),
        (
            {"q": flip, "estimator": "reparameterised"},
            r"\(Bernoulli\) is not reparameterised. Take 'score'.*'enumeration'",
        ),
        ({"q": flip, "estimator": "total"}, "not reparameterised"),
        ({"q": lambda mu: NonreparameterizedNormal(mu, 1.0), "estimator": "reparameterised"}, "Take 'score'"),
        ({"estimator": "rebar"}, r"and q \(Normal\) is neither"),
        ({"estimator": "enumeration"}, "no list of them"),
        ({"f": lambda z: (z > 0).double(), "estimator": "reparameterised"}, "no path to the draw.*Take 'score'"),
        ({"estimator": "importance_weighted"}, "log_density=True"),
        ({"estimator": "score", "estimator_options": {"baseline": "median"}}, "baseline"),
    ],
)
def test_what_users_get_wrong(options, message):
    given = {"f": square, "q": normal, "parameters": MU, "num_draws": 200, **options}
    f, q, parameters = given.pop("f"), given.pop("q"), given.pop("parameters")
    with pytest.raises((OptionError, UnknownNameError), match=message):
        estimate_gradient(f, q, parameters, **given)


def test_an_integrand_that_is_nan_is_said():
    found = estimate_gradient(lambda z: (z - 3.0).log(), normal, MU, num_draws=1_000)
    assert found.checks[0].passed is False
    assert np.isnan(found.gradient["q"])
    assert "FAIL" in repr(found)


def test_every_estimator_tells_its_options():
    for name in ESTIMATORS:
        made = make_estimator(name)
        assert name in repr(made)
        assert make_estimator(name, made.options) == made


def test_nothing_is_left_in_the_callers_store():
    pyro.clear_param_store()
    estimate_gradient(square, normal, MU, num_draws=100)
    assert not dict(pyro.get_param_store())


TWO = {"m": torch.zeros(2), "s": torch.ones(2)}


def two(p):
    return pyro_dist.Normal(p["m"], p["s"]).to_event(1)


@pytest.mark.parametrize("estimator", ["score", "reparameterised"])
def test_faults_of_f_and_q_are_said_plainly(estimator):
    def fails(f, q, match):
        with pytest.raises(OptionError, match=match):
            estimate_gradient(f, q, TWO, estimator=estimator, num_draws=200)

    fails(torch.sum, lambda p: pyro_dist.Normal(p["m"], -p["s"]).to_event(1), "q: Normal has scale -1 at")
    fails(torch.sum, lambda p: dist.StudentT(3.0, p["m"], -p["s"]), "q: StudentT has scale -1 at")
    fails(lambda z: np.exp(z.numpy()).sum(), two, "torch functions, such as torch.exp for np.exp")
    fails(torch.sum, lambda p: dist.Normal(torch.tensor(p["m"].detach().numpy()), 1.0), "torch functions")


def test_an_estimator_that_does_not_serve_speaks_of_q():
    with pytest.raises(OptionError, match=r"and q \(Bernoulli\) is not reparameterised"):
        estimate_gradient(quadratic, flip, PHI, estimator="reparameterised")


@pytest.mark.parametrize("estimator", ["score", "reparameterised"])
def test_a_parameter_that_q_ignores_is_a_failed_check(estimator):
    def found(q):
        return estimate_gradient(torch.sum, q, TWO, estimator=estimator, num_draws=200)

    assert found(two).checks[1].passed
    planted = found(lambda p: pyro_dist.Normal(p["m"], p["s"].detach()).to_event(1))
    assert planted.checks[1].passed is False
    assert "depend on 's'," in planted.checks[1].detail
    assert "To do: use the parameters inside q" in repr(planted)
    assert found(lambda p: pyro_dist.Normal(torch.zeros(2), 1.0).to_event(1)).checks[1].value == 2.0


def test_what_is_not_a_number_comes_with_advice():
    found = estimate_gradient(lambda z: z.log().sum(), two, TWO, num_draws=200)
    assert found.checks[0].passed is False
    assert "To do: keep q where f" in repr(found)


def test_one_parameter_and_one_draw_are_called_so():
    text = repr(estimate_gradient(quadratic, flip, PHI, estimator="enumeration"))
    assert "enumeration, 1 draw\n" in text
    assert "d / d parameter " in text
