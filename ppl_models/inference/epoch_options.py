"""The options of a training by epochs, checked before anything is run."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader

from ppl_models.errors import OptionError
from ppl_models.inference.fit_options import FitOptions
from ppl_models.inference.runs import AUTO
from ppl_models.options import check_count, check_positive
from ppl_models.program.estimators import WeightedKl

BATCH_SIZE = 128
MAX_EPOCHS = 100
"""Most epochs where neither they nor steps are said."""
PATIENCE = 10
"""Epochs without a better look where rows are held out and nothing is said."""
ONLY_BY_EPOCHS = ("patience", "warmup_epochs", "checkpoint", "mixed_precision")


def check_epoch_options(options: FitOptions, data: Any) -> dict[str, Any]:
    """The settings of a training by epochs, and of the weight of the divergence; empty where there is neither.

    Raises:
        OptionError: an option is out of its range, or means nothing without epochs.
    """
    settings = _weighted_settings(options)
    share = options.held_out
    if isinstance(share, (int, float)) and not isinstance(share, bool):
        if not 0.0 < share < 1.0:
            raise OptionError(f"held_out: found {share!r}, wanted a share of the rows in (0, 1), or data.")
        if isinstance(data, DataLoader):
            raise OptionError(
                "held_out: a share of the rows cannot be taken out of a DataLoader. Give the Dataset itself with "
                "batch_size=, or a second loader (torch.utils.data.random_split)."
            )
        if not options.by_epochs:
            raise OptionError(
                "held_out: a share of the rows needs a training by epochs. Give batch_size or max_epochs."
            )
    if not options.by_epochs:
        for name in ONLY_BY_EPOCHS:
            if getattr(options, name):
                raise OptionError(f"{name}: only a training by epochs has it. Give batch_size or max_epochs.")
        return settings
    return {**settings, **_epoch_settings(options, data)}


def _epoch_settings(options: FitOptions, data: Any) -> dict[str, Any]:
    size = options.batch_size
    if isinstance(data, DataLoader):
        if size is not None:
            raise OptionError("batch_size: the DataLoader has its own; leave it out, or give the Dataset itself.")
    else:
        size = BATCH_SIZE if size is None else check_count("batch_size", size)
    patience = None if options.patience is None else check_count("patience", options.patience)
    if options.held_out is None:
        if patience is not None:
            raise OptionError("patience: it counts looks at rows held out. Give held_out=0.1, or leave patience out.")
    elif patience is None:
        patience = PATIENCE
    if options.checkpoint is not None and (options.optimizer is not None or options.num_starts != 1):
        raise OptionError("checkpoint: it keeps one start of the fit's own Adam; leave optimizer and num_starts out.")
    if options.mixed_precision and options.dtype == torch.float64:
        raise OptionError("mixed_precision: it is for float32; found dtype torch.float64. Leave one of the two out.")
    most = None if options.max_epochs is None else check_count("max_epochs", options.max_epochs)
    return {
        "batch_size": size,
        "max_epochs": most,
        "patience": patience,
        "mixed_precision": bool(options.mixed_precision),
        "warmup_epochs": check_count("warmup_epochs", options.warmup_epochs, least=0),
    }


def _weighted_settings(options: FitOptions) -> dict[str, Any]:
    """The settings of the weighted divergence; empty where it is plain."""
    if (options.beta, options.free_bits, options.warmup_epochs) == (1.0, 0.0, 0):
        return {}
    beta = check_positive("beta", options.beta)
    WeightedKl(beta, options.free_bits)
    if options.estimator not in (AUTO, WeightedKl.name) or options.elbo is not None:
        raise OptionError(
            "beta, free_bits, warmup_epochs: they weight the divergence in the ELBO, and estimator or elbo names "
            f"another objective. Leave it out, or take estimator='{WeightedKl.name}'."
        )
    if options.estimator_options and (beta, options.free_bits) != (1.0, 0.0):
        raise OptionError("estimator_options: beta and free_bits are given beside it. Give them once.")
    return {"beta": beta, "free_bits": float(options.free_bits)}


def named_estimator(options: FitOptions, plate: str | None = None) -> tuple[str, Mapping[str, Any]]:
    """The estimator that options name, by itself or by a weight of the divergence.

    Args:
        options: of the fit.
        plate: over the rows, in a training by epochs.
    """
    name, own = options.estimator, dict(options.estimator_options or {})
    if (options.beta, options.free_bits, options.warmup_epochs) != (1.0, 0.0, 0) and not own:
        name, own = WeightedKl.name, {"beta": options.beta, "free_bits": options.free_bits}
    if name == WeightedKl.name and plate is not None:
        own = {"plate": plate, **own}
    return name, own


def number_of_epochs(max_epochs: int | None, max_steps: int | str, steps_an_epoch: int) -> int:
    """Most epochs, where they, or steps, are said, or neither."""
    if max_epochs is not None:
        return max_epochs
    return MAX_EPOCHS if isinstance(max_steps, str) else math.ceil(max_steps / steps_an_epoch)


def check_warmup(warmup_epochs: int, max_epochs: int, max_steps: int | str, steps_an_epoch: int) -> None:
    """Refuse a warm-up that would not end before the training does.

    Raises:
        OptionError: the weight of the divergence would never have arrived at 1.
    """
    most = max_epochs * steps_an_epoch
    most = most if isinstance(max_steps, str) else min(most, max_steps)
    if warmup_epochs and warmup_epochs * steps_an_epoch >= most:
        raise OptionError(
            f"warmup_epochs: found {warmup_epochs}, and the training ends after {most / steps_an_epoch:g} epochs "
            f"({most:,} steps), before the divergence counts in full. Give fewer, or raise max_epochs."
        )
