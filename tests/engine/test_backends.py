"""A third backend takes one class and one entry, and runs fits and densities."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
from closed_forms import DATA, regression

import ppl_models as ppl
from engine.steps import Plain, delta_guide
from ppl_models.engine import backends, density
from ppl_models.inference import steps
from ppl_models.program import build_program


@pytest.fixture
def plain(monkeypatch):
    """The tests' own backend, listed behind the others."""
    backend = Plain()
    listed = {**backends.COMPILERS, "plain": backend}
    for module in (backends, density, steps):
        monkeypatch.setattr(module, "COMPILERS", listed)
    monkeypatch.setattr(backends, "NAMES", (*backends.NAMES, "plain"))
    return backend


def test_a_fit_on_a_third_backend(plain):
    options = {"guide": "normal", "seed": 1, "max_steps": 60, "num_particles": 2}
    fit = ppl.fit(regression, DATA, backend="plain", **options)
    assert (fit.backend, fit.backend_note, fit.status) == ("plain", "", "max_steps")
    assert len(plain.graphs) == 1
    again = ppl.fit(regression, DATA, backend="plain", **options)
    assert np.array_equal(again.losses, fit.losses)


def test_a_density_on_a_third_backend(plain):
    program = build_program(regression, DATA)
    with program.isolated():
        found, oracle = (density.compile_density(program, name) for name in ("plain", "eager"))
        flat = np.array([0.1, -0.4])
        assert found.backend == "plain"
        assert found(flat)[0] == pytest.approx(oracle(flat)[0], rel=1e-12)
        np.testing.assert_allclose(found(flat)[1], oracle(flat)[1], rtol=1e-12)


def steep(y):
    """The gradient is NaN beyond a bound, one step before the loss is."""
    w = pyro.sample("w", dist.Normal(0.0, 0.01).mask(False))
    left = 0.22 - w
    pyro.factor("push", 10.0 * w + 0.1 * (left.abs() + left).sqrt())


def test_a_fit_that_diverges_keeps_finite_parameters_wherever_it_ends(plain):
    statuses, notes = set(), []
    for max_steps in (*range(3, 12), 200):  # the second attempt, with a tenth of the step size, takes longer to fail
        options = {"seed": 1, "num_particles": 1, "max_steps": max_steps, "step_size": 0.05}
        fit = ppl.fit(steep, (0.0,), guide=delta_guide, backend="plain", **options)
        statuses.add(fit.status)
        notes.append(fit.note)
        assert fit.backend == "plain"
        assert all(bool(value.isfinite().all()) for value in fit.parameters.values())
        assert np.isfinite(fit.losses).all()
        if fit.status == "diverged":
            assert "not finite" in fit.note
    assert statuses == {"max_steps", "diverged"}
    assert notes[0] == ""
    assert any("tried again with 0.1 times the step size" in note for note in notes[1:-1])
