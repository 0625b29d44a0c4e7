"""`ppl.fit`: a variational posterior, by a guide of the user's or by the first that passes its checks."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from pyro.infer.elbo import ELBO
from pyro.optim import PyroOptim
from torch.utils.data import DataLoader, Dataset

from ppl_models.inference import Fit, FitOptions, GuideSpec, fit_guide
from ppl_models.inference.preconditioning.initial import PRIOR_MEDIAN, Init
from ppl_models.inference.runs import AUTO
from ppl_models.posterior import Coords, Dims
from ppl_models.program import Data
from ppl_models.workflow.auto import choose_guide


def fit(
    model: Callable[..., Any],
    data: Data | DataLoader[Any] | Dataset[Any],
    *,
    guide: GuideSpec,
    allow_mcmc: bool = True,
    method: str = AUTO,
    held_out: Data | DataLoader[Any] | float | None = None,
    batch_size: int | None = None,
    max_epochs: int | None = None,
    patience: int | None = None,
    beta: float = 1.0,
    free_bits: float = 0.0,
    warmup_epochs: int = 0,
    checkpoint: str | Path | None = None,
    mixed_precision: bool = False,
    guide_options: Mapping[str, Any] | None = None,
    method_options: Mapping[str, Any] | None = None,
    init: Init | Fit = PRIOR_MEDIAN,
    max_steps: int | str = AUTO,
    step_size: float | str = AUTO,
    max_seconds: float = 300.0,
    num_starts: int = 1,
    precondition: bool = True,
    num_particles: int | None = None,
    init_scale: float = 0.1,
    estimator: str = AUTO,
    estimator_options: Mapping[str, Any] | None = None,
    elbo: ELBO | None = None,
    optimizer: PyroOptim | None = None,
    seed: int = 0,
    dtype: torch.dtype | None = None,
    device: str = "cpu",
    backend: str = "auto",
    coords: Coords | None = None,
    dims: Dims | None = None,
    progress: bool = False,
) -> Fit:
    """Fit a guide to a model's posterior: with Pyro's SVI, by another method, or with the guide chosen by evidence.

    Args:
        model: a Pyro model, function or `PyroModule`; it is not changed, nor is a guide given as a module.
        data: a mapping, for `model(**data)`, or a tuple, for `model(*data)`. Arrays become tensors. A `DataLoader`
            gives such a batch for every step, epoch after epoch, and a map-style `Dataset` is put into one; the fit's
            own draws and checks then see the first batch. In a training by epochs (`batch_size` or `max_epochs`) each
            batch stands for all rows; in one by steps scaling to all the data is the model's part
            (`pyro.plate(name, size, subsample_size=len(batch))` or `pyro.poutine.scale`).
        guide: a family's name (`guides.names()`), an AutoGuide class or instance, a factory `model -> guide`, or a
            guide function or module; or a method's name, for that method with the family that it fits. "auto" climbs a
            ladder by cost (mean field with linear response, Pathfinder, full rank, flow, NUTS) and stops at the first
            rung that passes its checks: k-hat with its spread over replicates, Monte Carlo errors, how far
            importance weighting moves the moments, agreement with proposals from other starts, convergence. Its result
            is an `AutoFit`, whose `rungs` keep the evidence; what concerns one guide alone cannot be given with it.
        allow_mcmc: whether "auto" may end with NUTS, in the coordinates of the best fit, where no guide passes.
        method: what fits it: "svi", or one of `ppl_models.inference.METHODS`, which fit some families without SVI, on
            the model's log density. "auto" takes the method that a family has of its own ("newton" for "laplace"), and
            SVI elsewhere. `max_steps` bounds a method's iterations; what concerns SVI alone does not count.
        held_out: data like `data` that are not fitted; the fit then ends when their ELBO has had no new best for a
            while, also at lower step sizes, and keeps the best. For amortised guides, which can overfit their data.
            In a training by epochs also a share of the rows in (0, 1), chosen by the seed, which are not trained on.
        batch_size: rows of a batch, in a training by epochs (128 where only `max_epochs` is given). The rows are found
            by the plate that follows them (`pyro.plate("datum", len(x))`); they are shuffled anew in every epoch, and
            every site in the plate, in model and guide, is scaled by all rows over those of its batch, unless the model
            does that itself. `losses` are thus in nats over all rows that are trained on. Rows in memory are trained on
            there; afterwards the fit holds all of them, those held out too.
        max_epochs: most passes over the data, and what asks for a training by epochs without `batch_size`; None takes
            100, or as many as `max_steps` has room for. The step size (a search of at most a twentieth of all steps, or
            Adam's 0.001 for networks and 0.01 elsewhere, where there is no room for it) falls to a hundredth over the
            last third of them. `history` has a row for each.
        patience: epochs without a better look at the rows held out, behind which the training stops, once there were
            as many looks, or three (epochs of few steps are not looked at each); None takes 10.
            It counts from the end of a warm-up, and so do the best weights, which are kept.
        beta: weight of the divergence of the latents in the data's plate (Higgins et al. 2017). With another than 1
            the losses are no negative ELBO, and are not called so; `Fit.elbo` and the bounds of `history` are always
            at 1.
        free_bits: nats of divergence of each unit of these latents, mean over the rows of a batch, that cost nothing
            (Kingma et al. 2016).
        warmup_epochs: epochs over which the weight of the divergence rises from 0 to `beta` (Bowman et al. 2016,
            Sønderby et al. 2016); it has to end before the training does.
        checkpoint: a file to which a training by epochs is written, at most every ten seconds; where it exists, the fit
            goes on from it, to the same numbers that it would have come to without the break. Options and data must be
            the same. A loader's order is repeated where it shuffles by torch's own generator.
        mixed_precision: in a training by epochs, make matrix products and convolutions of model and guide in bfloat16
            and all else in float32.
        guide_options: options of a family named by text.
        method_options: options of the method.
        init: where an automatic guide begins: "prior_median"; "pathfinder", the normal that this method finds; a
            mapping from latents to values, in their own supports, the others at the prior's median; or another fit of
            the same model, whose means and covariances are taken.
        max_steps: most SVI steps; the fit stops earlier, when steps at a lower step size gain no more. "auto" takes
            100,000; 10,000 for networks of more than 100,000 parameters, and 5,000 for an optimizer of yours.
        step_size: step size of Adam to begin with, in the fit's coordinates; lowered as the fit becomes stationary.
            "auto" tries several in a few steps each, and takes the largest that gets as far as the best.
        max_seconds: the fit ends with what it has after this time, that of a compiler apart; of all rungs together
            for "auto".
        num_starts: independent fits, from the guide's own start and from draws of the prior; the best is kept, and
            `starts` tells how far apart they ended.
        precondition: whether an automatic guide is fitted in coordinates in which the target has about unit scale. They
            come from a quick look at the model's log density, and change neither family nor result's units.
        num_particles: ELBO particles per step, vectorised where the model allows it; None takes up to 64 where they are
            vectorised (100 of "sticking_the_landing"), else 1.
        init_scale: initial scale of automatic families, unconstrained; where there is preconditioning, that of the
            look.
        estimator: the bound that SVI raises, and how its gradient is estimated. Of the ELBO: "total", autograd's
            gradient; "sticking_the_landing", without the score of the guide, which takes the noise away where the guide
            comes close to the posterior; "entropy", with the guide's entropy in closed form; "score", the score
            function with a leave-one-out baseline for sites without reparameterised draws, and the path for the others.
            "importance_weighted" is a tighter bound, for each datum where its latents are its own;
            "doubly_reparameterised" its gradient with less noise; "renyi" the bound of order alpha. "auto":
            "sticking_the_landing" for families that come close, "score" where it is needed, "total" elsewhere.
        estimator_options: `num_importance`, the draws inside the logarithm of the last three (16; a particle is so many
            draws), and `alpha` of "renyi" (0.5).
        elbo: a Pyro ELBO, in place of an estimator (`TraceEnum_ELBO` for models with enumerated sites).
        optimizer: a Pyro optimizer, in place of Adam with the cool-down; then all `max_steps` are made.
        seed: seed of everything random in the fit.
        dtype: floating dtype; None takes float64, or float32 for large networks.
        device: where model, guide and data are put: "cpu", "cuda" or "cuda:1".
        backend: what makes the steps. "eager": Pyro's own SVI. "native": the whole step (ELBO, gradient, Adam) as
            machine code that runs without Python, hundreds of times faster after some seconds of compiling, which the
            cache saves the next time. "inductor": the same graph compiled by torch in this process; slower than native,
            but also for a GPU. "auto": native where it is cached or where `max_steps` eager steps would take longer
            than compiling, else eager. What cannot be compiled (guides that are not reparameterised, other ELBOs of
            Pyro's than `Trace_ELBO` and `TraceMeanField_ELBO`, other optimizers than Adam and ClippedAdam, with
            clipping and a torch schedule that is stepped once a step) is left to Pyro.
        coords: labels of the elements along each dim of the draws.
        dims: names of a site's axes; plates name theirs, with "_plate" after a name that is a site's or ArviZ's own
            ("draw_plate").
        progress: show one bar, with the smoothed ELBO, or with the objectives of training and validation per row.

    Returns:
        The fit. That it did not converge is told by its `status`.

    Raises:
        DataError, ModelError, GuideError, OptionError, UnknownNameError: before any step; the message names the
            argument or site, what was found, what was wanted and what to do.
    """
    options = FitOptions(
        guide=guide,
        method=method,
        held_out=held_out,
        batch_size=batch_size,
        max_epochs=max_epochs,
        patience=patience,
        beta=beta,
        free_bits=free_bits,
        warmup_epochs=warmup_epochs,
        checkpoint=checkpoint,
        mixed_precision=mixed_precision,
        guide_options=guide_options,
        method_options=method_options,
        init=init,
        max_steps=max_steps,
        step_size=step_size,
        max_seconds=max_seconds,
        num_starts=num_starts,
        precondition=precondition,
        num_particles=num_particles,
        init_scale=init_scale,
        estimator=estimator,
        estimator_options=estimator_options,
        elbo=elbo,
        optimizer=optimizer,
        seed=seed,
        dtype=dtype,
        device=device,
        backend=backend,
        coords=coords,
        dims=dims,
        progress=progress,
    )
    if isinstance(guide, str) and guide == AUTO:
        return choose_guide(model, data, options, allow_mcmc=allow_mcmc)
    return fit_guide(model, data, options)
