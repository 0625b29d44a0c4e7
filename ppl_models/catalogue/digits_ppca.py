"""Probabilistic PCA of handwritten zeros, identified by a zero and by anchors of known sign."""

from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch

from guides.handwritten.digits_ppca import guide
from ppl_models import datasets
from ppl_models.catalogue.problem import Problem

DIGIT = 0
NUM_IMAGES = 100
ANCHOR = 0.4  # loadings from this share of the longest of their component are anchors


def model(num_images: int, signs: torch.Tensor, position: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
    """Probabilistic PCA: y_n ~ Normal(W z_n, noise), z_n ~ Normal(0, I), two latents per image.

    The likelihood cannot tell W from W R for any rotation or reflection R. One entry of W is zero, which fixes the
    rotation, and the large ones (the anchors) have known signs, which fixes the reflections: sign times HalfNormal(1).
    One positive entry per component, as a triangle has, leaves a second mode where that entry is near zero and all
    others are reflected, which no sampler leaves. The other entries ~ Normal(0, 1), noise ~ HalfNormal(1). The pixels
    are centred, so that there is no mean.

    Args:
        num_images: How many images there are.
        signs: +1 or -1 for each anchor, shape (anchor,).
        position: For each entry of W its place in the list of the anchors, the free entries and zero, in that order;
            shape (pixel, component).
        y: Centred and scaled pixels, unitless, shape (image, pixel); None to draw them.

    Returns:
        The images, measured or drawn.

    Tipping and Bishop (1999), Probabilistic principal component analysis; Geweke and Zhou (1996), Measuring the pricing
    error of the arbitrage pricing theory (zeros and signs).
    """
    num_anchors = signs.shape[-1]
    anchors = pyro.sample("anchored_loadings", dist.HalfNormal(torch.ones(num_anchors)).to_event(1))
    num_free = position.numel() - num_anchors - 1
    free = pyro.sample("free_loadings", dist.Normal(torch.zeros(num_free), 1.0).to_event(1))
    noise = pyro.sample("noise", dist.HalfNormal(1.0))
    entries = torch.cat([signs.to(anchors) * anchors, free, torch.zeros_like(free[..., :1])], -1)
    loadings = pyro.deterministic("loadings", entries[..., position], event_dim=2)
    with pyro.plate("image", num_images):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        # W z, component by component: broadcasts over particles
        location = z[..., :1] * loadings[..., 0] + z[..., 1:] * loadings[..., 1]
        return pyro.sample("y", dist.Normal(location, noise.unsqueeze(-1)).to_event(1), obs=y)


def build() -> Problem:
    """The problem: the first hundred zeros of scikit-learn's digits, without the pixels that never change.

    The pixels are centred each, and divided by one common standard deviation. The zero and the anchors come from the
    first two principal components: the pixel that they explain best loads on the first component alone, and what loads
    at least `ANCHOR` times as much as the strongest pixel of its component is an anchor with that sign.
    """
    table = datasets.digits()
    pixels = table["pixels"][table["digit"] == DIGIT][:NUM_IMAGES]
    varying = np.flatnonzero(pixels.std(axis=0) > 0)
    centred = pixels[:, varying] - pixels[:, varying].mean(axis=0)
    y = centred / centred.std()
    signs, position = _identification(_principal_loadings(y))
    num_images, num_pixels = y.shape
    num_anchors = len(signs)
    data: dict[str, Any] = {
        "num_images": num_images,
        "signs": torch.tensor(signs, dtype=torch.float64),
        "position": torch.tensor(position),
        "y": torch.tensor(y),
    }
    return Problem(
        name="digits_ppca",
        title="probabilistic PCA of a hundred handwritten zeros, two latents per image",
        model=model,
        data=data,
        coords={
            "image": list(range(num_images)),
            "pixel": [f"row {pixel // 8} column {pixel % 8}" for pixel in varying],
            "component": [0, 1],
            "anchor": list(range(num_anchors)),
            "free": list(range(2 * num_pixels - num_anchors - 1)),
        },
        dims={
            "anchored_loadings": ("anchor",),
            "free_loadings": ("free",),
            "noise": (),
            "loadings": ("pixel", "component"),
            "z": ("image", "component"),
            "y": ("image", "pixel"),
            "signs": ("anchor",),
            "position": ("pixel", "component"),
        },
        guides={"handwritten": guide},
        cite="Tipping and Bishop (1999), Probabilistic principal component analysis, Journal of the Royal Statistical "
        "Society B 61, 611-622; Alpaydin and Kaynak (1998), Optical recognition of handwritten digits (data).",
        sampling={"draws": 4_000},
        expected={
            "normal": "has the means, but too small standard deviations: loadings turn and stretch against latents.",
            "full_rank": "is slow: its covariance of all images' latents has more entries than the data.",
            "handwritten": "does well: the latents are exact given the loadings, by an encoder without parameters.",
        },
    )


def _principal_loadings(y: np.ndarray) -> np.ndarray:
    """The first two principal loadings, turned so that the best explained pixel has none on the second."""
    _, lengths, axes = np.linalg.svd(y, full_matrices=False)
    rows = axes[:2].T * lengths[:2]
    best = rows[(rows**2).sum(axis=-1).argmax()]
    cosine, sine = best / np.linalg.norm(best)
    return rows @ np.array([[cosine, -sine], [sine, cosine]])


def _identification(loadings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The anchors' signs, and for each entry its place among the anchors, the free entries and zero."""
    size = np.abs(loadings)
    zero = (size[:, 0] ** 2 + size[:, 1] ** 2).argmax() * 2 + 1  # the second entry of the best explained pixel
    anchors = np.flatnonzero(size >= ANCHOR * size.max(axis=0))
    free = np.setdiff1d(np.arange(size.size), [*anchors, zero])
    position = np.empty(size.size, dtype=np.int64)
    position[np.concatenate([anchors, free, [zero]])] = np.arange(size.size)
    return np.sign(loadings.ravel()[anchors]), position.reshape(size.shape)
