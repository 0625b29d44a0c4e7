"""Networks begin at random weights: the tests of this folder leave the generator as they found it."""

import pytest

from tests.randomness import seeded


@pytest.fixture(autouse=True)
def _seeded_networks():
    with seeded(0):
        yield
