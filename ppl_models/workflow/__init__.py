"""The calls that combine rooms."""

from ppl_models.workflow.baseline import sample
from ppl_models.workflow.convert import to_datatree
from ppl_models.workflow.judging import check
from ppl_models.workflow.prior import sample_prior

__all__ = ["check", "sample", "sample_prior", "to_datatree"]
