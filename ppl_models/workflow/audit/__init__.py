"""What an amortised posterior is worth: `ppl.audit`, one question a file."""

from ppl_models.workflow.audit.audit_result import Audit
from ppl_models.workflow.audit.auditing import audit
from ppl_models.workflow.audit.posterior_audit import PosteriorAudit
from ppl_models.workflow.audit.posteriors import audit_posteriors

__all__ = ["Audit", "PosteriorAudit", "audit", "audit_posteriors"]
