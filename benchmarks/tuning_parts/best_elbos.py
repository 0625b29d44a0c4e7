"""The best ELBO of each family on each problem, kept with the guide that has it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import ppl_models as ppl
from benchmarks.tuning_parts.best import best_of
from benchmarks.tuning_parts.gaussian import (
    DENSE,
    DIAGONAL,
    NOISE_SEED,
    Gaussian,
    antithetic,
    difference,
    elbo_per_pair,
    mean_and_error,
)
from benchmarks.tuning_parts.reference import has_all_sites, unconstrained_draws
from benchmarks.tuning_parts.target import Target
from ppl_models.files import write_whole
from ppl_models.program import build_program

FAMILIES = (DIAGONAL, DENSE)
SEARCHED = "averaged over fixed noise, maximised by L-BFGS"
AUTOMATIC = "automatic fit"
SHOWN_PAIRS = 8_192
CLEARLY = 3.0
"""Standard errors by which an automatic fit must be better to take the place of what was found."""


@dataclass(frozen=True)
class Best:
    """The best guide known of a family.

    Attributes:
        gaussian: the guide, in the program's flat unconstrained space.
        elbo: its ELBO in nats.
    """

    gaussian: Gaussian
    elbo: float


class BestElbos:
    """Best guides by problem and family, in a JSON file; what is missing, or no longer fits the model, is found.

    Args:
        path: the file.
        say: told of what is done.
    """

    def __init__(self, path: Path, say: Callable[[str], None]):
        self.path, self.say = path, say
        try:
            self.entries: dict[str, Any] = json.loads(path.read_text())["entries"]
        except (OSError, ValueError, KeyError):
            self.entries = {}
        self._checked: set[str] = set()

    def get(self, problem: Any, target: Target, family: str) -> Best:
        """The best guide of a family, found now where it is not known."""
        key = f"{problem.name} {family}"
        if key not in self._checked and not self._still_fits(key, target):
            self._find(key, problem, target, family)
        self._checked.add(key)
        entry = self.entries[key]
        return Best(Gaussian.from_json(entry["guide"]), entry["elbo"])

    def find(self, problem: Any, target: Target, family: str) -> dict[str, Any]:
        """Find the best guide again; one that a fit of ours had found stays where it is better."""
        key = f"{problem.name} {family}"
        old = self.entries.get(key) if self._still_fits(key, target) else None
        self._find(key, problem, target, family)
        if old is not None and old["source"].startswith(AUTOMATIC):
            self.offer(problem, target, family, Gaussian.from_json(old["guide"]), old["source"])
        self._checked.add(key)
        return self.entries[key]

    def offer(self, problem: Any, target: Target, family: str, gaussian: Gaussian, source: str) -> tuple[float, float]:
        """The deficit of a fit's guide in nats and its standard error; a clearly better guide becomes the best."""
        best = self.get(problem, target, family)
        deficit, error = difference(target.density, best.gaussian, gaussian)
        if deficit < -CLEARLY * error:
            self.say(f"{problem.name} {family}: {source} is better by {-deficit:.4f} ± {error:.4f} nats")
            self._keep(f"{problem.name} {family}", target, gaussian, source, above=-deficit)
        return deficit, error

    def _find(self, key: str, problem: Any, target: Target, family: str) -> None:
        draws, origin = starting_draws(problem, target)
        found = best_of(target, draws, family)
        self._keep(
            key,
            target,
            found.gaussian,
            SEARCHED,
            begun=origin,
            spread=found.spread,
            points=found.num_points,
            evaluations=found.num_evaluations,
        )

    def _keep(self, key: str, target: Target, gaussian: Gaussian, source: str, **more: Any) -> None:
        noise = antithetic(SHOWN_PAIRS, target.num_dims, NOISE_SEED)
        elbo, error = mean_and_error(elbo_per_pair(target.density, gaussian, noise))
        self.entries[key] = {
            "elbo": elbo,
            "elbo_mcse": error,
            "source": source,
            **more,
            "log_density_at_mean": float(target.density(gaussian.mean[None])[0]),
            "guide": gaussian.as_json(),
        }
        text = json.dumps({"entries": dict(sorted(self.entries.items()))}, indent=1) + "\n"
        write_whole(self.path, lambda path: path.write_text(text))

    def _still_fits(self, key: str, target: Target) -> bool:
        if key not in self.entries:
            return False
        entry = self.entries[key]
        mean = np.array(entry["guide"]["mean"])
        if len(mean) != target.num_dims:
            return False
        return bool(np.isclose(target.density(mean[None])[0], entry["log_density_at_mean"], rtol=1e-6, atol=1e-6))


def starting_draws(problem: Any, target: Target) -> tuple[np.ndarray, str]:
    """Draws of the posterior, unconstrained, shape (draw, dim), and where they come from.

    Where there is no reference, or it has other parameters than the model's latents, they are NUTS's.
    """
    program = target.program
    if getattr(problem, "reference", None) and has_all_sites(problem, program):
        return unconstrained_draws(problem, program), "reference draws"
    tree = ppl.sample(
        problem.model, problem.data, seed=1, **{"chains": 4, "warmup": 1_000, "draws": 1_000, **problem.sampling}
    )
    posterior = tree["posterior"]
    names = [site.name for site in program.sites.latent]
    return unconstrained_draws(problem, program, {name: posterior[name].to_numpy() for name in names}), "NUTS"


def target_of(problem: Any) -> Target:
    """The log density of a problem of posteriordb or of the catalogue."""
    return Target(build_program(problem.model, problem.data))
