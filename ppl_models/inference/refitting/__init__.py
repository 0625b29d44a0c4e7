"""Refits: the posteriors of other data, fast, by what made a fit."""

from ppl_models.inference.refitting.refitted import Refitted
from ppl_models.inference.refitting.refitter import Refitter
from ppl_models.inference.refitting.spec import RefitSpec

__all__ = ["RefitSpec", "Refitted", "Refitter"]
