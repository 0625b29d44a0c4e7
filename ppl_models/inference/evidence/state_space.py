"""State-space models: a hidden state that moves in time, seen through noisy observations."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributions import Distribution

from ppl_models.errors import ModelError
from ppl_models.inference.evidence.laws import (
    STATE,
    State,
    call,
    density,
    density_of_observed,
    law_of,
    laws_of_state,
)
from ppl_models.options import check_count
from ppl_models.program import isolated
from ppl_models.seeds import check_seed

Laws = Distribution | Mapping[str, Distribution]
"""A distribution of the state; of each of its parts where it is a dict, which are independent given the past."""

ARGUMENTS = {
    "initial": "lambda",
    "transition": "lambda time, state",
    "observation": "lambda time, state",
    "proposal": "lambda time, state, observed",
}


@dataclass(frozen=True)
class StateSpace:
    """A state-space model, written in torch's or Pyro's distributions for all particles at once.

    A state is a tensor of shape (particle, *event), or a dict of such tensors. Distributions given a state have batch
    shape (particle,) and the event shape of what they are about: `.to_event(1)` makes an axis an event's.

    Args:
        initial: () -> distribution of one state at time 0, of batch shape ().
        transition: (time, state before) -> distribution of the state at `time`, from 1 on.
        observation: (time, state) -> distribution of what is observed at `time`, from 0 on.
        proposal: (time, state before, observation) -> distribution that particles are drawn from at `time`, which must
            not miss what the model can draw (a check of the filter looks); the state before is None at time 0, and at
            times without an observation the model proposes. None draws from the model always (the bootstrap filter).

    Raises:
        ModelError: a part is no function; a distribution itself is none.
    """

    initial: Callable[[], Laws]
    transition: Callable[[int, Any], Laws]
    observation: Callable[[int, Any], Distribution]
    proposal: Callable[[int, Any, torch.Tensor], Laws] | None = None

    def __post_init__(self) -> None:
        for name in ("initial", "transition", "observation", "proposal"):
            part = getattr(self, name)
            if not callable(part) and not (name == "proposal" and part is None):
                raise ModelError(f"StateSpace {name}: found {type(part).__name__}, wanted a function. See its help.")
            if isinstance(part, Distribution):
                raise ModelError(
                    f"StateSpace {name}: found {type(part).__name__}, wanted a function that returns one: "
                    f"{ARGUMENTS[name]}: ..."
                )

    def begin(self, observed: torch.Tensor | None, count: int) -> tuple[State, torch.Tensor]:
        """`count` states at time 0 and their log weights in nats, shape (particle,); in the caller's random state.

        Raises:
            ModelError, DataError: as `advance`.
        """
        laws = laws_of_state("initial", call("initial", self.initial), count, None)
        return self._moved(0, None, laws, observed, count)

    def advance(self, time: int, state: State, observed: torch.Tensor | None) -> tuple[State, torch.Tensor]:
        """States at `time` given those before, and what that adds to their log weights in nats, shape (particle,).

        Raises:
            ModelError: a function of the model fails, gives a distribution of another shape, or a density of NaN.
            DataError: the observation is of another shape, or outside the support.
        """
        where, count = f"transition at time {time}", len(next(iter(state.values())))
        laws = laws_of_state(where, call(where, self.transition, time, _plain(state)), count, state)
        return self._moved(time, state, laws, observed, count)

    def probe(
        self, time: int, before: State | None, observed: torch.Tensor, count: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Where states that the model draws stand: for seeing whether the proposal could draw them too.

        Args:
            time: which.
            before: states before, shape (particle, *event) each; None at time 0.
            observed: at this time.
            count: number of particles.

        Returns:
            Log density of the observation, and of the model's density over the proposal's, nats, shape (particle,).

        Raises:
            ModelError, DataError: as `advance`.
        """
        where, given = f"transition at time {time}", None if before is None else _plain(before)
        found = call("initial", self.initial) if before is None else call(where, self.transition, time, given)
        laws = laws_of_state("initial" if before is None else where, found, count, before)
        state = {name: call(f"'{name}' at time {time}", law.sample) for name, law in laws.items()}
        ratio = torch.zeros(count, dtype=torch.get_default_dtype())
        for name, law in self._proposed(time, before, laws, observed, count).items():
            above = density(f"density of '{name}' at time {time}", laws[name], state[name])
            ratio = ratio + above - density(f"proposal of '{name}' at time {time}", law, state[name])
        law = self._observation(time, state, count)
        return density_of_observed(f"observation at time {time}", law, observed), ratio

    def simulate(
        self, num_steps: int, *, seed: int = 0, dtype: torch.dtype = torch.float64
    ) -> tuple[Any, torch.Tensor]:
        """Draw a course of states, and observations of it.

        Args:
            num_steps: how many times.
            seed: seed of the draws.
            dtype: floating dtype of numbers that the functions make.

        Returns:
            States, of shape (time, *event) or a dict of such tensors, and observations, shape (time, *event).

        Raises:
            OptionError, ModelError: an option is out of its range; the model cannot be used as it is.
        """
        check_count("num_steps", num_steps)
        states: list[State] = []
        observations = []
        with isolated(seed=check_seed(seed), dtype=dtype), torch.no_grad():
            for time in range(num_steps):
                states.append(self.advance(time, states[-1], None)[0] if time else self.begin(None, 1)[0])
                observations.append(self._observation(time, states[-1], 1).sample()[0])
        course = {name: torch.cat([state[name] for state in states]) for name in states[0]}
        return _plain(course), torch.stack(observations)

    def _moved(
        self, time: int, before: State | None, laws: dict[str, Distribution], observed: torch.Tensor | None, count: int
    ) -> tuple[State, torch.Tensor]:
        """States drawn at `time`, and their weights: the model's densities over the proposal's."""
        proposed = laws if observed is None else self._proposed(time, before, laws, observed, count)
        state = {name: call(f"'{name}' at time {time}", law.sample) for name, law in proposed.items()}
        weight = torch.zeros(count, dtype=torch.get_default_dtype())
        for name, value in state.items() if proposed is not laws else ():
            above = density(f"density of '{name}' at time {time}", laws[name], value)
            weight = weight + above - density(f"proposal of '{name}' at time {time}", proposed[name], value)
        if observed is None:
            return state, weight
        law = self._observation(time, state, count)
        return state, weight + density_of_observed(f"observation at time {time}", law, observed)

    def _proposed(
        self, time: int, before: State | None, laws: dict[str, Distribution], observed: torch.Tensor, count: int
    ) -> dict[str, Distribution]:
        if self.proposal is None:
            return laws
        where, given = f"proposal at time {time}", None if before is None else _plain(before)
        found = laws_of_state(where, call(where, self.proposal, time, given, observed), count, before)
        if found.keys() != laws.keys():
            raise ModelError(f"{where}: parts {sorted(found)}, wanted those of the state, {sorted(laws)}.")
        return found

    def _observation(self, time: int, state: State, count: int) -> Distribution:
        where = f"observation at time {time}"
        return law_of(where, call(where, self.observation, time, _plain(state)), count)


def _plain(state: State) -> Any:
    return state[STATE] if list(state) == [STATE] else dict(state)
