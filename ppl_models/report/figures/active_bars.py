"""Activity of each latent unit."""

import numpy as np
from matplotlib.figure import Figure

from ppl_models.diagnostics import ActiveUnits
from ppl_models.report.figures.style import ACCENT, COLORS, MUTED, drawing, light_grid, new_figure

MOST_NAMED = 24


def active_units_figure(units: ActiveUnits) -> Figure:
    """Variance over the data of each unit's posterior mean, logarithmic, and its KL; the most active first.

    Args:
        units: what `active_units` found.
    """
    table = units.table
    places = np.arange(len(table))
    active = table["active"].to_numpy(dtype=bool)
    colors = [COLORS["guide"] if each else MUTED for each in active]
    floor = units.limit / 30.0
    with drawing():
        figure, (top, bottom) = new_figure(4.2, 2, 1, sharex=True)
        values = np.maximum(table["variance"].to_numpy(), floor)
        top.bar(places, values, color=colors, yerr=2.0 * table["variance_se"], error_kw={"linewidth": 1.0})
        top.set_yscale("log")
        top.set_ylim(floor, max(2.0, 1.5 * float(values.max())))
        top.axhline(
            units.limit, color=ACCENT, linestyle=(0, (4, 2)), linewidth=1.4, label=f"active above {units.limit:g}"
        )
        top.set_ylabel("variance of the\nposterior mean")
        bottom.bar(places, table["kl"], color=colors, yerr=2.0 * table["kl_se"], error_kw={"linewidth": 1.0})
        bottom.set_ylabel("KL (nats\nper datum)")
        if len(table) <= MOST_NAMED:
            many = len(table) > 8
            bottom.set_xticks(places, list(table.index), rotation=90 if many else 0)
        else:
            bottom.set_xlabel("unit, most active first")
        for axes in (top, bottom):
            light_grid(axes, "y")
        figure.legend(loc="outside upper left")
    return figure
