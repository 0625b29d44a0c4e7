"""Pyro's optimizers read as the engine's rule: the same steps, and a refusal of what it does not know."""

import numpy as np
import pyro
import pytest
import torch
from closed_forms import DATA, regression
from pyro.optim import PyroOptim
from pyro.optim.clipped_adam import ClippedAdam

import ppl_models as ppl
from ppl_models.engine import CaptureError
from ppl_models.errors import BackendWarning
from ppl_models.inference.optimizer_rules import as_rule, optimizer_name

NUM_STEPS = 50
SIZES = (3, 4)
PIECES = [slice(0, 3), slice(3, 7)]
ADAM = {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.1}


def scheduled(make, options, optimizer=torch.optim.Adam):
    return make({"optimizer": optimizer, "optim_args": {"lr": 0.2}, **options})


OPTIMIZERS = {
    "Adam": lambda: pyro.optim.Adam({"lr": 0.1}),
    "Adam as it is": lambda: pyro.optim.Adam({}),
    "Adam, all options": lambda: pyro.optim.Adam(ADAM),
    "Adam, torch's other names": lambda: pyro.optim.Adam({"lr": 0.1, "amsgrad": False, "foreach": None}),
    "norm": lambda: pyro.optim.Adam({"lr": 0.1}, {"clip_norm": 0.5}),
    "value": lambda: pyro.optim.Adam({"lr": 0.1}, {"clip_value": 0.3}),
    "norm and value": lambda: pyro.optim.Adam({"lr": 0.1}, {"clip_norm": 2.0, "clip_value": 0.3}),
    "ClippedAdam": lambda: pyro.optim.ClippedAdam({"lr": 0.1}),
    "ClippedAdam, all options": lambda: pyro.optim.ClippedAdam({**ADAM, "clip_norm": 0.4, "lrd": 0.97}),
    "clipped twice": lambda: PyroOptim(ClippedAdam, {"lr": 0.1, "clip_norm": 0.4}, {"clip_value": 0.2}),
    "clipped twice, the other way": lambda: PyroOptim(ClippedAdam, {"clip_norm": 0.2}, {"clip_value": 0.4}),
    "exponential": lambda: scheduled(pyro.optim.ExponentialLR, {"gamma": 0.9}),
    "steps": lambda: scheduled(pyro.optim.StepLR, {"step_size": 7, "gamma": 0.5}),
    "milestones": lambda: scheduled(pyro.optim.MultiStepLR, {"milestones": [3, 20], "gamma": 0.2}),
    "cosine": lambda: scheduled(pyro.optim.CosineAnnealingLR, {"T_max": 30}),
    "warm-up": lambda: scheduled(pyro.optim.LambdaLR, {"lr_lambda": lambda step: min(1.0, (step + 1) / 10)}),
    "ClippedAdam on a schedule": lambda: scheduled(pyro.optim.ExponentialLR, {"gamma": 0.9}, ClippedAdam),
    "schedule and norm": lambda: pyro.optim.ExponentialLR(
        {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.2}, "gamma": 0.9}, {"clip_norm": 0.5}
    ),
}


def gradients():
    generator = torch.Generator().manual_seed(2)
    return 2.0 * torch.randn(NUM_STEPS, sum(SIZES), dtype=torch.float64, generator=generator)


def start():
    return torch.linspace(-1.0, 1.0, sum(SIZES), dtype=torch.float64)


def pyros_path(optimizer):
    parameters = [piece.clone().requires_grad_(True) for piece in start().split(SIZES)]
    found = []
    for gradient in gradients():
        for parameter, part in zip(parameters, gradient.split(SIZES), strict=True):
            parameter.grad = part.clone()
        optimizer(parameters)
        if isinstance(optimizer, pyro.optim.PyroLRScheduler):
            optimizer.step()
        found.append(torch.cat([parameter.detach() for parameter in parameters]))
    return torch.stack(found)


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_rule_makes_pyros_steps(make):
    rule = as_rule(make())
    state, found = rule.start(start()), []
    for step, gradient in enumerate(gradients()):
        (row,) = rule.schedule(step, np.ones(1), torch.float64)
        state = rule.update(state, gradient, row, PIECES)
        found.append(state[0])
    torch.testing.assert_close(torch.stack(found), pyros_path(make()), rtol=1e-12, atol=1e-13)


