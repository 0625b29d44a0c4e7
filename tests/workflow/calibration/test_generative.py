"""Models that cannot make their own data are refused by name; what can be done for some of them is done."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

import ppl_models as ppl
from ppl_models.errors import DataError, ModelError, OptionError
from ppl_models.program import build_program
from ppl_models.workflow.calibration.generative import check_generative, observed_arguments
from ppl_models.workflow.calibration.simulate import BLOCK, Simulator, check_simulated
from tests.workflow.calibration import exact

Y = torch.tensor([0.5, -1.0, 2.0, 0.1])


def normal(y=None, *, prior=None, weight=1.0):
    mean = pyro.sample("mean", prior if prior is not None else dist.Normal(0.0, 1.0))
    with pyro.plate("row", 4), pyro.poutine.scale(scale=weight):
        pyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def improper(y=None):
    normal(y, prior=dist.ImproperUniform(constraints.real, (), ()))


def masked(y=None):
    normal(y, prior=dist.Normal(0.0, 1.0).mask(False))


def scaled_prior(y=None):
    with pyro.poutine.scale(scale=0.5):
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("row", 4):
        pyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def tempered(y=None):
    normal(y, weight=0.5)


def with_factor(y=None):
    normal(y)
    pyro.factor("penalty", torch.tensor(-1.0))


def with_parameter(y=None):
    normal(y, prior=dist.Normal(pyro.param("where", torch.tensor(0.0)), 1.0))


def mixture(y=None):
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with pyro.plate("row", 4):
        which = pyro.sample("which", dist.Categorical(torch.ones(2)), infer={"enumerate": "parallel"})
        pyro.sample("y", dist.Normal(mean[..., which], 1.0), obs=y)


@pytest.mark.parametrize(
    ("model", "kind", "said"),
    [
        (improper, "prior", "'mean': its prior is improper"),
        (improper, "posterior", None),
        (masked, "prior", "'mean': its prior is masked"),
        (masked, "posterior", None),
        (scaled_prior, "prior", "'mean': its prior is masked or scaled"),
        (tempered, "prior", "'y': its likelihood is scaled"),
        (tempered, "posterior", "'y': its likelihood is scaled"),
        (with_factor, "prior", "'penalty': a factor"),
        (with_parameter, "prior", "'where': the model learns it"),
        (mixture, "prior", None),
        (mixture, "posterior", "'which': it is summed out"),
        (normal, "prior", None),
    ],
)
def test_what_can_make_its_own_data(model, kind, said):
    program = build_program(model, {"y": Y})
    options = {"kind": kind, "amortised": False, "simulated": False}
    if said is None:
        check_generative(program, **options)
        return
    with pytest.raises(ModelError, match=said):
        check_generative(program, **options)


def test_parameters_and_scales_are_held_for_a_guide_that_reads_the_data():
    for model in (with_parameter, tempered):
        check_generative(build_program(model, {"y": Y}), kind="prior", amortised=True, simulated=False)


def test_a_factor_is_of_the_likelihood_where_the_user_simulates():
    check_generative(build_program(with_factor, {"y": Y}), kind="prior", amortised=False, simulated=True)


def test_arguments_that_are_observed_whole():
    assert observed_arguments(build_program(normal, {"y": Y})) == {"y": "y"}
    assert observed_arguments(build_program(normal, (Y,))) == {"y": "y"}
    for wrong, said in [
        (lambda y: normal(torch.log(y)), "no argument of the model as it is"),
        (lambda y: normal(y[:]), "no argument of the model as it is"),
        (lambda y: normal(torch.ones(4)), "no argument of the model as it is"),
        (twice_observed, "observed by two sites"),
    ]:
        with pytest.raises(DataError, match=said):
            observed_arguments(build_program(wrong, {"y": Y + 2.0}))
    with pytest.raises(DataError, match="stands for the whole of site 'y'"):
        observed_arguments(build_program(normal, {"y": torch.tensor(1.0)}))
    with pytest.raises(ModelError, match="observes nothing"):
        observed_arguments(build_program(normal, {"y": None}))


def twice_observed(y):
    normal(y)
    with pyro.plate("row again", 4):
        pyro.sample("z", dist.Normal(0.0, 1.0), obs=y)


def autoregressive(y=None):
    """Its lagged covariate is what it observes."""
    rho = pyro.sample("rho", dist.Normal(0.0, 0.5))
    lagged = torch.cat([torch.zeros(1), y[:-1]])
    with pyro.plate("time", 4):
        pyro.sample("y", dist.Normal(rho * lagged, 1.0), obs=y)


def simulator(model, data, simulate=None):
    program = build_program(model, data)
    return Simulator(program, program, {} if simulate else observed_arguments(program), simulate, 0)


def test_data_that_depend_on_what_they_replace_are_refused():
    with pytest.raises(DataError, match="'y': what it draws depends on the argument that it observes"):
        check_simulated(simulator(autoregressive, {"y": Y}), None)


def test_simulated_data_follow_their_truth():
    made = simulator(normal, {"y": Y})
    blocks = [made.block(index) for index in range(30)]
    truth = np.array([float(each.truth["mean"]) for block in blocks for each in block])
    data = np.array([each.arguments.kwargs["y"].numpy() for block in blocks for each in block])
    assert data.shape == (30 * BLOCK, 4)
    residual = (data - truth[:, None]).reshape(-1)
    assert abs(residual.mean()) < 4.0 / np.sqrt(residual.size)
    assert abs(residual.var() - 1.0) < 4.0 * np.sqrt(2.0 / residual.size)
    assert abs(truth.var() - 1.0) < 4.0 * np.sqrt(2.0 / truth.size)
    again = made.block(3)
    np.testing.assert_array_equal(again[4].arguments.kwargs["y"], blocks[3][4].arguments.kwargs["y"])


def test_whole_numbers_stay_what_the_model_takes():
    def counts(y):
        rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
        with pyro.plate("row", 4):
            pyro.sample("y", dist.Poisson(rate), obs=y)

    made = check_simulated(simulator(counts, {"y": torch.tensor([1, 2, 0, 4])}), None)
    assert (made.arguments.kwargs["y"] % 1 == 0).all()


def test_a_users_simulation(fit, refits):
    def simulate(latents, seed):
        noise = np.random.default_rng(seed).normal(size=exact.NUM_DATA)
        return {"y": latents["mean"].sum() + noise}

    found = ppl.calibrate(fit, simulate=simulate, num_simulations=60, num_draws=39, n_jobs=1)
    assert found.passed is True
    with pytest.raises(OptionError, match="simulate: returned list, wanted a mapping"):
        ppl.calibrate(fit, simulate=lambda latents, seed: [1.0], num_simulations=20, n_jobs=1)
    with pytest.raises(OptionError, match="kind='posterior'"):
        ppl.calibrate(fit, simulate=simulate, kind="posterior", num_simulations=20, n_jobs=1)


def test_a_wrong_simulation_fails(fit, refits):
    def louder(latents, seed):
        noise = 3.0 * np.random.default_rng(seed).normal(size=exact.NUM_DATA)
        return {"y": latents["mean"].sum() + noise}

    found = ppl.calibrate(fit, simulate=louder, num_simulations=60, num_draws=39, n_jobs=1)
    assert found.passed is False
