"""`guides.amortized`: an amortised guide for a model, its options checked."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from guides.amortization.families import FamilySpec, check_families
from guides.amortization.guide import AmortizedGuide
from guides.amortization.inputs import Inputs
from guides.automatic import FAMILIES
from guides.errors import FamilyOptionError, UnknownFamilyError


def amortized(
    model: Callable[..., Any],
    *,
    encoder: nn.Module | None = None,
    inputs: Inputs = None,
    family: FamilySpec = "normal",
    hidden: Sequence[int] = (200, 200),
    order: Sequence[str] | None = None,
    conditional: bool = True,
    globals: str = "normal",
    plate: str | None = None,
    init_scale: float = 0.1,
    name: str = "amortized",
    **options: Any,
) -> AmortizedGuide:
    """An amortised guide q(z | x) for the local latents of any model with a data plate.

    Args:
        model: A Pyro model, function or module, with a plate over the rows of its data that holds latents and observed
            sites: `with pyro.plate("datum", len(x)): z = ...; pyro.sample("x", ..., obs=x)`.
        encoder: Module from the input, rows first, to features of shape (row, feature); None for a multilayer
            perceptron on the flat rows, made at the first call. It is not copied.
        inputs: What the encoder sees: None for the observed values inside the data plate, flat, shape (row, number);
            the name of an argument of the model, as it is (one number per row as (row, 1)); several names, flat and
            side by side; or a function of the model's arguments that returns a tensor with rows first.
        family: Family of each factor in the unconstrained space: "normal" (diagonal), "full_rank", "iaf", "realnvp"; a
            module from features (..., number) to a distribution with event shape (size of the latent,); or a mapping
            from latents to these.
        hidden: Widths of the default encoder's layers, and of the layer in which features and earlier latents meet; ()
            for linear ones.
        order: Names of the local latents in the order of the factors; None for the model's order.
        conditional: Whether a latent's factor sees the latents before it; otherwise they are independent given x.
        globals: Name of the automatic family (`guides.names()`) for the latents outside of the data plate.
        plate: Name of the data plate; None for the outermost one that holds latents and observed sites.
        init_scale: Initial standard deviation of the unconstrained latents, positive.
        name: Prefix of the parameters' names in Pyro's param store.
        **options: Of the families: `num_transforms` (number of layers, default 2 for "iaf" and 4 for "realnvp") and
            `hidden_dims` (widths of each layer's network, default (64,)).

    Returns:
        A guide for `pyro.infer.SVI`, `ppl_models.fit` and everything else that takes one; networks that are not given
        are made at its first call.

    Raises:
        UnknownFamilyError: No family has that name.
        FamilyOptionError: There is no such option, or its value cannot be used.

    Kingma and Welling (2014), Auto-encoding variational Bayes; Rezende, Mohamed and Wierstra (2014), Stochastic
    backpropagation and approximate inference in deep generative models.
    """
    check_families(family, options)
    if globals not in FAMILIES:
        raise UnknownFamilyError(globals, FAMILIES)
    if not float(init_scale) > 0.0:
        raise FamilyOptionError(f"amortized: init_scale: {init_scale!r}, wanted a positive number.")
    if encoder is not None and not isinstance(encoder, nn.Module):
        raise FamilyOptionError(
            f"amortized: encoder: found {type(encoder).__name__}, wanted an nn.Module, as guides.networks.MLP or "
            "ConvEncoder."
        )
    return AmortizedGuide(
        model,
        encoder=encoder,
        inputs=inputs,
        family=family,
        hidden=hidden,
        order=order,
        conditional=conditional,
        globals=globals,
        plate=plate,
        init_scale=float(init_scale),
        name=name,
        options=options,
    )
