"""Waiting times of a geyser: a mixture of two normals with ordered means and enumerated assignments."""

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.transforms import OrderedTransform
from pyro.ops.indexing import Vindex

from guides.handwritten.old_faithful_mixture import guide
from ppl_models import datasets
from ppl_models.catalogue.problem import Problem


def model(num_observations: int, y: torch.Tensor | None = None) -> torch.Tensor:
    """Mixture of two: y_i ~ Normal(means[k_i], scales[k_i]), k_i ~ Categorical(weights), k enumerated in parallel.

    weights ~ Dirichlet(2, 2), scales ~ HalfNormal(1), means[0] ~ Normal(6, 2) and means[1] - means[0] ~ LogNormal(0.7,
    0.7), all in tens of minutes. The prior of the means lives on ordered pairs, so that the labels cannot switch: it
    is a normal under `OrderedTransform`, the last transform, so that the site's support says `ordered_vector`.

    Args:
        num_observations: How many waiting times there are.
        y: Waiting times, tens of minutes, shape (observation,); None to draw them.

    Returns:
        The waiting times, measured or drawn.

    Azzalini and Bowman (1990), A look at some data on the Old Faithful geyser; Jasra, Holmes and Stephens (2005),
    Markov chain Monte Carlo methods and the label switching problem in Bayesian mixture modeling.
    """
    weights = pyro.sample("weights", dist.Dirichlet(torch.full((2,), 2.0)))
    unordered = dist.Normal(torch.tensor([6.0, 0.7]), torch.tensor([2.0, 0.7])).to_event(1)
    means = pyro.sample("means", dist.TransformedDistribution(unordered, [OrderedTransform()]))
    scales = pyro.sample("scales", dist.HalfNormal(torch.ones(2)).to_event(1))
    with pyro.plate("observation", num_observations):
        component = pyro.sample("component", dist.Categorical(weights), infer={"enumerate": "parallel"})
        # Vindex, since enumeration and particles put dimensions left of the component's
        location, scale = Vindex(means)[..., component], Vindex(scales)[..., component]
        observed = None if y is None else y.to(location)  # summing out mixes no dtypes
        return pyro.sample("y", dist.Normal(location, scale), obs=observed)


def build() -> Problem:
    """The problem: the 272 waiting times."""
    waiting = datasets.old_faithful()["waiting_minutes"] / 10.0
    by_component = ("component",)
    return Problem(
        name="old_faithful_mixture",
        title="waiting times of the Old Faithful geyser, a mixture of two normals with ordered means",
        model=model,
        data={"num_observations": len(waiting), "y": torch.tensor(waiting)},
        coords={"component": ["short", "long"], "observation": list(range(len(waiting)))},
        dims={"weights": by_component, "means": by_component, "scales": by_component, "y": ("observation",)},
        guides={"handwritten": guide},
        cite="Azzalini and Bowman (1990), A look at some data on the Old Faithful geyser, Applied Statistics 39, "
        "357-365.",
        enumerated=("component",),
        expected={
            "normal": "does fairly well: the components are apart, and the parameters little correlated.",
            "full_rank": "does well: 272 observations make the five unconstrained parameters nearly normal.",
            "handwritten": "does well, like full_rank: it is a dense normal in the same coordinates.",
        },
    )
