"""Calibration: whether the ranks of true values among posterior draws are what an exact posterior would give."""

from ppl_models.diagnostics.calibration.coverage import check_coverage, coverage_table
from ppl_models.diagnostics.calibration.ecdf_band import ecdf_band, ecdf_p_values
from ppl_models.diagnostics.calibration.ranks import ranks_among
from ppl_models.diagnostics.calibration.refits import check_refits
from ppl_models.diagnostics.calibration.symmetry import check_vsbc, symmetry_p_values
from ppl_models.diagnostics.calibration.uniformity import check_sbc, sbc_p_values

__all__ = [
    "check_coverage",
    "check_refits",
    "check_sbc",
    "check_vsbc",
    "coverage_table",
    "ecdf_band",
    "ecdf_p_values",
    "ranks_among",
    "sbc_p_values",
    "symmetry_p_values",
]
