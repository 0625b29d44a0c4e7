"""A third backend takes one class and one entry, and runs fits and densities."""

import numpy as np
import pytest
from closed_forms import DATA, regression

import ppl_models as ppl
from engine.steps import Plain
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
