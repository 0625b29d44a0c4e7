"""Which models can make their own data: each latent from a prior, each observation from its distribution."""

from typing import Any

import pyro.poutine as poutine
import torch
from pyro.distributions import ImproperUniform
from pyro.poutine.util import site_is_factor, site_is_subsample

from ppl_models.errors import DataError, ModelError
from ppl_models.program import Program
from ppl_models.program.nodes import nodes_of

SIMULATE = "give simulate=, a function (latents, seed) -> data"


def observed_arguments(program: Program) -> dict[str, str]:
    """The argument that each observed site takes whole, by site.

    Raises:
        DataError: a site observes a part or a transformation of an argument, something that is no argument, or what
            another site observes too.
    """
    found: dict[str, str] = {}
    for site in program.sites.observed:
        value = program.observed_values[site.name]
        name = program.arguments.name_of(value)
        if name is None:
            raise DataError(
                f"site '{site.name}': its observed value is no argument of the model as it is (a part of one, a "
                f"transformation, or none at all), so that simulated data cannot be put in its place; {SIMULATE}."
            )
        if name in found.values():
            raise DataError(f"argument '{name}': observed by two sites, each of which draws its own; {SIMULATE}.")
        if value.shape != site.shape:
            raise DataError(
                f"argument '{name}': shape {tuple(value.shape)} stands for the whole of site '{site.name}', "
                f"{tuple(site.shape)}; simulated values differ between elements. Give the data in full."
            )
        found[site.name] = name
    if not found:
        raise ModelError("calibration: the model observes nothing, so that no data can be simulated from it.")
    return found


def check_generative(program: Program, *, kind: str, amortised: bool, simulated: bool) -> None:
    """Check that the model's density is that of the draws it makes.

    Args:
        program: the model with its data.
        kind: of the calibration; that about the posterior needs no draws of the prior.
        amortised: whether the parameters are held, and nothing is refitted.
        simulated: whether the user simulates the data.

    Raises:
        ModelError: a prior is improper, masked or scaled, a likelihood is scaled, or there is a factor or a parameter.
    """
    with program.isolated(seed=0), torch.no_grad():
        trace = poutine.trace(program.model).get_trace(*program.arguments.args, **program.arguments.kwargs)
    for name, node in nodes_of(trace).items():
        if node["type"] == "param" and not amortised:
            raise ModelError(
                f"parameter '{name}': the model learns it with each refit, so that there is no one prior to calibrate "
                "against. Give it a prior (pyro.sample), or a constant."
            )
        if node["type"] != "sample" or site_is_subsample(node) or node["infer"].get("_deterministic"):
            continue
        fault = _fault(node, kind=kind, simulated=simulated, scales=amortised)
        if fault:
            raise ModelError(f"site '{name}': {fault}")
    if kind == "posterior" and program.sites.enumerated:
        raise ModelError(
            f"site '{program.sites.enumerated[0].name}': it is summed out, so that new data for the same discrete "
            "values cannot be drawn from the fit. Marginalise by hand (MixtureSameFamily), or use kind='prior'."
        )


def _fault(node: Any, *, kind: str, simulated: bool, scales: bool) -> str:
    if site_is_factor(node):
        if simulated and kind != "posterior":
            return ""
        return (
            f"a factor adds to the density what no draw follows; {SIMULATE} (the factor then being of the likelihood)."
        )
    # A batch's terms are scaled to all the data, and a guide that reads the data serves each datum for itself.
    scaled = not scales and bool((torch.as_tensor(node["scale"]) != 1.0).any())
    if node["is_observed"]:
        if not simulated and scaled:
            return "its likelihood is scaled, which simulated data would not be. Take the scale out."
        return ""
    if kind == "posterior":
        return ""
    if _is_improper(node["fn"]):
        return "its prior is improper, and cannot be drawn from. Give it a proper prior, or use kind='posterior'."
    mask = node["mask"] if node["mask"] is not None else _mask_of(node["fn"])
    if scaled or not bool(torch.as_tensor(True if mask is None else mask).all()):
        return "its prior is masked or scaled, and draws would not follow it. Give it a prior, or use kind='posterior'."
    return ""


def _is_improper(fn: Any) -> bool:
    while fn is not None:
        if isinstance(fn, ImproperUniform):
            return True
        fn = getattr(fn, "base_dist", None)
    return False


def _mask_of(fn: Any) -> Any:
    while fn is not None:
        mask = getattr(fn, "_mask", None)
        if mask is not None:
            return mask
        fn = getattr(fn, "base_dist", None)
    return None