def test_schedules_may_be_asked_for_in_any_order():
    rates = as_rule(OPTIMIZERS["milestones"]()).rates
    later = rates(15, 10)
    assert list(later / later[0]) == pytest.approx([1.0] * 5 + [0.2] * 5)
    assert list(rates(0, 5)) == pytest.approx([1.0, 1.0, 1.0, 0.2, 0.2])


def test_reading_an_optimizer_does_not_use_it():
    optimizer = OPTIMIZERS["exponential"]()
    as_rule(optimizer)
    as_rule(optimizer)
    assert optimizer.optim_objs == {}


def used():
    optimizer = pyro.optim.Adam({"lr": 0.1})
    pyros_path(optimizer)
    return optimizer


REFUSED = {
    "used": (used, "has made steps before"),
    "by parameter": (lambda: pyro.optim.Adam(lambda name: {"lr": 0.1}), "from parameter to parameter"),
    "clipping by parameter": (
        lambda: pyro.optim.Adam({"lr": 0.1}, lambda name: {"clip_norm": 1.0}),
        "from parameter to parameter",
    ),
    "unknown clipping": (lambda: pyro.optim.Adam({"lr": 0.1}, {"clip_share": 1.0}), "clipping by clip_share"),
    "SGD": (lambda: pyro.optim.SGD({"lr": 0.1}), "SGD is run by Pyro; compiled are Adam and ClippedAdam"),
    "RMSprop": (lambda: pyro.optim.RMSprop({"lr": 0.1}), "RMSprop is run by Pyro"),
    "AdamW": (lambda: pyro.optim.AdamW({"lr": 0.1}), "AdamW is run by Pyro"),
    "AdagradRMSProp": (lambda: pyro.optim.AdagradRMSProp({}), "AdagradRMSProp is run by Pyro"),
    "DCTAdam": (lambda: pyro.optim.DCTAdam({"lr": 0.1}), "DCTAdam is run by Pyro"),
    "amsgrad": (lambda: pyro.optim.Adam({"lr": 0.1, "amsgrad": True}), "option amsgrad is run by Pyro"),
    "maximize": (lambda: pyro.optim.Adam({"lr": 0.1, "maximize": True}), "option maximize is run by Pyro"),
    "centered": (
        lambda: pyro.optim.ClippedAdam({"lr": 0.1, "centered_variance": True}),
        "option centered_variance is run by Pyro",
    ),
    "plateau": (lambda: scheduled(pyro.optim.ReduceLROnPlateau, {}), "depends on the losses"),
    "two schedules": (
        lambda: pyro.optim.ExponentialLR(
            {"optimizer": ClippedAdam, "optim_args": {"lr": 0.1, "lrd": 0.9}, "gamma": 0.9}
        ),
        "on top of lrd",
    ),
    "schedule of another": (
        lambda: scheduled(pyro.optim.ExponentialLR, {"gamma": 0.9}, torch.optim.SGD),
        "SGD is run by Pyro",
    ),
}


@pytest.mark.parametrize(("make", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_the_engine_does_not_know_is_refused(make, reason):
    with pytest.raises(CaptureError, match=reason):
        as_rule(make())


def test_names():
    assert optimizer_name(None) == "Adam"
    names = [optimizer_name(OPTIMIZERS[kind]()) for kind in ("Adam", "ClippedAdam", "exponential")]
    assert names == ["Adam", "ClippedAdam", "Adam"]
    assert optimizer_name(pyro.optim.SGD({"lr": 0.1})) == "SGD"


def test_a_fit_with_another_optimizer_is_made_by_pyro_and_says_so():
    options = {"guide": "normal", "seed": 0, "max_steps": 3, "num_particles": 1, "backend": "native"}
    with pytest.warns(BackendWarning, match="capture: SGD is run by Pyro.*Running slower, with eager"):
        fit = ppl.fit(regression, DATA, optimizer=pyro.optim.SGD({"lr": 1e-3}), **options)
    assert fit.backend == "eager"
    assert fit.config["optimizer"] == "SGD"
