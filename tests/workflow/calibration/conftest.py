"""A fit whose refits are exact, or faulty as planted."""

import importlib

import pytest

import ppl_models as ppl
from tests.workflow.calibration import exact

planning = importlib.import_module("ppl_models.workflow.calibration.planning")


@pytest.fixture(scope="session")
def fit():
    """Laplace's approximation, which is exact here."""
    return ppl.fit(exact.model, exact.DATA, guide="laplace", seed=1)


@pytest.fixture
def refits(monkeypatch):
    """Put refits with a planted fault in the place of the real ones."""

    def plant(**fault):
        monkeypatch.setattr(planning, "RefitSpec", exact.ExactSpec(**fault))

    plant()
    return plant
