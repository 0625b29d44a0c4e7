"""Deterministic ADVI: independent normals fitted on draws that are made once, so that the fit is an optimisation."""

from ppl_models.inference.methods.mean_field_fit import DEFAULTS, OPTIONS, fit_mean_field
from ppl_models.inference.methods.method import Found, Method, Work


def run(work: Work) -> Found:
    """Fit independent normals in the unconstrained space."""
    return fit_mean_field(work).found


DADVI = Method(
    name="dadvi",
    summary="Independent normals that maximise the ELBO on fixed draws, by Newton's method, with the error that the "
    "draws leave; more are taken until it does not matter.",
    cite="Giordano, Ingram and Broderick (2024), Black box variational inference with a deterministic objective: "
    "faster, more accurate, and even more black box",
    families=("normal",),
    run=run,
    options=OPTIONS,
    defaults=DEFAULTS,
)
