"""A model that observes two sets of data, given the same latents."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample

from ppl_models.program import Data, Program

SECOND = "_replicate"
"""Ends the names of the sites that observe the second data."""
ARGUMENT = "replicate_"
"""Begins the names of the arguments with the second data."""


class Twice:
    """The model run on its data, then on other data with the same latents: log p(latents) + log p(y) + log p(y').

    The second run takes every unobserved value from the first and counts its observations alone. So it is right for
    any model: also for one with a latent for each datum, which then has been observed twice, and for a series, whose
    second course depends on itself.

    Args:
        model: a Pyro model.
        arguments: of the model that the second data replace; named ones also as `replicate_<name>`, positional ones,
            as "argument i", by those that follow the first data's.
    """

    def __init__(self, model: Callable[..., Any], arguments: tuple[str | int, ...]):
        self.model = model
        self.arguments = arguments

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model twice; returns what the first run returns."""
        first_args, first_kwargs, second_args, second_kwargs = self._split(args, kwargs)
        latents = _Latents()
        with latents:
            result = self.model(*first_args, **first_kwargs)
        with _Again(latents.values):
            self.model(*second_args, **second_kwargs)
        return result

    def _split(self, args: tuple, kwargs: Mapping[str, Any]) -> tuple[tuple, dict[str, Any], tuple, dict[str, Any]]:
        if not args:
            first = {name: value for name, value in kwargs.items() if not name.startswith(ARGUMENT)}
            return (), first, (), {**first, **{str(name): kwargs[f"{ARGUMENT}{name}"] for name in self.arguments}}
        own = args[: len(args) - len(self.arguments)]
        second = list(own)
        for place, value in zip(self.arguments, args[len(own) :], strict=True):
            assert isinstance(place, int)
            second[place] = value
        return own, {}, tuple(second), {}


class _Latents(Messenger):
    """Keep every unobserved value of a run."""

    def __init__(self):
        super().__init__()
        self.values: dict[str, Any] = {}

    def _pyro_post_sample(self, msg: Any):
        if not msg["is_observed"] or site_is_subsample(msg):
            self.values[msg["name"]] = msg["value"]


class _Again(Messenger):
    """Repeat a run's unobserved values unseen, and rename its observations."""

    def __init__(self, values: Mapping[str, Any]):
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Any):
        if msg["name"] in self.values:
            msg["value"] = self.values[msg["name"]]
            msg["stop"] = True
        elif msg["infer"] is not None and msg["infer"].get("_deterministic"):
            msg["stop"] = True
        else:
            msg["name"] += SECOND


def observed_twice(program: Program, replaced: Mapping[str, str]) -> tuple[Twice, Data, dict[str, str]]:
    """The model of a program for two sets of data, called with the program's own data twice.

    Args:
        program: the model with its data.
        replaced: the argument that each observed site takes.

    Returns:
        The model, its data, and the argument for the second data by the site of the first.
    """
    arguments = program.arguments
    named = arguments.named()
    again: dict[str, torch.Tensor] = {site: named[name].clone() for site, name in replaced.items()}
    if arguments.args:
        places = tuple(arguments.names.index(name) for name in replaced.values())
        names = {site: f"argument {len(arguments.args) + place}" for place, site in enumerate(replaced)}
        return Twice(program.model, places), (*arguments.args, *again.values()), names
    names = {site: f"{ARGUMENT}{name}" for site, name in replaced.items()}
    data = {**arguments.kwargs, **{names[site]: value for site, value in again.items()}}
    return Twice(program.model, tuple(replaced.values())), data, names
