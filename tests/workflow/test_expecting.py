import math

import numpy as np
import pytest
import torch
from torch import distributions as dist

from ppl_models.errors import DataError, OptionError, UnknownNameError
from ppl_models.inference.monte_carlo.integrands import INTEGRANDS
from ppl_models.inference.monte_carlo.plain import Plain
from ppl_models.workflow.expecting import FIRST_DRAWS, expect

NORMAL = dist.Normal(0.0, 1.0)
FOUNDING = INTEGRANDS["founding"]


def bump(z):
    return torch.exp(-(z**2))


def test_the_founding_example_prints_one_line():
    found = expect(bump, NORMAL, 1_000_000)
    assert abs(float(found) - FOUNDING.exact) < 4.0 * found.standard_error
    assert found.standard_error == pytest.approx(math.sqrt(0.1138803 / 1e6), rel=0.01)
    low, high = found.interval
    assert high - low == pytest.approx(2 * 1.959964 * found.standard_error, rel=1e-4)
    assert repr(found) == (
        f"{found.estimate:.5f} ± {found.standard_error:.5f} (95 %: {low:.5f} to {high:.5f}), plain, 1,000,000 draws"
    )
    assert found.passed
    assert found.status == "fixed"
    assert isinstance(found.estimate, float)
    assert found.config["seed"] == 0
    assert "torch" in found.config["versions"]


def test_the_same_seed_gives_the_same_and_another_another():
    one, again, other = (expect(bump, NORMAL, 1_000, seed=seed).estimate for seed in (3, 3, 4))
    assert one == again != other


def test_several_outputs_are_arrays():
    found = expect(lambda z: torch.stack([z, z**2, z**3, z**4], 1), NORMAL, 20_000)
    assert found.estimate.shape == found.standard_error.shape == (4,)
    assert found.interval.shape == (2, 4)
    assert (np.abs(found.estimate - [0.0, 1.0, 0.0, 3.0]) < 4.5 * found.standard_error).all()
    assert "of shape (4,)" in repr(found)


def test_samplers_of_either_kind():
    def sampler(num_draws):
        return np.random.standard_normal((num_draws, 2))  # noqa: NPY002

    found = expect(lambda x: x[:, 0] * x[:, 1], sampler, 10_000)
    assert abs(found.estimate) < 4.5 * found.standard_error
    named = expect(lambda d: d["a"] + 1.0, lambda n: {"a": torch.randn(n)}, 10_000)
    assert abs(named.estimate - 1.0) < 4.5 * named.standard_error
    with pytest.raises(DataError, match=r"returned draws of shape \(3,\), wanted \(10000, ...\)"):
        expect(bump, lambda n: torch.zeros(3), 10_000)
    with pytest.raises(DataError, match="failed for 10,000 draws"):
        expect(bump, lambda: torch.zeros(3), 10_000)


def test_a_wanted_error_is_met_by_doubling_or_the_budget_says_so():
    found = expect(bump, NORMAL, target_error=2e-3)
    assert found.status == "met"
    assert found.standard_error <= 2e-3
    assert found.num_draws == FIRST_DRAWS * 8  # 0.1138803 / 2e-3² = 28,470 draws are wanted
    spent = expect(bump, NORMAL, target_error=1e-3, budget=50_000)
    assert spent.status == "budget"
    assert spent.num_draws == 50_000
    assert "the budget was spent" in repr(spent)


def test_quasi_meets_what_plain_cannot():
    assert expect(bump, NORMAL, target_error=1e-5, method="quasi", budget=100_000).status == "met"


def test_draws_that_saw_nothing_have_not_met_their_error():
    known = INTEGRANDS["rare_event"]
    found = expect(lambda z: z > 7.0, known.q, target_error=1e-3, budget=10_000)
    assert found.status == "budget"
    assert "all 10,000 values are equal" in found.warning


