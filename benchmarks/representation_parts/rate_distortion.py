"""What weighing the divergence buys: rate and distortion on held-out digits, by beta."""

from typing import Any

import ppl_models as ppl
from ppl_models import datasets

PROBLEM = "vae_digits"
BETAS = (0.1, 0.3, 1.0, 3.0, 10.0)


def rows(quick: bool) -> list[dict[str, Any]]:
    """A fit for each beta, all from the same weights, judged on the same digits at beta = 1."""
    problem = ppl.load(PROBLEM)
    x = problem.data["x"]
    parts = datasets.split(len(x), validation=0.1, test=0.1, seed=0)
    found = []
    for beta in BETAS[1:4] if quick else BETAS:
        fit = ppl.fit(
            problem.model,
            {"x": x[parts.train]},
            guide=problem.guides["amortized"],
            held_out={"x": x[parts.validation]},
            batch_size=128,
            max_epochs=3 if quick else 100,
            patience=25,
            warmup_epochs=0 if quick else 10,
            beta=beta,
            seed=1,
        )
        terms = ppl.elbo_terms(fit.at({"x": x[parts.test]}), num_draws=500, seed=2)
        number = len(parts.test)
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
