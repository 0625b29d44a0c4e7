"""The calls that combine rooms."""

from ppl_models.workflow.auto import AutoFit, Rung
from ppl_models.workflow.baseline import sample
from ppl_models.workflow.checking import check
from ppl_models.workflow.convert import to_datatree
from ppl_models.workflow.fitting import fit
from ppl_models.workflow.loading import load_fit
from ppl_models.workflow.prior import sample_prior

__all__ = ["AutoFit", "Rung", "check", "fit", "load_fit", "sample", "sample_prior", "to_datatree"]