@pytest.mark.statistical
def test_stopping_at_a_look_costs_a_skewed_f_little():
    """At the target where half of the runs stop at the first look, for a skewed f, where stopping matters most."""
    known = INTEGRANDS["exponential"]
    target = math.sqrt((math.e**2 - math.e) / FIRST_DRAWS) * 0.97
    found = [expect(known.f, NORMAL, target_error=target, seed=seed) for seed in range(400)]
    sizes = {each.num_draws for each in found}
    assert sizes >= {FIRST_DRAWS, 2 * FIRST_DRAWS}
    assert all(each.passed for each in found)
    errors = np.array([each.estimate - known.exact for each in found])
    bias = errors.mean() / target
    assert abs(bias) < 0.2 + 4.0 / math.sqrt(len(found))
    coverage = np.mean([low <= known.exact <= high for low, high in (each.interval for each in found)])
    assert 0.92 <= coverage <= 0.98  # 400 runs: three errors about 0.95


def test_draws_are_added_until_the_checks_pass():
    """At 4,096 draws the error of exp(1.5 z) is far below the target, and its skewness is 0.5."""

    def steep(z):
        return torch.exp(1.5 * z)

    first = expect(steep, NORMAL, FIRST_DRAWS)
    assert first.standard_error < 1.0
    assert not first.passed
    found = expect(steep, NORMAL, target_error=1.0)
    assert found.status == "met"
    assert found.passed
    assert found.num_draws > FIRST_DRAWS
    spent = expect(
        INTEGRANDS["infinite_variance"].f, INTEGRANDS["infinite_variance"].q, target_error=10.0, budget=9_000
    )
    assert (spent.status, spent.num_draws) == ("budget", 9_000)


def test_no_budget_is_spent_on_what_draws_do_not_mend():
    found = expect(bump, NORMAL, target_error=1e-3, method="quasi", num_replicates=4)
    assert not found.passed
    assert (found.status, found.num_draws) == ("met", FIRST_DRAWS)


@pytest.mark.parametrize("name", ["infinite_variance", "rare_event"])
def test_error_bars_that_cannot_be_trusted_are_said(name):
    known = INTEGRANDS[name]
    found = expect(known.f, known.q, 100_000)
    assert not found.passed
    assert "the error bar cannot be trusted" in repr(found)
    assert "\n" not in repr(found)
    assert "cannot be trusted" in found._repr_html_()


def test_confidence_and_few_draws_widen_the_interval():
    wide, usual = (expect(bump, NORMAL, 1_000, confidence=level) for level in (0.99, 0.95))
    assert np.ptp(wide.interval) > 1.2 * np.ptp(usual.interval)
    few = expect(bump, NORMAL, 3)
    assert np.ptp(few.interval) == pytest.approx(2 * 4.302653 * few.standard_error, rel=1e-6)
    assert not few.passed


def test_a_method_with_its_options_and_options_of_a_named_one():
    assert expect(bump, NORMAL, 1_000, method=Plain()).method == "plain"
    found = expect(bump, NORMAL, 4_096, method="quasi", num_replicates=8)
    assert len(found.evidence["replicates"]) == 8
    assert found.config["options"] == {"num_replicates": 8}


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"num_draws": 1}, OptionError, "num_draws: found 1"),
        ({"num_draws": 10, "target_error": 0.1}, OptionError, "beside target_error"),
        ({"target_error": 0.0}, OptionError, "target_error"),
        ({"confidence": 95}, OptionError, "confidence: found 95"),
        ({"budget": 0}, OptionError, "budget"),
        ({"seed": -1}, OptionError, "seed"),
        ({"method": "plane"}, UnknownNameError, "plain"),
        ({"folds": 3}, OptionError, "folds: not an option of method 'plain'; it has: none"),
        ({"method": "mcmc"}, OptionError, "tree"),
    ],
)
def test_wrong_options(options, error, words):
    with pytest.raises(error, match=words):
        expect(bump, NORMAL, **options)


def test_what_can_be_averaged_over():
    with pytest.raises(DataError, match="q: found int, wanted a torch or Pyro distribution"):
        expect(bump, 3)
    with pytest.raises(DataError, match="depends on the other draws"):
        expect(lambda z: z - z.mean(), NORMAL)
    with pytest.raises(DataError, match="values are not finite"):
        expect(torch.log, NORMAL)
