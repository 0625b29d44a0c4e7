"""Guide of probabilistic PCA: an encoder for the images that follows the loadings, a dense normal over the loadings.

Given loadings W and noise, p(z_n | y_n, W, noise) is normal with precision (WᵀW + noise² I) / noise² and mean
(WᵀW + noise² I)⁻¹ Wᵀ y_n (Tipping and Bishop 1999, Probabilistic principal component analysis, section 3.2): the best
encoder of an image is linear, is the same for all images, and has no parameters beyond those of the decoder.
"""

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints

from guides.errors import MissingDataError
from guides.handwritten.parts import dense_normal, place


def guide(num_images: int, signs: torch.Tensor, position: torch.Tensor, y: torch.Tensor | None = None) -> None:
    """q(loadings, log noise) times the encoder p(z_n | y_n, loadings, noise) of every image.

    Keeps the dependence of the local latents on the loadings (loadings twice as long halve every z) and among the
    loadings (all of them stretch and turn together). The encoder is amortised: more images need no more parameters.

    Args:
        num_images: How many images there are.
        signs: +1 or -1 for each anchor, shape (anchor,).
        position: For each loading its place in the list of the anchors, the free ones and zero, shape (pixel,
        component).
        y: Centred and scaled pixels, unitless, shape (image, pixel).

    Raises:
        MissingDataError: If y is None.
    """
    if y is None:
        raise MissingDataError("digits_ppca", "y")
    num_anchors = signs.shape[-1]
    num_free = position.numel() - num_anchors - 1
    joint = dense_normal("loadings_and_noise", [-1.0] * num_anchors + [0.0] * num_free + [-0.3])
    anchors = place("anchored_loadings", joint[..., :num_anchors], constraints.independent(constraints.positive, 1))
    free = place("free_loadings", joint[..., num_anchors:-1], constraints.real_vector)
    noise = place("noise", joint[..., -1], constraints.positive)

    y = y.to(free)
    entries = torch.cat([signs.to(anchors) * anchors, free, torch.zeros_like(free[..., :1])], -1)
    loadings = entries[..., position]
    variance = noise[..., None, None] ** 2
    precision = loadings.mT @ loadings + variance * torch.eye(2).to(y)
    projected = torch.stack([(y * loadings[..., 0]).sum(-1), (y * loadings[..., 1]).sum(-1)], -1)
    mean = (torch.linalg.inv(precision) @ projected.unsqueeze(-1)).squeeze(-1)
    with pyro.plate("image", num_images):
        pyro.sample("z", dist.MultivariateNormal(mean, precision_matrix=precision / variance))
