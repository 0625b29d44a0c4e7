"""The linear VAE on digits, whose optimum is known: evidence, subspace, noise, active latents, gaps."""

import math
from typing import Any

import torch

import ppl_models as ppl
from ppl_models import datasets
from ppl_models.autoencoders import LinearVAE
from ppl_models.autoencoders.principal_components import PrincipalComponents

INK = 16.0
LATENTS = (2, 5, 10)
VARIANCES = (0.2, 0.1, 0.05, 0.02, 0.01)
MAX_STEPS = 20_000
ACTIVE = 0.01
"""Variance over the data of a posterior mean from which on a latent is active (Burda et al. 2016)."""


def pixels() -> torch.Tensor:
    """Digits, ink between 0 and 1, shape (1797, 64)."""
    return torch.tensor(datasets.digits()["pixels"] / INK)


def fitted(
    x: torch.Tensor, latent_dim: int, seed: int, max_steps: int, scale: str | float = "shared"
) -> tuple[LinearVAE, ppl.Fit]:
    """A fit on all data at once, its weights begun at the seed, and the module with the weights fitted."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LinearVAE(x.shape[1], latent_dim, scale=scale).double()
    fit = ppl.fit(model, {"x": x}, guide=model.guide, max_steps=max_steps, max_seconds=1_200.0, seed=seed)
    return fit.program.model.__wrapped__, fit  # the fit's own copy of the module


def optimum_rows(quick: bool) -> list[dict[str, Any]]:
    """For each number of latents, the fit beside the closed form of probabilistic PCA."""
    x = pixels()
    components = PrincipalComponents.of(x)
    rows = []
    for latent_dim in LATENTS[: 1 if quick else None]:
        model, fit = fitted(x, latent_dim, 1, 2_000 if quick else MAX_STEPS)
        with fit.program.isolated(seed=0), torch.no_grad():
            exact = float(model.log_evidence(x).mean())
            variance = float(model.noise_variance.mean())
            loadings = model.loadings.detach().clone()
        terms = ppl.elbo_terms(fit, num_draws=200, seed=2)
        best = components.log_likelihood(latent_dim)
        elbo, error = float(terms.elbo) / len(x), float(terms.elbo_error) / len(x)
        rows.append(
            {
                "latents": latent_dim,
                "optimum": best,
                "elbo": elbo,
                "elbo_error": error,
                "short_by": best - elbo,
                "log_evidence": exact,
                "inference_gap": exact - elbo,
                "angle_degrees": largest_angle(loadings, components.axes[:, :latent_dim]),
                "noise_variance_ratio": variance / components.noise_variance(latent_dim),
                "status": fit.status,
                "steps": fit.steps,
                "seconds": fit.seconds,
            }
        )
    return rows


def active_rows(quick: bool) -> list[dict[str, Any]]:
    """For each fixed noise variance, how many latents stay active, beside the rule of the eigenvalues."""
    x = pixels()
    components = PrincipalComponents.of(x)
    rows = []
    for variance in VARIANCES[: 1 if quick else None]:
        model, fit = fitted(x, x.shape[1], 1, 2_000 if quick else MAX_STEPS, scale=math.sqrt(variance))
        with fit.program.isolated(seed=0), torch.no_grad():
            activity = model.posterior(x).mean.var(dim=0)
        optimum = components.log_likelihood(x.shape[1], variance)
        rows.append(
            {
                "noise_variance": variance,
                "by_eigenvalues": components.num_active(variance),
                # A latent whose eigenvalue is within 1 % of the noise is below the threshold at the optimum too.
                "above_at_optimum": int((1.0 - variance / components.eigenvalues > ACTIVE).sum()),
                "active": int((activity > ACTIVE).sum()),
                "short_by": optimum + float(fit.losses[-100:].mean()) / len(x),
                "status": fit.status,
                "steps": fit.steps,
                "seconds": fit.seconds,
            }
        )
    return rows


def largest_angle(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest principal angle between the spaces that columns span, in degrees."""
    bases = [torch.linalg.qr(matrix)[0] for matrix in (one, other)]
    cosine = torch.linalg.svdvals(bases[0].mT @ bases[1]).min().clamp(max=1.0)
    return math.degrees(math.acos(float(cosine)))
