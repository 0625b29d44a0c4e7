"""Each check of an audit's own health is seen to fail."""

from dataclasses import replace

import numpy as np

from ppl_models.workflow.audit.checking import audit_checks
from ppl_models.workflow.audit.posterior_audit import Estimates
from tests.workflow.audit.audited import audited


def check(audit, name):
    return next(one for one in audit_checks(audit).checks if name in one.name)


def with_chains(rhat, ess, divergences=0):
    audit = audited()
    shape = np.ones(audit.num_rows)
    rhat, ess, count = rhat * shape, ess * shape, (divergences * shape).astype(int)
    reliable = (rhat <= 1.01) & (ess >= 400.0) & (count == 0)
    return check(replace(audit, rhat=rhat, ess=ess, divergences=count, reliable=reliable), "MCMC")


def test_rows_whose_chains_fail():
    assert with_chains(1.005, 900.0).passed is True
    assert with_chains(1.3, 900.0).passed is False
    assert with_chains(1.005, 90.0).passed is False
    assert with_chains(1.005, 900.0, divergences=2).passed is False
    # 900 effective draws in eight halves: R-hat of 1.012 is what chance gives somewhere
    assert with_chains(1.012, 900.0).passed is None


def test_bounds_out_of_order():
    audit = audited()
    assert check(audit, "order").passed is True
    high = Estimates(audit.upper.value + 1.0, audit.upper.error)
    assert check(replace(audit, bounds={**audit.bounds, 50: high}), "order").passed is False
    low = Estimates(audit.upper.value - 1.0, audit.upper.error)
    assert check(replace(audit, upper=low), "order").passed is False
    unknown = Estimates(audit.upper.value * np.nan, audit.upper.error)
    assert check(replace(audit, upper=unknown), "order").passed is None


def test_a_wide_bracket():
    audit = audited()
    assert check(audit, "bracket").passed is True
    wide = Estimates(audit.upper.value + 2.0, audit.upper.error)
    assert check(replace(audit, upper=wide), "bracket").passed is False


def test_an_optimum_below_the_amortised_bound():
    audit = audited()
    assert check(audit, "best").passed is True
    gap = Estimates(audit.amortisation_gap.value - 0.5, audit.amortisation_gap.error + 1e-3)
    assert check(replace(audit, amortisation_gap=gap), "best").passed is False
    assert check(replace(audit, guide_family="other"), "best").passed is None
