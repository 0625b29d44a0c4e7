"""Figures: each function returns a matplotlib `Figure` and touches no global state of matplotlib."""

from ppl_models.report.figures.course import elbo_figure
from ppl_models.report.figures.efficiency import efficiency_figure
from ppl_models.report.figures.marginals import density_figure, forest_figure
from ppl_models.report.figures.pair import choose_pair, pair_figure
from ppl_models.report.figures.predictive import predictive_figure
from ppl_models.report.figures.style import to_svg
from ppl_models.report.figures.tail import tail_figure

__all__ = [
    "choose_pair",
    "density_figure",
    "efficiency_figure",
    "elbo_figure",
    "forest_figure",
    "pair_figure",
    "predictive_figure",
    "tail_figure",
    "to_svg",
]
