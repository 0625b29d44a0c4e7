"""From end to end: a fit by its family's own method, refitted as it was made."""

import pytest

import ppl_models as ppl


@pytest.mark.statistical
@pytest.mark.parametrize("kind", ["prior", "posterior"])
def test_an_exact_family_is_calibrated(fit, kind):
    found = ppl.calibrate(fit, kind=kind, num_simulations=60, num_draws=59, n_jobs=1)
    assert found.passed is True
    assert found.ranks.sizes["simulation"] == 60
    assert (found.ranks["status"] == "converged").all()
