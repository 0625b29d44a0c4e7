"""The figures of an audit with the captions that say what to look for."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ppl_models.diagnostics import RateDistortion, khat_limit
from ppl_models.errors import PPLError
from ppl_models.report.figures import (
    active_units_figure,
    bracket_figure,
    gap_figure,
    generation_figure,
    khat_figure,
    latent_figure,
    rank_figure,
    rate_distortion_figure,
    reconstruction_figure,
    traversal_figure,
)
from ppl_models.report.plates import Plate, plate
from ppl_models.workflow.audit.audit_result import Audit
from ppl_models.workflow.representation.generate import generate
from ppl_models.workflow.representation.reconstruct import reconstruct
from ppl_models.workflow.representation.representation import representation_of
from ppl_models.workflow.representation.traverse import traverse

NUM_SHOWN, NUM_GENERATED = 10, 40


def posterior_plates(audit: Audit) -> list[Plate]:
    """Figures of q(z | x): gaps, bracket, k-hat and ranks."""
    found, table = audit.posteriors, audit.table
    plates = []
    if found is not None:
        plates.append(
            plate(
                "Gaps",
                gap_figure(found.amortisation_gap.value, found.approximation_gap.value, found.inference_gap.error),
                "How far each datum's ELBO is from log p(x). Blue: what one encoder for all data costs, which a larger "
                "encoder or more training could win back. Orange: what the family of q costs, which asks for a richer "
                "family. Lines: two standard errors.",
            )
        )
        bounds = {f"L_{size}": bound.value for size, bound in sorted(found.bounds.items())}
        plates.append(
            plate(
                "Bracket around log p(x)",
                bracket_figure(bounds, found.lower.value, found.upper.value, found.log_evidence.value),
                "Bounds from below and above, less the best estimate of log p(x). They should rise from L_1 to AIS and "
                "stay below the reverse run; where triangles meet, log p(x) is known.",
            )
        )
    plates.append(
        plate(
            "k-hat, datum by datum",
            khat_figure(table["khat"].to_numpy(), khat_limit(audit.config["num_guide_draws"])),
            "The tail of each datum's importance weights. Draws below the line can be corrected by weighting; above it "
            "take MCMC.",
        )
    )
    if audit.ranks is not None:
        plates.append(
            plate(
                "SBC of the encoder",
                rank_figure(audit.ranks.ranks, audit.ranks.num_draws, audit.ranks.labels),
                "Ranks of the latents that made a datum among draws of q(z | x) at it, for data from the model. Inside "
                "the band: calibrated. A curve that rises first and falls then is too narrow; the reverse too wide; "
                "one-sided is biased.",
            )
        )
    return plates


def latent_plates(audit: Audit, curve: Mapping[str, RateDistortion]) -> list[Plate]:
    """Figures of the latent space."""
    plates = [
        plate(
            "Active units",
            active_units_figure(audit.units),
            "Above: how much a unit's posterior mean varies over the data, in variances of the prior. Grey units tell "
            "nothing about the data. Below: what each costs.",
        )
    ]
    if len(audit.units.labels) > 1:
        plates.append(
            plate(
                "Latent map",
                _latent_map(audit),
                "The audited rows in the two most active units: posterior means, with ellipses of one sd. Circles: one "
                "and two sds of a standard normal prior.",
            )
        )
    plates.append(
        plate(
            "Rate and distortion",
            rate_distortion_figure(curve),
            "What the latents cost against what they fail to say. Along a dotted line the ELBO is the same: two fits "
            "of one ELBO can be a representation and a collapse. Bars: two standard errors over the data.",
        )
    )
    return plates


def data_plates(audit: Audit) -> list[Plate]:
    """Figures of data: reconstructions, generated rows, traversals; those that the model cannot give are left out."""
    makers: list[tuple[str, Callable[[Audit], Figure | None], str]] = [
        (
            "Reconstructions",
            _reconstructions,
            "Rows of the data, the mean of their reconstructions over q(z | x), and its sd: dark where the "
            "representation does not know.",
        ),
        (
            "Generated rows",
            _generations,
            "The mean E[x | z] at latents drawn from the prior. Shapes that look like no datum come from holes: places "
            "of prior mass without data.",
        ),
        (
            "Traversals",
            _traversals,
            "One unit at a time from low to high, in prior sds, the others at the prior's mean. A line that does not "
            "change is a unit that collapsed.",
        ),
    ]
    found = []
    for title, make, caption in makers:
        try:
            figure = make(audit)
        except PPLError:  # covariates, or likelihoods without a mean: the page goes without this figure
            figure = None
        if figure is not None:
            found.append(plate(title, figure, caption))
    return found


def _latent_map(audit: Audit) -> Figure:
    names = list(audit.units.table.index[:2])
    places = [audit.units.labels.index(name) for name in names]
    points = _values(audit.draws["amortised/posterior"], "z").reshape(-1, len(audit.rows), len(audit.units.labels))
    chosen = points[..., places]
    centred = chosen - chosen.mean(axis=0)
    return latent_figure(chosen.mean(axis=0), chosen.std(axis=0), names, covariances=centred.prod(axis=-1).mean(axis=0))


def _reconstructions(audit: Audit) -> Figure | None:
    data = {name: value[:NUM_SHOWN] for name, value in audit.data.items()}
    tree = reconstruct(audit.fit, data, num_draws=200, keep_draws=False)
    site = _site(audit)
    if site not in tree["mean"]:
        return None
    axis = representation_of(audit.fit).axis(site)
    parts = [_by_row(_values(tree[group], site), axis) for group in ("observed_data", "mean", "sd")]
    return reconstruction_figure(*parts, labels=audit.rows[:NUM_SHOWN])


def _generations(audit: Audit) -> Figure | None:
    representation = representation_of(audit.fit)
    data: Any = {name: audit.data[name] for name in representation.inputs} or None
    tree = generate(audit.fit, None if data else NUM_GENERATED, data=data)
    values = _mean(tree, _site(audit))
    return None if values is None else generation_figure(_by_row(values, representation.axis(_site(audit))))


def _traversals(audit: Audit) -> Figure | None:
    representation = representation_of(audit.fit)
    data: Any = {name: audit.data[name][:1] for name in representation.inputs} or None
    tree = traverse(audit.fit, data=data)
    values = _mean(tree, _site(audit))
    if values is None:
        return None
    latent, step, *_ = tree["mean"].to_dataset()[_site(audit)].dims
    units = [str(name) for name in _values(tree["mean"], str(latent))]
    order = [units.index(name) for name in audit.units.table.index if name in units]
    rows = values.reshape(*values.shape[:2], -1)[order]
    return traversal_figure(rows, [units[place] for place in order], _values(tree["mean"], str(step)))


def _mean(tree: xr.DataTree, site: str) -> np.ndarray | None:
    return _values(tree["mean"], site) if site in tree["mean"] else None


def _values(group: Any, name: str) -> np.ndarray:
    return np.asarray(group[name].values)


def _site(audit: Audit) -> str:
    return representation_of(audit.fit).rows.observed[-1]


def _by_row(values: np.ndarray, axis: int) -> np.ndarray:
    return np.moveaxis(np.asarray(values, dtype=float), axis, 0).reshape(values.shape[axis], -1)
