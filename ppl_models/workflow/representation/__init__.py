"""The use of representations: rows of data to latents and back, new rows, missing values, strange rows."""

from ppl_models.workflow.representation.decode import decode
from ppl_models.workflow.representation.encode import encode
from ppl_models.workflow.representation.generate import generate
from ppl_models.workflow.representation.impute import impute
from ppl_models.workflow.representation.interpolate import interpolate
from ppl_models.workflow.representation.out_of_distribution import out_of_distribution
from ppl_models.workflow.representation.reconstruct import reconstruct
from ppl_models.workflow.representation.traverse import traverse

__all__ = [
    "decode",
    "encode",
    "generate",
    "impute",
    "interpolate",
    "out_of_distribution",
    "reconstruct",
    "traverse",
]
