"""Observations in time, one by one, with those that are missing."""

from typing import Any

import torch

from ppl_models.errors import DataError, first_line


def as_observations(observations: Any) -> list[torch.Tensor | None]:
    """The observations one by one, None for those that are missing (None, or nothing but NaN).

    Args:
        observations: an array of shape (time, *event), or a list of numbers, arrays and None.

    Raises:
        DataError: there are none, they are no numbers, or one is missing in part.
    """
    values = list(observations) if isinstance(observations, (list, tuple)) else observations
    if not isinstance(values, list):
        try:
            values = list(torch.as_tensor(values))
        except (TypeError, ValueError, RuntimeError) as error:
            raise DataError(
                f"observations: found {type(observations).__name__} ({first_line(error)}), wanted an array of shape "
                "(time, *event) or a list."
            ) from None
    if not values:
        raise DataError("observations: found none, wanted at least one time.")
    return [_one_observation(time, value) for time, value in enumerate(values)]


def _one_observation(time: int, value: Any) -> torch.Tensor | None:
    if value is None:
        return None
    try:
        tensor = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"observation at time {time}: {first_line(error)}; wanted numbers.") from None
    # densities of whole numbers would be computed in torch's default precision
    tensor = tensor if isinstance(value, torch.Tensor) and tensor.is_floating_point() else tensor.double()
    missing = tensor.isnan()
    if missing.any() and not missing.all():
        raise DataError(
            f"observation at time {time}: NaN in {int(missing.sum())} of its {missing.numel()} elements. One that is "
            "missing in part has no density here: give None for all of it, or an observation distribution of what is "
            "there."
        )
    return None if missing.all() else tensor
