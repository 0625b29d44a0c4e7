"""Metropolis steps whose width, shape and place follow each row's own chains while they warm up."""

import math

import torch

START = 20
"""Draws of the guide's worth of trust in its own variances."""
REFRESH = 20
"""Steps between new proposals."""
DEGREES = 5.0
"""Of the t distribution of independent proposals, whose tails are heavier than most posteriors'."""


class AdaptiveSteps:
    """Proposals for the unconstrained latents of rows, the chains of a row sharing one mean and covariance.

    A random walk, and independent draws of a t distribution with that mean and covariance.

    Args:
        start: several unconstrained draws of the guide, shape (draw, row, dim), whose variances come first.
        num_chains: chains of each row; rows of the state are (chain, row) in that order.

    Attributes:
        can_jump: whether a mean is known.

    Haario, Saksman and Tamminen (2001), An adaptive Metropolis algorithm, Bernoulli 7(2); Andrieu and Thoms (2008), A
    tutorial on adaptive MCMC, Statistics and Computing 18(4), for the scale.
    """

    def __init__(self, start: torch.Tensor, num_chains: int):
        num_rows, self.num_dims = start.shape[1:]
        self.num_chains = num_chains
        variance = start.var(dim=0).clamp_min(1e-10) if len(start) > 1 else torch.ones_like(start[0])
        self.number = 0.0
        self.mean = torch.zeros(num_rows, self.num_dims).to(start)
        self.scatter = torch.diag_embed(variance) * START
        self.log_scale = torch.zeros(num_rows).to(start)
        self.steps = 0
        self.wanted = 0.44 if self.num_dims == 1 else 0.3
        self.can_jump = False
        self._factor, self._place = self._cholesky(), self.mean

    def walk(self, state: torch.Tensor) -> torch.Tensor:
        """Add a normal step to each row, shape (chain * row, dim)."""
        scale = (2.38 / math.sqrt(self.num_dims)) * self.log_scale.exp()
        noise = torch.randn_like(state).reshape(self.num_chains, -1, self.num_dims, 1)
        step = scale[:, None] * (self._factor @ noise).squeeze(-1)
        return state + step.reshape(state.shape)

    def jump(self, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw anew for each row; also the draw's log density less that of the state, in nats, shape (chain * row,)."""
        noise = torch.randn_like(state).reshape(self.num_chains, -1, self.num_dims)
        stretch = torch.distributions.Chi2(torch.full_like(noise[..., :1], DEGREES)).sample()
        standard = noise * (DEGREES / stretch).sqrt()
        proposal = self._place + (self._factor @ standard.unsqueeze(-1)).squeeze(-1)
        own = (state.reshape(proposal.shape) - self._place).unsqueeze(-1)
        own_standard = torch.linalg.solve_triangular(self._factor.expand(self.num_chains, -1, -1, -1), own, upper=False)
        ratio = self._log_t(standard) - self._log_t(own_standard.squeeze(-1))
        return proposal.reshape(state.shape), ratio.reshape(-1)

    def _log_t(self, standard: torch.Tensor) -> torch.Tensor:
        return -0.5 * (DEGREES + self.num_dims) * torch.log1p((standard**2).sum(-1) / DEGREES)

    def adapt(self, state: torch.Tensor, walked: torch.Tensor | None) -> None:
        """Learn from a step of the warm-up: the states, shape (chain * row, dim), and which rows took a walk's step."""
        self.steps += 1
        if walked is not None:
            rate = walked.to(state).reshape(self.num_chains, -1).mean(0)
            self.log_scale = self.log_scale + (rate - self.wanted) / math.sqrt(self.steps)
        for chain in state.reshape(self.num_chains, -1, self.num_dims):
            self.number += 1.0
            before = chain - self.mean
            self.mean = self.mean + before / self.number
            self.scatter = self.scatter + before.unsqueeze(-1) * (chain - self.mean).unsqueeze(-2)
        if self.steps % REFRESH == 0:
            self._factor, self._place = self._cholesky(), self.mean
            self.can_jump = True

    def forget(self) -> None:
        """Forget the way from the starting points; keep the shape it showed with little weight."""
        self.scatter = self.scatter / (self.number + START) * START
        self.number = 0.0
        self.mean = torch.zeros_like(self.mean)
        self.steps = 0

    def _cholesky(self) -> torch.Tensor:
        covariance = self.scatter / (self.number + START)
        ridge = 1e-6 * covariance.diagonal(dim1=-2, dim2=-1).mean(-1)
        eye = torch.eye(self.num_dims).to(covariance)
        return torch.linalg.cholesky_ex(covariance + ridge[:, None, None] * eye).L
