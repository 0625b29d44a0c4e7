"""What weighing the divergence buys: rate and distortion on held-out digits, by beta."""

from typing import Any

import ppl_models as ppl
from benchmarks.representation_parts.posteriors import trained

MAX_EPOCHS = 100
BETAS = (0.1, 0.3, 1.0, 3.0, 10.0)


def rows(quick: bool) -> list[dict[str, Any]]:
    """A fit for each beta, all from the same weights, judged on the same digits at beta = 1."""
    found = []
    for beta in BETAS[1:4] if quick else BETAS:
        fit, x = trained(quick, MAX_EPOCHS, beta)
        terms = ppl.elbo_terms(fit.at({"x": x}), num_draws=500, seed=2)
        number = len(x)
        found.append(
            {
                "beta": beta,
                "rate": float(terms.divergence) / number,
                "distortion": -float(terms.reconstruction) / number,
                "elbo": float(terms.elbo) / number,
                "elbo_error": float(terms.elbo_error) / number,
                "status": fit.status,
                "epochs": len(fit.history),
                "seconds": fit.seconds,
            }
        )
    return found
