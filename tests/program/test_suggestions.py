"""Data outside their likelihood's support are refused with the likelihood that would do."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from ppl_models.errors import DataError
from ppl_models.program import build_program, prepare_arguments
from ppl_models.program.suggestions import check_support, outside_support

GREYS = [[0.0, 0.25], [1.0, 0.5]]
LIKELIHOODS = {
    "bernoulli": lambda z: dist.Bernoulli(logits=z),
    "continuous_bernoulli": lambda z: dist.ContinuousBernoulli(logits=z),
    "poisson": lambda z: dist.Poisson(z.exp()),
    "negative_binomial": lambda z: dist.NegativeBinomial(torch.tensor(2.0), logits=z),
    "gamma_poisson": lambda z: dist.GammaPoisson(torch.tensor(2.0), z.exp()),
    "categorical": lambda z: dist.Categorical(logits=torch.stack([z, -z, z], -1)),
    "binomial": lambda z: dist.Binomial(3, logits=z),
    "gamma": lambda z: dist.Gamma(2.0, z.exp()),
    "log_normal": lambda z: dist.LogNormal(z, 1.0),
    "normal": lambda z: dist.Normal(z, 1.0),
}


def autoencoder(likelihood):
    def model(x):
        with pyro.plate("datum", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 2), 1.0).to_event(1))
            pyro.sample("x", LIKELIHOODS[likelihood](z).to_event(1), obs=x)

    return model


@pytest.mark.parametrize(
    ("likelihood", "x", "words"),
    [
        (
            "bernoulli",
            GREYS,
            ["Bernoulli", "2 of 4 values are", "first 0.25 at index (0, 1)", "ContinuousBernoulli", "binarise"],
        ),
        ("bernoulli", [[0.0, 16.0], [3.0, 1.0]], ["counts or levels", "Categorical", "Poisson", "threshold"]),
        ("bernoulli", [[0.0, -1.3], [0.5, 1.0]], ["Gaussian (Normal)"]),
        ("poisson", [[0.0, -2.0], [3.0, 1.0]], ["Poisson", "1 of 4 values is", "No count is negative"]),
        ("poisson", [[0.0, 2.5], [3.0, 1.0]], ["not whole", "raw counts", "Gamma", "Gaussian"]),
        ("negative_binomial", [[0.0, 2.5], [3.0, 1.0]], ["NegativeBinomial", "not whole"]),
        ("negative_binomial", [[0.3, -1.2], [3.0, 1.0]], ["centred or scaled", "raw counts"]),
        ("gamma_poisson", [[-1.0, 2.0], [3.0, 1.0]], ["No count is negative"]),
        ("continuous_bernoulli", [[0.0, 16.0], [3.0, 1.0]], ["Divide", "255", "Gaussian"]),
        ("continuous_bernoulli", [[-0.5, 0.5], [0.2, 1.0]], ["shift and scale"]),
        ("categorical", [[0.0, 3.0], [2.0, 1.0]], ["from 0 to 2", "4 levels"]),
        ("categorical", [[1.0, 3.0], [2.0, 1.0]], ["subtract 1"]),
        ("categorical", [[-1.0, 1.0], [2.0, 1.0]], ["begin at 0"]),
        ("categorical", GREYS, ["not whole", "ContinuousBernoulli"]),
        ("binomial", [[0.0, 5.0], [2.0, 1.0]], ["from 0 to 3"]),
        ("log_normal", [[0.0, 5.0], [2.0, 1.0]], ["above 0", "There are zeros", "NegativeBinomial"]),
        ("gamma", [[-0.2, 5.0], [2.0, 1.0]], ["StudentT"]),
    ],
)
def test_the_likelihood_that_would_do_is_named(likelihood, x, words):
    with pytest.raises(DataError) as caught:
        build_program(autoencoder(likelihood), {"x": torch.tensor(x)})
    message = str(caught.value)
    assert all(word in message for word in ["site 'x' (argument 'x')", "outside the support", *words]), message
    assert "\n" not in message


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_draws_of_a_likelihood_are_inside(likelihood):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        fn = LIKELIHOODS[likelihood](torch.randn(50, 3)).to_event(1)
        assert outside_support(fn.support, fn.sample()) is None


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool, torch.float32])
def test_dtype_does_not_matter(dtype):
    zeros_and_ones = torch.tensor([[0, 1], [1, 1]]).to(dtype)
    assert outside_support(dist.constraints.boolean, zeros_and_ones) is None
    if dtype != torch.bool:
        assert "Categorical" in str(outside_support(dist.constraints.boolean, 3 * zeros_and_ones))


def test_other_rows_are_held_against_the_first_runs_support():
    program = build_program(autoencoder("bernoulli"), {"x": torch.eye(4)[:, :2]})
    for good in (torch.ones(7, 2), torch.zeros(1, 2)):
        check_support(program, prepare_arguments(program.model, {"x": good}, program.dtype))
    bad = torch.ones(9, 2)
    bad[8, 1] = 0.5
    with pytest.raises(
        DataError, match=r"site 'x' \(argument 'x'\): 1 of 18 values is .* index \(8, 1\).*ContinuousBern"
    ):
        check_support(program, prepare_arguments(program.model, {"x": bad}, program.dtype))


def test_bounds_of_other_rows_are_passed_over():
    """Trials of a binomial differ from row to row: the first run's bounds say nothing of other rows."""

    def model(x, trials):
        with pyro.plate("datum", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Binomial(trials, logits=z), obs=x)

    trials = torch.tensor([3.0, 5.0, 2.0])
    program = build_program(model, {"x": trials - 1, "trials": trials})
    for more in (torch.tensor([9.0, 8.0, 7.0, 6.0]), torch.tensor([9.0, 8.0, 7.0])):
        check_support(program, prepare_arguments(model, {"x": more, "trials": more}, program.dtype))
    with pytest.raises(DataError, match=r"from 0 to 5, the first 4 at index \(0,\)"):
        build_program(model, {"x": trials + 1, "trials": trials})


def test_nan_is_named_with_what_infers_it():
    with pytest.raises(DataError, match=r"'x': 1 of 4 values are NaN.*ppl\.impute"):
        build_program(autoencoder("bernoulli"), {"x": torch.tensor([[0.0, torch.nan], [1.0, 1.0]])})
    assert "NaN" in str(outside_support(dist.constraints.boolean, torch.tensor([1.0, torch.nan])))
