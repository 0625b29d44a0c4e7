"""Fits that many tests use."""

import numpy as np
import pytest
import torch

from tests.randomness import seeded
from tests.workflow.representation import models


@pytest.fixture(scope="package")
def exact():
    """A linear Gaussian model with its exact posterior."""
    return models.linear()


@pytest.fixture(scope="package")
def exact_fit(exact):
    return models.fitted(exact.model, exact.guide, {"x": exact.draw(40, 2)})


@pytest.fixture(scope="package")
def images_fit():
    with seeded(4):
        images = models.Images()
    return models.fitted(images.model, images.guide, {"x": image_rows(20)})


@pytest.fixture(scope="package")
def counts_fit():
    return models.fitted(models.counts_model, models.counts_guide, models.counts())


def image_rows(number, seed=5):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 2, (number, 8, 8)).astype(float))
