"""Draws as an `xarray.DataTree` (ArviZ), predictive draws, saving and loading."""

from ppl_models.posterior.labels import Coords, Dims, Labels
from ppl_models.posterior.names import SAMPLE_DIMS, free_name
from ppl_models.posterior.predictive import GROUPS, check_include, extra_groups, predictive_draws, prior_tree
from ppl_models.posterior.storage import from_netcdf, to_netcdf
from ppl_models.posterior.tree import data_groups, make_tree

__all__ = [
    "GROUPS",
    "SAMPLE_DIMS",
    "Coords",
    "Dims",
    "Labels",
    "check_include",
    "data_groups",
    "extra_groups",
    "free_name",
    "from_netcdf",
    "make_tree",
    "predictive_draws",
    "prior_tree",
    "to_netcdf",
]
