"""Log p(x) of each datum between two bounds: annealing from a normal that is near its posterior, and back."""

from dataclasses import dataclass

import numpy as np
import torch

from ppl_models.inference.by_datum.normals import Normals
from ppl_models.inference.by_datum.target import DatumTarget
from ppl_models.inference.evidence.annealed import Annealed, anneal
from ppl_models.inference.evidence.prior_likelihood import Split
from ppl_models.inference.evidence.temperatures import sigmoid_temperatures
from ppl_models.inference.evidence.tempered_path import States
from ppl_models.inference.evidence.tuning import tune
from ppl_models.inference.evidence.weight_means import log_mean, meeting
from ppl_models.seeds import child_seed

NUM_KNOTS = 7
NUM_LEAPFROG = 3


@dataclass(frozen=True)
class Bracket:
    """Log p(x) between two bounds, of each datum; nats, shape (datum,).

    Attributes:
        lower: below log p(x) in expectation.
        lower_error: its standard error.
        upper: above it in expectation, as far as the draws that the reverse run began at are exact.
        upper_error: its standard error.
        log_evidence: where both runs meet.
        log_evidence_error: its standard error.
        acceptance: the least mean probability of acceptance along the path.
    """

    lower: np.ndarray
    lower_error: np.ndarray
    upper: np.ndarray
    upper_error: np.ndarray
    log_evidence: np.ndarray
    log_evidence_error: np.ndarray
    acceptance: np.ndarray


class NormalPath:
    """The path q^(1 - t) p^t from normals to the joint densities of a target, as `anneal` takes a path.

    Args:
        target: log p(x, z) of each datum.
        normals: where it starts.
    """

    def __init__(self, target: DatumTarget, normals: Normals):
        self.target, self.normals = target, normals
        self.split: Split = target.prior.split

    @property
    def num_data(self) -> int:
        """How many data there are."""
        return self.target.num_data

    def at(self, points: torch.Tensor) -> States:
        """The states at points of shape (chain, datum, dim)."""
        value, slope = self.target(points)
        noise = self.normals.noise_of(points)
        return States(points, self.normals.log_prob_at(noise), value, self.normals.slope_at(noise), slope)

    def drawn(self, num_chains: int, seed: int) -> States:
        """States at independent draws of the normals."""
        shape = (num_chains, *self.normals.mean.shape)
        like = self.normals.mean
        noise = torch.randn(shape, generator=self.target.generator(seed), dtype=like.dtype, device=like.device)
        return self.at(self.normals.points(noise))

    def log_density(self, states: States, temperature: torch.Tensor) -> torch.Tensor:
        """Log density in nats, shape (chain, datum)."""
        return (1.0 - temperature) * states.first + torch.where(temperature > 0, temperature * states.second, 0.0)

    def slope(self, states: States, temperature: torch.Tensor) -> torch.Tensor:
        """The gradient of the log density, shape (chain, datum, dim)."""
        wide = temperature[..., None]
        return (1.0 - wide) * states.first_slope + wide * states.second_slope

    def rise(self, states: States) -> torch.Tensor:
        """How fast the log density rises with the inverse temperature, nats, shape (chain, datum)."""
        return (states.second - states.first).nan_to_num(-torch.inf, torch.inf, -torch.inf)


def bracket(
    target: DatumTarget,
    normals: Normals,
    draws: np.ndarray,
    *,
    num_temperatures: int = 30,
    num_chains: int = 16,
    seed: int = 0,
) -> Bracket:
    """Bracket log p(x) of each datum.

    Args:
        target: log p(x, z) of each datum.
        normals: near the posteriors; bounds hold whatever they are, and are loose where they are not near.
        draws: of the posteriors by MCMC, unconstrained, shape (chain, draw, datum, dim); the reverse run begins there.
        num_temperatures: steps along the path.
        num_chains: of each datum, each way.
        seed: of everything random.

    Neal (2001), Annealed importance sampling; Grosse, Ghahramani and Adams (2015), Sandwiching the marginal likelihood
    using bidirectional Monte Carlo.
    """
    path = NormalPath(target, normals)
    generator = target.generator(child_seed(seed, "transitions"))
    temperatures = target.tensor(sigmoid_temperatures(num_temperatures))
    knots = sigmoid_temperatures(NUM_KNOTS - 1).tolist()
    pilot = path.drawn(num_chains, child_seed(seed, "pilot"))
    tuning = tune(path, pilot, knots, NUM_LEAPFROG, generator)  # pyright: ignore[reportArgumentType]
    begun = path.drawn(num_chains, child_seed(seed, "forward")), _starts(path, draws, num_chains, seed)
    forward, reverse = (
        anneal(path, states, temperatures, tuning, generator, reverse=back)  # pyright: ignore[reportArgumentType]
        for states, back in zip(begun, (False, True), strict=True)
    )
    weights, inverse = _numbers(forward), _numbers(reverse)
    lower, lower_error = log_mean(weights)
    upper, upper_error = log_mean(-inverse)
    acceptance = torch.minimum(forward.acceptance.min(0).values, reverse.acceptance.min(0).values)
    return Bracket(lower, lower_error, -upper, upper_error, *meeting(weights, inverse), acceptance.cpu().numpy())


def _starts(path: NormalPath, draws: np.ndarray, num_chains: int, seed: int) -> States:
    """Draws far from each other: evenly spaced along all chains."""
    flat = draws.reshape(-1, *draws.shape[2:])
    offset = np.random.default_rng(child_seed(seed, "reverse")).uniform()
    chosen = ((np.arange(num_chains) + offset) * len(flat) / num_chains).astype(int)
    return path.at(path.target.tensor(flat[chosen]))


def _numbers(run: Annealed) -> np.ndarray:
    return run.log_weights.double().cpu().numpy()
