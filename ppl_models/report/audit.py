"""`write_audit`: one self-contained HTML page for an audit."""

from collections.abc import Mapping
from pathlib import Path

from ppl_models.diagnostics import RateDistortion
from ppl_models.errors import OptionError
from ppl_models.files import write_whole
from ppl_models.report.audit_page import audit_content
from ppl_models.report.html import environment
from ppl_models.workflow.audit.audit_result import Audit

TEMPLATE = "audit.html.j2"


def write_audit(
    audit: Audit,
    path: str | Path,
    *,
    title: str = "Can this autoencoder's inference be believed?",
    name: str = "",
    cite: str = "",
    others: Mapping[str, Audit] | None = None,
) -> Path:
    """Write one HTML page on an audit; it needs no other file and asks nothing of the network.

    Args:
        audit: what `ppl.audit` returned.
        path: the file; it appears only when it is complete.
        title: what the model is, in one line.
        name: of the problem.
        cite: where the model and its data were published.
        others: audits of other fits at the same rows, by name, for the curve in the rate-distortion plane.

    Returns:
        The path written, resolved.

    Raises:
        OptionError: `audit` is something else.
        FileError: the file cannot be written.
    """
    if not isinstance(audit, Audit):
        raise OptionError(f"audit: found {type(audit).__name__}, wanted the result of ppl.audit.")
    points: dict[str, RateDistortion] = {each: other.point for each, other in (others or {}).items()}
    content = audit_content(audit, title=title, name=name, cite=cite, others=points)
    text = environment().get_template(TEMPLATE).render(content)
    return write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
