"""Weighted, multilevel and Markov chain estimates at known answers: how far off, how sure, how healthy."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import arviz_base
import numpy as np
import pyro
import pyro.distributions as dist
import torch
from scipy.stats import norm

import ppl_models as ppl
from ppl_models.inference.monte_carlo.coupled_paths import geometric_brownian_motion
from ppl_models.workflow.expecting import expect

NUM_RUNS = 20
"""Independent runs behind each root mean square error."""
BLACK_SCHOLES = 10.450584
STANDARD = dist.Normal(torch.zeros((), dtype=torch.float64), 1.0)
Y = torch.tensor([0.3, 1.0, -0.5, 0.2], dtype=torch.float64)


@dataclass(frozen=True)
class Case:
    """An expectation with its exact value, and how it is estimated."""

    integrand: str
    label: str
    exact: float
    f: Callable[[Any], Any]
    q: Any
    options: dict[str, Any] = field(default_factory=dict)


def rows(quick: bool) -> list[dict[str, Any]]:
    """One row for each integrand and method."""
    num_draws = 10_000 if quick else 100_000
    return [_row(case, num_draws, 3 if quick else NUM_RUNS) for case in (*_weighted(), *_chains(num_draws), _price())]


def _row(case: Case, num_draws: int, num_runs: int) -> dict[str, Any]:
    size = {} if case.options.get("method") in ("multilevel", "mcmc") else {"num_draws": num_draws}
    found = [expect(case.f, case.q, seed=seed, **size, **case.options) for seed in range(num_runs)]
    first = found[0]
    off = [(float(each.estimate) - case.exact) / max(float(each.standard_error), 1e-12) for each in found]
    tails = [check.value for check in first.checks if check.name.startswith("k-hat")]
    failed = [f"{check.name} {check.measured}" for check in first.checks if check.passed is not True]
    return {
        "integrand": case.integrand,
        "method": case.label,
        "exact": case.exact,
        "estimate": float(first.estimate),
        "standard_error": float(first.standard_error),
        "errors_off": off[0],
        "rms_errors_off": float(np.sqrt(np.mean(np.square(off)))),
        "khat": tails[0] if tails else math.nan,
        "ess_per_draw": float(first.ess) / first.num_draws,
        "draws": first.num_draws,
        "seconds": min(each.seconds for each in found),
        "health": "; ".join(failed) or "passed",
    }


def _founding(z: torch.Tensor) -> torch.Tensor:
    return torch.exp(-z * z)


def _normal(sd: float) -> Any:
    return dist.Normal(torch.zeros((), dtype=torch.float64), sd)


def _weighted() -> list[Case]:
    def unnormalised(z: torch.Tensor) -> torch.Tensor:
        return -0.5 * z * z

    def above(z: torch.Tensor) -> torch.Tensor:
        return z > 4.0

    founding, tail = 3.0**-0.5, float(norm.sf(4.0))
    found = []
    for variance in (1.0 / 3.0, 0.6, 2.0):
        proposal = {"proposal": _normal(variance**0.5)}
        name = f"proposal N(0, {variance:.2g})"
        for method, q in (("importance", STANDARD), ("self_normalised", unnormalised)):
            found.append(Case("exp(-z²)", f"{method}, {name}", founding, _founding, q, {"method": method, **proposal}))
            found.append(Case("z²", f"{method}, {name}", 1.0, torch.square, q, {"method": method, **proposal}))
    far = dist.Normal(torch.tensor(4.0, dtype=torch.float64), 1.0)
    found.append(Case("P(z > 4)", "plain", tail, above, STANDARD, {"method": "plain"}))
    found.append(
        Case(
            "P(z > 4)", "importance, proposal N(4, 1)", tail, above, STANDARD, {"method": "importance", "proposal": far}
        )
    )
    uncovered = {"method": "importance", "proposal": dist.Uniform(torch.zeros((), dtype=torch.float64), 1.0)}
    found.append(Case("exp(-z²)", "importance, proposal U(0, 1)", founding, _founding, STANDARD, uncovered))
    mean, sd = float(Y.sum()) / 5.0, math.sqrt(0.2)
    for shift in (0.0, 0.5):
        fit = _fit(mean + shift * sd, sd)
        label = f"guide {shift:g} sd off"
        found.append(Case("posterior mean", f"plain, {label}", mean, lambda d: d["mu"], fit, {"method": "plain"}))
        found.append(
            Case(
                "posterior mean",
                f"self_normalised, {label}",
                mean,
                lambda d: d["mu"],
                fit,
                {"method": "self_normalised"},
            )
        )
    return found


def _fit(loc: float, scale: float) -> Any:
    """A conjugate normal with a guide that is given."""

    def model(y: torch.Tensor) -> None:
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("row", len(y)):
            pyro.sample("y", dist.Normal(mu, 1.0), obs=y)

    def guide(y: torch.Tensor) -> None:
        pyro.sample("mu", _at(loc, scale))

    return ppl.fit(model, {"y": Y}, guide=guide, max_steps=1, backend="eager", precondition=False)


def _at(loc: float, scale: float) -> Any:
    return dist.Normal(torch.tensor(loc, dtype=torch.float64), torch.tensor(scale, dtype=torch.float64))


def _chains(num_draws: int) -> list[Case]:
    rng = np.random.default_rng(0)
    found = []
    for correlation in (0.0, 0.5, 0.9):
        draws = np.empty((4, num_draws // 4))
        draws[:, 0] = rng.standard_normal(4) / math.sqrt(1.0 - correlation**2)
        for place in range(1, draws.shape[1]):
            draws[:, place] = correlation * draws[:, place - 1] + rng.standard_normal(4)
        tree = arviz_base.from_dict({"posterior": {"x": draws}})
        label = f"mcmc, AR(1) of {correlation:g}"
        found.append(Case("mean of chains", label, 0.0, lambda d: d["x"], tree, {"method": "mcmc"}))
    return found


def _price() -> Case:
    paths = geometric_brownian_motion(100.0, 0.05, 0.2, 1.0)
    options = {"method": "multilevel", "target_error": 0.02}
    return Case("Black-Scholes call", "multilevel, error 0.02", BLACK_SCHOLES, _call, paths, options)


def _call(price: torch.Tensor) -> torch.Tensor:
    return math.exp(-0.05) * torch.relu(price - 100.0)
