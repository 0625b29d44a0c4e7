"""How results print, and the registry of methods."""

import math

import pyro.distributions as dist
import pytest
import torch

import ppl_models as ppl
from ppl_models.errors import OptionError
from ppl_models.inference.monte_carlo.expectation import rounded, together
from ppl_models.inference.monte_carlo.registry import METHODS, describe_methods

NORMAL = dist.Normal(0.0, 1.0)


def test_small_numbers_have_a_power_of_ten():
    assert rounded(2.619e-7, 2.8e-9) == ("2.619e-07", "2.8e-09")
    assert rounded(2.619e-7, 2.8e-9, 0.0, -2.6e-9) == ("2.619e-07", "2.8e-09", "0", "-2.6e-09")
    assert rounded(2.619e-2, 2.8e-4) == ("0.02619", "0.00028")
    assert rounded(0.0, 2.8e-5) == ("0", "2.8e-05")


def test_advice_is_said_once():
    assert together(["raise num_draws", "", "raise num_draws, or give another"]) == "raise num_draws; give another"
    assert together(["take this with care", "raise, or take this"]) == "take this with care; raise"


def test_an_event_that_never_happened_has_the_bound_of_the_rule_of_three():
    """The bound's meaning: at p = bound, no event in n draws has the probability 1 - confidence."""
    found = ppl.expect(lambda z: z > 9.0, NORMAL, 1_000)
    assert "never happened has a probability below 0.003 (95 %" in found.warning
    assert (1.0 - -math.log(0.05) / 1_000) ** 1_000 == pytest.approx(0.05, rel=0.01)
    assert "above 1 - 0.003" in ppl.expect(lambda z: z < 9.0, NORMAL, 1_000).warning
    for f, method in ((lambda z: z > 0.0, "plain"), (lambda z: z > 9.0, "quasi"), (lambda z: 0.0 * z + 2.0, "plain")):
        assert "rule of three" not in ppl.expect(f, NORMAL, 1_000, method=method).warning


def test_a_proposal_of_another_kind_is_refused_by_name():
    for proposal, q in ((dist.Poisson(3.0), dist.Exponential(1.0)), (dist.Exponential(1.0), dist.Poisson(3.0))):
        with pytest.raises(OptionError, match=f"{type(proposal).__name__} is .* and q, {type(q).__name__}"):
            ppl.expect(lambda z: z, q, 100, method="importance", proposal=proposal)


def test_draws_that_are_not_reached_are_counted():
    found = ppl.expect(lambda z: z, NORMAL, 1_000, method="importance", proposal=dist.Uniform(8.0, 9.0))
    assert "no density at 1,000 of 1,000 draws" in found.warning


def test_methods_are_described_with_their_options():
    lines = describe_methods().splitlines()
    assert [line.split("(")[0] for line in lines] == list(METHODS)
    assert any(line.startswith("quasi(num_replicates=32): Scrambled") for line in lines)


def test_outputs_of_both_kinds_have_both_bounds():
    found = ppl.expect(lambda z: torch.stack([z > 9.0, z < 9.0], 1), NORMAL, 1_000, confidence=0.9)
    assert "below 0.0023, one that always happened has a probability above 1 - 0.0023 (90 %" in found.warning
