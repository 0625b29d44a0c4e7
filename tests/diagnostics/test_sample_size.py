import math

import numpy as np
import pytest

from ppl_models.diagnostics import check_khat, khat_limit, smallest_num_draws


@pytest.mark.parametrize(("khat", "fewest"), [(-1.0, math.sqrt(10)), (0.0, 10.0), (0.5, 100.0), (0.7, 10 ** (1 / 0.3))])
def test_known_values(khat, fewest):
    assert smallest_num_draws(khat) == pytest.approx(fewest, rel=1e-12)


@pytest.mark.parametrize("khat", [0.51, 0.6, 0.65, 0.69])
def test_it_is_the_limit_turned_round(khat):
    fewest = smallest_num_draws(khat)
    assert khat_limit(math.ceil(fewest)) >= khat > khat_limit(math.floor(fewest) - 1)


@pytest.mark.parametrize("khat", [0.7 + 1e-9, 1.0, 2.0, math.inf])
def test_no_number_is_enough_above_the_limit(khat):
    assert smallest_num_draws(khat) == math.inf


def test_what_is_not_known_stays_so():
    assert math.isnan(smallest_num_draws(math.nan))


def test_check_of_khat_says_how_many_draws_would_do():
    check = check_khat(np.random.default_rng(1).exponential(0.6, 10_000))
    assert f"needs {math.ceil(smallest_num_draws(check.value)):,} at this" in check.detail
