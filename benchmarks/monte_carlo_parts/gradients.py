"""Gradient estimators at known answers: bias, variance of one draw, signal-to-noise ratio, cost."""

from typing import Any

import pyro.distributions as dist
import torch

import ppl_models as ppl

Row = dict[str, Any]
SHOWN = ("bias", "bias_error", "variance_per_draw", "signal_to_noise", "seconds", "biased")
TARGET = 0.499


def rows(quick: bool) -> list[Row]:
    """One row for each problem and estimator."""
    num_replicates = 500 if quick else 5_000
    square = ppl.gradient_variance(
        lambda z: z**2,
        lambda mean: dist.Normal(mean, 1.0),
        torch.tensor(1.0, dtype=torch.float64),
        estimators=["reparameterised", ("score", {"baseline": "none"}), "score"],
        exact=2.0,
        num_replicates=num_replicates,
        seed=1,
    )
    bernoulli = ppl.gradient_variance(
        lambda b: (b - TARGET) ** 2,
        lambda logit: dist.Bernoulli(logits=logit),
        torch.tensor(0.3, dtype=torch.float64),
        num_replicates=num_replicates,
        seed=1,
    )
    problems = {"z^2, Normal(1, 1)": square, "(b - 0.499)^2, Bernoulli": bernoulli}
    return [
        {"problem": problem, "estimator": str(name), **{column: _plain(row[column]) for column in SHOWN}}
        for problem, found in problems.items()
        for name, row in found.summary.iterrows()
    ]


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
