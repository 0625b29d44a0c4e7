"""A variational posterior you can trust, from an unmodified Pyro model.

fit = ppl.fit(model, data, guide="full_rank")       # SVI
draws = fit.sample(4_000)                           # an xarray.DataTree for ArviZ
baseline = ppl.sample(model, data)                  # MCMC
print(ppl.check(fit, baseline=baseline))            # can the fit be trusted?
"""

import random
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ppl_models.catalogue import Problem, load, names, register
    from ppl_models.diagnostics import Check, Verdict
    from ppl_models.errors import PPLError, PPLWarning
    from ppl_models.inference import (
        BayesFactor,
        CompiledTrace_ELBO,
        Evidence,
        Expectation,
        Fit,
        GradientEstimate,
        MethodComparison,
        StateSpace,
        bayes_factor,
        estimate_gradient,
        particle_filter,
    )
    from ppl_models.posterior import from_netcdf, to_netcdf
    from ppl_models.report import write_audit, write_report
    from ppl_models.workflow import (
        Audit,
        AutoFit,
        BestAction,
        Calibration,
        Corrected,
        GradientVariance,
        LeaveOneOut,
        Predictions,
        PredictiveExpectation,
        audit,
        best_action,
        calibrate,
        check,
        check_by_datum,
        check_predictions,
        compare_methods,
        correct,
        decode,
        elbo_terms,
        encode,
        expect,
        fit,
        generate,
        gradient_variance,
        importance_bound,
        impute,
        interpolate,
        load_fit,
        log_evidence,
        loo,
        out_of_distribution,
        probability,
        quantiles,
        reconstruct,
        sample,
        sample_prior,
        to_datatree,
        traverse,
    )

__all__ = [
    "Audit",
    "AutoFit",
    "BayesFactor",
    "BestAction",
    "Calibration",
    "Check",
    "CompiledTrace_ELBO",
    "Corrected",
    "Evidence",
    "Expectation",
    "Fit",
    "GradientEstimate",
    "GradientVariance",
    "LeaveOneOut",
    "MethodComparison",
    "PPLError",
    "PPLWarning",
    "Predictions",
    "PredictiveExpectation",
    "Problem",
    "StateSpace",
    "Verdict",
    "audit",
    "bayes_factor",
    "best_action",
    "calibrate",
    "check",
    "check_by_datum",
    "check_predictions",
    "compare_methods",
    "correct",
    "decode",
    "elbo_terms",
    "encode",
    "estimate_gradient",
    "expect",
    "fit",
    "from_netcdf",
    "generate",
    "gradient_variance",
    "importance_bound",
    "impute",
    "interpolate",
    "load",
    "load_fit",
    "log_evidence",
    "loo",
    "names",
    "out_of_distribution",
    "particle_filter",
    "probability",
    "quantiles",
    "reconstruct",
    "register",
    "sample",
    "sample_prior",
    "to_datatree",
    "to_netcdf",
    "traverse",
    "write_audit",
    "write_report",
]

_ROOMS = {
    "catalogue": ("Problem", "load", "names", "register"),
    "diagnostics": ("Check", "Verdict"),
    "errors": ("PPLError", "PPLWarning"),
    "inference": (
        "BayesFactor",
        "CompiledTrace_ELBO",
        "Evidence",
        "Expectation",
        "Fit",
        "GradientEstimate",
        "MethodComparison",
        "StateSpace",
        "bayes_factor",
        "estimate_gradient",
        "particle_filter",
    ),
    "posterior": ("from_netcdf", "to_netcdf"),
    "report": ("write_audit", "write_report"),
    "workflow": (
        "Audit",
        "AutoFit",
        "BestAction",
        "Calibration",
        "Corrected",
        "GradientVariance",
        "LeaveOneOut",
        "Predictions",
        "PredictiveExpectation",
        "audit",
        "best_action",
        "calibrate",
        "check",
        "check_by_datum",
        "check_predictions",
        "compare_methods",
        "correct",
        "decode",
        "elbo_terms",
        "encode",
        "expect",
        "fit",
        "generate",
        "gradient_variance",
        "importance_bound",
        "impute",
        "interpolate",
        "load_fit",
        "log_evidence",
        "loo",
        "out_of_distribution",
        "probability",
        "quantiles",
        "reconstruct",
        "sample",
        "sample_prior",
        "to_datatree",
        "traverse",
    ),
}


def __getattr__(name: str) -> Any:
    # torch and Pyro take seconds to import, and `ppl-models --help` needs neither: look names up when they are used.
    if name in _ROOMS:
        return _import(name)
    for room, contents in _ROOMS.items():
        if name in contents:
            globals()[name] = getattr(_import(room), name)
            return globals()[name]
    raise AttributeError(f"module 'ppl_models' has no attribute {name!r}")


def _import(room: str) -> ModuleType:
    state = random.getstate()
    try:
        return import_module(f"ppl_models.{room}")
    finally:
        random.setstate(state)  # some of the packages underneath draw random numbers when they are imported


def __dir__() -> list[str]:
    return sorted({*__all__, *_ROOMS})
