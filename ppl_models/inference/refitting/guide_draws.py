"""Draws of a guide, and both log densities there, by operations that are written down once."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from ppl_models.engine import ElboFunction
from ppl_models.engine.graph import Graph, capture
from ppl_models.engine.noise import draw_normal
from ppl_models.engine.proof import agree
from ppl_models.errors import CaptureError
from ppl_models.inference.refitting.swapping import SwapError
from ppl_models.program import Program
from ppl_models.program.batching import CHUNK_ELEMENTS
from ppl_models.program.estimators.drawing import draw, log_p, log_q
from ppl_models.program.isolation import forked_random
from ppl_models.program.nodes import nodes_of

MOST_SIZES = 8


class GuideDraws:
    """Draws of a guide whose parameters are in the param store. Make it, and call it, in the program's world.

    Args:
        elbo: describes guide and program, without coordinates; all plates whole.

    Raises:
        CaptureError: the guide draws other than standard normal and uniform numbers.
    """

    def __init__(self, elbo: ElboFunction):
        if elbo.subsamples or callable(getattr(elbo.guide, "strata", None)):
            raise CaptureError("the guide draws indices")
        self._elbo = elbo
        self._graphs: dict[int, Graph] = {}
        self._graph(2)

    def __call__(self, num_draws: int, fresh: Program) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Draws of each latent, shape (draw, *event), and log p - log q in nats there, (draw,).

        `fresh` is the program with tensors of its own for the present data, with which draws are compared.

        Raises:
            SwapError: the numbers are not the model's own at the present data.
        """
        elbo = self._elbo
        size = max(1, min(num_draws, CHUNK_ELEMENTS // max(1, elbo.program.size_hint)))  # pyright: ignore
        parts = [self._chunk(size, fresh) for _ in range(-(-num_draws // size))]
        ratio, *values = (torch.cat(column)[:num_draws].cpu().numpy() for column in zip(*parts, strict=True))
        return dict(zip(self._names(), values, strict=True)), ratio

    def _names(self) -> list[str]:
        program: Any = self._elbo.program
        return [site.name for site in program.sites.latent + program.sites.discrete]

    def _chunk(self, size: int, fresh: Program) -> Sequence[torch.Tensor]:
        graph, streams = self._graph(size), (self._elbo.flat_parameters(), *self._noise(size))
        with torch.no_grad():
            found = graph.module(*streams, *graph.fixed)
            wanted = self._one(streams[0], streams[1][0], streams[2][0], fresh)
        if not all(agree(one[0], other) for one, other in zip(found, wanted, strict=True)):
            raise SwapError("draws as they were captured are not the guide's and model's own at other data")
        return found

    def _graph(self, size: int) -> Graph:
        if size not in self._graphs:
            if len(self._graphs) >= MOST_SIZES:
                self._graphs.pop(next(iter(self._graphs)))
            self._graphs[size] = self._captured(size)
        return self._graphs[size]

    def _captured(self, size: int) -> Graph:
        together: Callable[..., Any] = torch.func.vmap(self._one, in_dims=(None, 0, 0), randomness="different")
        flat = self._elbo.flat_parameters()
        with forked_random():
            first, second = ((flat, *self._noise(size)) for _ in range(2))
        # the first refit draws no other numbers than the later ones, which find this captured
        with forked_random(), warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # torch's, about what vmap loops over
            graph = capture(together, (), first, self._elbo.data, other_streams=second)
        if graph.random:
            raise CaptureError(f"the guide draws by {', '.join(graph.random)}")
        return graph

    def _noise(self, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        dtype = self._elbo.program.dtype
        normal = draw_normal((size, max(1, self._elbo.num_normal)), dtype)
        return normal, torch.rand(size, max(1, self._elbo.num_uniform), dtype=dtype)

    def _one(
        self, flat: torch.Tensor, normal: torch.Tensor, uniform: torch.Tensor, fresh: Program | None = None
    ) -> tuple[torch.Tensor, ...]:
        elbo, program = self._elbo, fresh or self._elbo.program
        with elbo.replayed(flat, normal, uniform, []):
            trace = draw(program, elbo.guide)
            ratio = log_p(program, trace) - log_q(trace)
        return (ratio, *(nodes_of(trace)[name]["value"] for name in self._names()))
