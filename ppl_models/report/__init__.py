"""Tables, figures, and a self-contained HTML page.

`write_report("fit.html", fits=[(fit, verdict)], baseline=baseline)` writes the page of one or several fits.
"""

from ppl_models.report.evidence import Evidence, gather
from ppl_models.report.html import write_page, write_report
from ppl_models.report.tables import checks_table, summary_table, verdict_table

__all__ = ["Evidence", "checks_table", "gather", "summary_table", "verdict_table", "write_page", "write_report"]
