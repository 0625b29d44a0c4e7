"""Where automatic guides start: the median of a few prior draws, taken in the unconstrained space."""

import torch
from torch.distributions import biject_to


def init_to_prior_median(site: dict, num_draws: int = 15) -> torch.Tensor:
    """The coordinate-wise median of prior draws in the unconstrained space, as a constrained value.

    Pyro's `init_to_median` takes the median of the constrained values, and so leaves the prior for the image of zero at
    every vector-valued site: a median of ordered vectors or simplexes need be neither. The unconstrained space has no
    such sites. For scalar sites both agree, since monotone maps keep medians.

    Args:
        site: A Pyro trace site; `site["fn"]` is its prior given the values already chosen upstream.
        num_draws: How many prior draws; odd, so that the median is one of them in every coordinate.

    Returns:
        A value inside the support, of the shape of one draw. Where the prior cannot be sampled (an
        `ImproperUniform`), or most of its draws are not finite, the image of zero.
    """
    prior = site["fn"]
    transform = biject_to(prior.support)
    try:
        draws = transform.inv(prior.sample((num_draws,)))
    except NotImplementedError:
        return transform(torch.zeros(transform.inverse_shape(prior.shape())))
    median = draws.median(dim=0).values
    return transform(torch.where(median.isfinite(), median, torch.zeros_like(median)))
