"""Figures: each function returns a matplotlib `Figure` and touches no global state of matplotlib."""

from ppl_models.report.figures.active_bars import active_units_figure
from ppl_models.report.figures.bracket import bracket_figure
from ppl_models.report.figures.course import elbo_figure
from ppl_models.report.figures.efficiency import efficiency_figure
from ppl_models.report.figures.gap_bars import gap_figure
from ppl_models.report.figures.generations import generation_figure
from ppl_models.report.figures.khat_bars import khat_figure
from ppl_models.report.figures.latent_map import latent_figure
from ppl_models.report.figures.marginals import density_figure, forest_figure
from ppl_models.report.figures.pair import choose_pair, pair_figure
from ppl_models.report.figures.predictive import predictive_figure
from ppl_models.report.figures.rank_ecdf import rank_figure
from ppl_models.report.figures.rate_distortion_plane import rate_distortion_figure
from ppl_models.report.figures.reconstructions import reconstruction_figure
from ppl_models.report.figures.style import to_svg
from ppl_models.report.figures.tail import tail_figure
from ppl_models.report.figures.traversals import traversal_figure

__all__ = [
    "active_units_figure",
    "bracket_figure",
    "choose_pair",
    "density_figure",
    "efficiency_figure",
    "elbo_figure",
    "forest_figure",
    "gap_figure",
    "generation_figure",
    "khat_figure",
    "latent_figure",
    "pair_figure",
    "predictive_figure",
    "rank_figure",
    "rate_distortion_figure",
    "reconstruction_figure",
    "tail_figure",
    "to_svg",
    "traversal_figure",
]
