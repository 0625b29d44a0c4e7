"""The fit that `guide="auto"` returns: a `Fit` with the ladder's evidence, and corrected draws where it allows."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from ppl_models.diagnostics import Check, psis_weights
from ppl_models.diagnostics.resampling import systematic
from ppl_models.engine import Target
from ppl_models.errors import OptionError
from ppl_models.inference import Fit, fit_storage
from ppl_models.inference.flat_guide import FlatGuide
from ppl_models.program import map_draws
from ppl_models.seeds import child_seed
from ppl_models.workflow.auto.rung import Rung

HEADER = "auto"
"""Where the evidence stands in the header of a fit's file."""
PROPOSALS_PER_DRAW, FEWEST_PROPOSALS, MOST_PROPOSALS = 2, 10_000, 200_000


@dataclass(frozen=True, repr=False)
class AutoFit(Fit):
    """What `ppl.fit(model, data, guide="auto")` returns.

    It is the fit of the rung chosen. Its draws are importance-resampled (PSIS) where a guide passed, and those of the
    chains where only MCMC did; where nothing passed they are the draws of the best guide as they are.

    Attributes:
        rungs: all that was tried, in order, with the checks and why it was refused.
        chosen: the name of the rung whose draws these are.
        passed: whether that rung passed its checks; False means that no rung did.
        chains: MCMC draws, where these were chosen; None elsewhere.
        num_proposals: draws that the chosen guide's checks were made on; as many are behind those resampled.
    """

    rungs: tuple[Rung, ...] = ()
    chosen: str = ""
    passed: bool = False
    chains: xr.DataTree | None = field(default=None, repr=False)
    num_proposals: int = 0

    @property
    def plain(self) -> Fit:
        """The chosen guide's fit itself, whose draws are not resampled."""
        return Fit(**{entry.name: getattr(self, entry.name) for entry in fields(Fit)})

    @property
    def has_density(self) -> bool:
        """Whether the draws have a density that they can be weighted by; those of MCMC have none."""
        return self.chains is None and self.plain.has_density

    def log_ratio(self, num_draws: int = 10_000, *, seed: int = 0) -> np.ndarray:
        """Log p - log q in nats at draws of the guide as they are, shape (draw,)."""
        return self.plain.log_ratio(num_draws, seed=seed)

    def save(self, path: str | Path) -> Path:
        """Write the chosen guide's fit with the ladder's evidence to one file; see `Fit.save`.

        Raises:
            FileError: the file cannot be written.
            OptionError: the draws are those of MCMC, which the file of a fit does not hold.
        """
        if self.chains is not None:
            raise OptionError(
                "save: these draws are those of MCMC, and a fit's file holds a guide. Write them with "
                "ppl.to_netcdf(fit.chains, path), or save fit.plain."
            )
        rungs = [{**asdict(rung), "checks": [asdict(check) for check in rung.checks]} for rung in self.rungs]
        return fit_storage.write(
            self,
            path,
            {
                HEADER: {
                    "rungs": rungs,
                    "chosen": self.chosen,
                    "passed": self.passed,
                    "num_proposals": self.num_proposals,
                }
            },
        )

    def _latent_draws(self, num_draws: int, seed: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        if self.chains is not None:
            return self._from_chains(num_draws, seed)
        guide = FlatGuide.of(self)
        if not self.passed or guide is None:
            return super()._latent_draws(num_draws, seed)
        return self._resampled(guide, num_draws, seed)

    def _from_chains(self, num_draws: int, seed: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Draws of the chains, evenly apart; all of them, over and over, where more are asked for than there are."""
        assert self.chains is not None
        posterior = self.chains["posterior"].to_dataset()
        number = posterior.sizes["chain"] * posterior.sizes["draw"]
        rest = num_draws % number
        places = np.concatenate(
            [np.tile(np.arange(number), num_draws // number), np.arange(rest) * number // max(rest, 1)]
        )
        order = np.random.default_rng(child_seed(seed, "chains")).permutation(places)
        values = {}
        for site in self.program.sites.latent:
            array = posterior[site.name].transpose("chain", "draw", ...).to_numpy()
            flat = array.reshape(number, *array.shape[2:])
            values[site.name] = torch.as_tensor(flat[order], dtype=self.program.dtype, device=self.program.device)
        # chains know the posterior's density up to its constant alone
        return values, torch.full((num_draws,), torch.nan, dtype=self.program.dtype)

    def _resampled(self, guide: FlatGuide, num_draws: int, seed: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        wanted = max(FEWEST_PROPOSALS, self.num_proposals, PROPOSALS_PER_DRAW * num_draws)
        number = min(MOST_PROPOSALS, wanted)
        points = guide.draw(number, seed)
        log_q = guide.log_prob(points)
        with self.program.isolated(seed=0):
            log_p = Target(self.program).values(points)
        weights, _ = psis_weights(log_p - log_q)
        chosen = systematic(weights, num_draws, child_seed(seed, "resample"))
        flat = torch.as_tensor(points[chosen], dtype=self.program.dtype, device=self.program.device)
        with self.program.isolated(seed=0), torch.no_grad():
            found = map_draws(self.program.constrain, num_draws, flat, size_hint=self.program.size_hint)
            latents = {site.name: found[site.name] for site in self.program.sites.latent}
            joint = map_draws(self.program.log_joint, num_draws, latents, size_hint=self.program.size_hint)
        log_jacobian = torch.as_tensor(log_p[chosen], dtype=self.program.dtype) - joint
        return latents, torch.as_tensor(log_q[chosen], dtype=self.program.dtype) - log_jacobian

    def _attrs(self) -> dict[str, Any]:
        return {
            **super()._attrs(),
            "chosen": self.chosen,
            "passed": int(self.passed),
            "resampled": int(self.passed and self.chains is None),
        }

    def _rows(self) -> list[tuple[str, str]]:
        rungs = [("rung" if number == 0 else "", str(rung)) for number, rung in enumerate(self.rungs)]
        answer = self.chosen if self.passed else f"none passed; these are the draws of {self.chosen}, as they are"
        return [("chosen", answer), *rungs, *super()._rows()]


def from_header(fit: Fit, header: Mapping[str, Any]) -> Fit:
    """A fit as it was saved: with the ladder's evidence, where the header of its file has any."""
    stored = header.get(HEADER)
    if stored is None:
        return fit
    rungs = [Rung(**{**rung, "checks": tuple(Check(**check) for check in rung["checks"])}) for rung in stored["rungs"]]
    return as_auto(
        fit,
        {
            "rungs": tuple(rungs),
            "chosen": stored["chosen"],
            "passed": stored["passed"],
            "num_proposals": stored.get("num_proposals", 0),
        },
    )


def as_auto(fit: Fit, extra: Mapping[str, Any]) -> AutoFit:
    """A fit with the ladder's evidence."""
    own = {entry.name: getattr(fit, entry.name) for entry in fields(Fit)}
    return AutoFit(**{**own, **extra})
