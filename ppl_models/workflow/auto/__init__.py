"""The guide chosen by evidence: a ladder of families, each judged before the next is tried."""

from ppl_models.workflow.auto.ladder import choose_guide
from ppl_models.workflow.auto.result import AutoFit
from ppl_models.workflow.auto.rung import Rung

__all__ = ["AutoFit", "Rung", "choose_guide"]
