"""A Pyro model seen as pure functions: sites, transforms, flat unconstrained vector, log density, isolation."""

from ppl_models.program.batching import can_vmap, map_draws
from ppl_models.program.data import Arguments, Data, prepare_arguments
from ppl_models.program.first_run import check_guide_covers, first_run
from ppl_models.program.isolation import isolated
from ppl_models.program.parameters import Parameters
from ppl_models.program.placed import PlacedProgram, placed
from ppl_models.program.program import Program, build_program, with_data
from ppl_models.program.rows import Rows, find_rows
from ppl_models.program.sites import Site, Sites

__all__ = [
    "Arguments",
    "Data",
    "Parameters",
    "PlacedProgram",
    "Program",
    "Rows",
    "Site",
    "Sites",
    "build_program",
    "can_vmap",
    "check_guide_covers",
    "find_rows",
    "first_run",
    "isolated",
    "map_draws",
    "placed",
    "prepare_arguments",
    "with_data",
]
