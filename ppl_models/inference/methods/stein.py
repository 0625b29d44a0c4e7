"""The direction in which particles move to come nearer to a distribution, by Stein's identity."""

import numpy as np

LINEAR = 1.0
"""Weight of the linear kernel beside the Gaussian one."""


def stein_direction(points: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """Mean over particles of k(x_j, x) ∇ log p(x_j) + ∇_{x_j} k(x_j, x), at every particle x.

    The kernel is k(x, y) = exp(-|x - y|² / h) + 1 + x · y, h the median squared distance over the log of the number of
    particles. The Gaussian part (Liu and Wang 2016) sees any difference of shape; alone, it lets the variances
    collapse where there are not many more particles than dims, for then every particle is repelled by hardly any other
    (Ba et al. 2022, Understanding the variance collapse of SVGD in high dimensions). Under the linear part, particles
    at rest fulfil Stein's identity for all linear functions, which for a normal target makes their mean and covariance
    exact (Liu and Wang 2018, Stein variational gradient descent as moment matching).

    Args:
        points: in coordinates of about unit scale and mean zero, shape (particle, dim).
        slopes: gradients of the log density there, in the same coordinates.
    """
    count = len(points)
    lengths = np.square(points).sum(axis=1)
    distances = np.maximum(lengths[:, None] + lengths - 2.0 * points @ points.T, 0.0)
    width = max(float(np.median(distances[np.triu_indices(count, 1)])) / np.log(count), np.finfo(float).tiny)
    kernel = np.exp(-distances / width)
    gaussian = kernel @ slopes + (2.0 / width) * (points * kernel.sum(axis=1)[:, None] - kernel @ points)
    linear = slopes.sum(axis=0) + points @ (points.T @ slopes) + count * points
    return (gaussian + LINEAR * linear) / count
