"""Run a method on a known expectation without the checks that a call of `expect` makes each time."""

import torch

from ppl_models.inference.intervals import interval_of
from ppl_models.inference.monte_carlo.distribution_source import DistributionSource
from ppl_models.inference.monte_carlo.integrand import Integrand
from ppl_models.inference.monte_carlo.registry import METHODS
from ppl_models.program import isolated


def estimate(method, f, q, num_draws, *, seed=0, batches=1, **options):
    """One run; the integrand is told to skip its probe of order."""
    with isolated():
        torch.default_generator.manual_seed(seed)
        integrand = Integrand(f)
        integrand._probed = True
        run = METHODS[method](**options).start(integrand, DistributionSource(q), seed)
        for _ in range(batches):
            run.extend(num_draws)
        return run.estimate()


class _NoTails:
    """In place of the tails' reservoir, which costs more than a short run."""

    def add(self, values):
        pass

    def checks(self):
        return ()


def many_runs(method, f, q, num_draws, num_runs, **options):
    """Independent short runs, without the check of the tails."""
    integrand, source = Integrand(f), DistributionSource(q)
    integrand._probed = True
    chosen, found = METHODS[method](**options), []
    with isolated():
        torch.default_generator.manual_seed(1)
        for seed in range(num_runs):
            run = chosen.start(integrand, source, seed)
            run.tails = _NoTails()
            run.extend(num_draws)
            found.append(run.estimate())
    return found


def covers(found, exact, confidence=0.95):
    """Whether the interval holds the exact value, for each output."""
    low, high = interval_of(found.value, found.standard_error, found.degrees_of_freedom, confidence)
    return (low <= exact) & (exact <= high)
