"""Decoded blocks of rows put together: draws where they are kept, and their moments."""

from collections.abc import Mapping

import numpy as np

from ppl_models.program import Program
from ppl_models.workflow.representation.decoding import Decoded
from ppl_models.workflow.representation.representation import Representation
from ppl_models.workflow.representation.results import Arrays, host, joined, moments


class Gathered:
    """What the model says of the rows, block after block.

    Attributes:
        program: the model at the last block.
        latents: latents that the model drew, of each block.
    """

    def __init__(self, representation: Representation, *, keep_draws: bool):
        self.representation = representation
        self.keep_draws = keep_draws
        self.program: Program = representation.program
        self.latents: list[Arrays] = []
        self._means: list[Arrays] = []
        self._draws: list[Arrays] = []
        self._mean: list[Arrays] = []
        self._sd: list[Arrays] = []

    def add(self, program: Program, found: Decoded) -> None:
        """Take in a block."""
        self.program = program
        means = {name: host(value) for name, value in found.mean.items()}
        draws = {name: host(value) for name, value in found.draws.items()}
        # where the likelihood has no mean, draws of the data stand for it
        mean, sd = moments({**draws, **means})
        self._mean.append(mean)
        self._sd.append(sd)
        if self.keep_draws:
            self._means.append(means)
            self._draws.append(draws)
        if found.latents:
            self.latents.append({name: host(value) for name, value in found.latents.items()})

    def groups(
        self, *, varies: bool
    ) -> tuple[dict[str, Mapping[str, np.ndarray]], dict[str, Mapping[str, np.ndarray]]]:
        """Groups with draws, and groups without.

        Args:
            varies: whether the latents differ between the draws; if not, there is one mean of the likelihood.
        """
        flat: dict[str, Mapping[str, np.ndarray]] = {"mean": self._joined(self._mean, 0)}
        if varies:
            flat["sd"] = self._joined(self._sd, 0)
        if not self.keep_draws:
            return {}, flat
        groups: dict[str, Mapping[str, np.ndarray]] = {"posterior_predictive": self._joined(self._draws, 1)}
        if varies and self._means[0]:
            groups["likelihood_mean"] = self._joined(self._means, 1)
        return groups, flat

    def joined_latents(self) -> Arrays:
        """Draws of the latents that the model drew, of all rows; empty where it drew none."""
        return self._joined(self.latents, 1) if self.latents else {}

    def _joined(self, blocks: list[Arrays], offset: int) -> Arrays:
        return joined(blocks, {name: offset + self.representation.axis(name) for name in blocks[0]})
