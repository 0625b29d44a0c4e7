"""`write_report`: one self-contained HTML page for the fits of one posterior."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2
import xarray as xr
from markupsafe import Markup

from ppl_models.files import write_whole
from ppl_models.report.evidence import Evidence, Fits, gather
from ppl_models.report.page import page_content

TEMPLATE = "report.html.j2"


def write_report(
    path: str | Path,
    fits: Fits,
    *,
    baseline: xr.DataTree | None = None,
    title: str = "Can this posterior be trusted?",
    cite: str = "",
    predictions: bool = True,
) -> Path:
    """Write one HTML page on the fits of a posterior; it needs no other file and asks nothing of the network.

    Args:
        path: the file; it appears only when it is complete.
        fits: pairs (fit, verdict) from `ppl.fit` and `ppl.check`, or a mapping from a name to each pair.
        baseline: the draws that the fits were checked against.
        title: what the model is, in one line.
        cite: where the model and its data were published.
        predictions: whether to predict the data from each fit, for a figure.

    Returns:
        The path written, resolved.

    Raises:
        OptionError, DataError: `fits` or `baseline` hold something else.
        FileError: the file cannot be written.
    """
    evidence = gather(fits, baseline, predictions=predictions)
    return write_page(path, evidence, baseline=baseline, title=title, cite=cite)


def write_page(
    path: str | Path,
    evidence: Sequence[Evidence],
    *,
    baseline: xr.DataTree | None = None,
    title: str,
    name: str = "",
    cite: str = "",
    seconds: Mapping[str, float] | None = None,
    failures: Mapping[str, str] | None = None,
) -> Path:
    """Write the page of evidence that was gathered already.

    Args:
        path: the file; it appears only when it is complete.
        evidence: of each fit, as `gather` gives it.
        baseline: the draws that the fits were checked against.
        title: what the model is, in one line.
        name: of the problem.
        cite: where the model and its data were published.
        seconds: stage -> time spent.
        failures: guide -> why it could not be fitted.

    Returns:
        The path written, resolved.

    Raises:
        FileError: the file cannot be written.
    """
    content = page_content(
        evidence, baseline=baseline, title=title, name=name, cite=cite, seconds=seconds or {}, failures=failures or {}
    )
    text = environment().get_template(TEMPLATE).render(content)
    return write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def environment() -> jinja2.Environment:
    """Where the templates are found; everything is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ppl_models.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["marked"] = _marked
    return environment


def _marked(text: str) -> Markup:
    """Escaped text whose `quoted` parts are set as code."""
    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 and place < len(parts) - 1 else part
        for place, part in enumerate(parts)
    )
