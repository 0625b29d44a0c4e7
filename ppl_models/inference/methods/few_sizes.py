"""A target that is asked for a few numbers of points only: each number of its own costs traced operations a trace."""

import numpy as np

from ppl_models.engine import Target


class FewSizes:
    """A target whose calls are made up of blocks of two sizes, the last one filled up with points that do not count.

    Args:
        target: the log density.
        small: points of a small block.
        large: of a large one, a few times as many.
    """

    def __init__(self, target: Target, small: int, large: int):
        self.target, self.small, self.large = target, small, large
        self.num_dims, self.program = target.num_dims, target.program

    @property
    def evaluations(self) -> int:
        """Points at which the gradient was computed so far; a product with the Hessian counts as two."""
        return self.target.evaluations

    def __call__(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log densities, shape (point,), and gradients, (point, dim), at points (point, dim)."""
        found, place = [], 0
        while place < len(points):
            size = self.large if 2 * (len(points) - place) > self.large else self.small
            block = points[place : place + size]
            missing = size - len(block)
            values, gradients = self.target(np.concatenate([block, np.repeat(block[:1], missing, axis=0)]))
            self.target.evaluations -= missing
            found.append((values[: len(block)], gradients[: len(block)]))
            place += size
        values, gradients = zip(*found, strict=True)
        return np.concatenate(values), np.concatenate(gradients)

    def at(self, point: np.ndarray) -> tuple[float, np.ndarray]:
        """Log density and gradient, shape (dim,), at one point of shape (dim,)."""
        values, gradients = self(point[None])
        return float(values[0]), gradients[0]

    def hessian(self, point: np.ndarray) -> np.ndarray:
        """The Hessian at one point, shape (dim, dim)."""
        return self.target.hessian(point)


def in_few_sizes(target: Target, small: int, large: int) -> Target | FewSizes:
    """The target in blocks, where its operations are traced; others need none."""
    return FewSizes(target, small, max(small, large)) if target.backend == "traced" else target
