"""Tables, figures, and a self-contained HTML page.

`write_report("fit.html", fits=[(fit, verdict)], baseline=baseline)` writes the page of one or several fits;
`rule_of(verdict)` says in words which rule a verdict came from.
"""

from ppl_models.report.audit import write_audit
from ppl_models.report.evidence import Evidence, gather
from ppl_models.report.html import write_page, write_report
from ppl_models.report.rule import Rule, rule_of
from ppl_models.report.tables import checks_table, summary_table, verdict_table

__all__ = [
    "Evidence",
    "Rule",
    "checks_table",
    "gather",
    "rule_of",
    "summary_table",
    "verdict_table",
    "write_audit",
    "write_page",
    "write_report",
]
