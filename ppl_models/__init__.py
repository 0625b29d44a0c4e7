"""A variational posterior you can trust, from an unmodified Pyro model.

fit = ppl.fit(model, data, guide="full_rank")       # SVI
draws = fit.sample(4_000)                           # an xarray.DataTree for ArviZ
baseline = ppl.sample(model, data)                  # MCMC
print(ppl.check(fit, baseline=baseline))            # can the fit be trusted?
"""

from ppl_models.catalogue import Problem, load, names, register
from ppl_models.diagnostics import Check, Verdict
from ppl_models.errors import PPLError, PPLWarning
from ppl_models.inference import Fit, fit, load_fit
from ppl_models.posterior import from_netcdf, to_netcdf
from ppl_models.workflow import check, sample, sample_prior, to_datatree

__all__ = [
    "Check",
    "Fit",
    "PPLError",
    "PPLWarning",
    "Problem",
    "Verdict",
    "check",
    "fit",
    "from_netcdf",
    "load",
    "load_fit",
    "names",
    "register",
    "sample",
    "sample_prior",
    "to_datatree",
    "to_netcdf",
]
