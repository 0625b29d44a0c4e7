"""The engine's Adam beside torch's and Pyro's, step by step on the same gradients."""

import numpy as np
import pytest
import torch
from pyro.optim.clipped_adam import ClippedAdam

from ppl_models.engine import Adam

SIZES = (3, 1, 4)
PIECES = [slice(0, 3), slice(3, 4), slice(4, 8)]
NUM_STEPS = 50


def gradients():
    generator = torch.Generator().manual_seed(1)
    scales = torch.logspace(-4, 2, sum(SIZES), dtype=torch.float64)
    drawn = torch.randn(NUM_STEPS, sum(SIZES), dtype=torch.float64, generator=generator) * scales
    drawn[5], drawn[:, 2] = 0.0, 0.0
    return drawn


def path(rule, *, factors=None):
    """Parameters behind every step of the engine's rule."""
    start = torch.linspace(-1.0, 2.0, sum(SIZES), dtype=torch.float64)
    state, found = rule.start(start), []
    for row, gradient in zip(rule.schedule(0, factors, start.dtype), gradients(), strict=True):
        state = rule.update(state, gradient, row, PIECES)
        found.append(state[0])
    return torch.stack(found)


def torch_path(make, *, factors=None, clip=lambda parameters: None):
    """The same by an optimizer of torch's that has one tensor for each parameter."""
    start = torch.linspace(-1.0, 2.0, sum(SIZES), dtype=torch.float64)
    parameters = [piece.clone().requires_grad_(True) for piece in start.split(SIZES)]
    optimizer, found = make(parameters), []
    first = optimizer.param_groups[0]["lr"]
    for step, gradient in enumerate(gradients()):
        if factors is not None:
            optimizer.param_groups[0]["lr"] = first * factors[step]
        for parameter, part in zip(parameters, gradient.split(SIZES), strict=True):
            parameter.grad = part.clone()
            clip([parameter])
        optimizer.step()
        found.append(torch.cat([parameter.detach() for parameter in parameters]))
    return torch.stack(found)


ONES = np.ones(NUM_STEPS)
DECAY = 0.01 ** (np.arange(NUM_STEPS) / NUM_STEPS)
ADAMS = {
    "plain": {"lr": 0.1},
    "betas": {"lr": 0.1, "betas": (0.8, 0.95)},
    "large epsilon": {"lr": 0.1, "eps": 1e-2},
    "weight decay": {"lr": 0.1, "weight_decay": 0.3},
    "all": {"lr": 0.03, "betas": (0.5, 0.7), "eps": 1e-3, "weight_decay": 0.1},
}


@pytest.mark.parametrize("factors", [ONES, DECAY], ids=["fixed", "cooling"])
@pytest.mark.parametrize("options", ADAMS.values(), ids=ADAMS)
def test_adam_is_torchs(options, factors):
    rule = Adam(
        options["lr"],
        options.get("betas", (0.9, 0.999)),
        epsilon=options.get("eps", 1e-8),
        weight_decay=options.get("weight_decay", 0.0),
    )
    wanted = torch_path(lambda parameters: torch.optim.Adam(parameters, **options), factors=factors)
    torch.testing.assert_close(path(rule, factors=factors), wanted, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("bound", [0.05, 2.0, 1e6])
def test_norms_are_clipped_parameter_by_parameter(bound):
    wanted = torch_path(
        lambda parameters: torch.optim.Adam(parameters, lr=0.1),
        clip=lambda parameters: torch.nn.utils.clip_grad_norm_(parameters, bound),
    )
    found = path(Adam(0.1, clip_norm=bound), factors=ONES)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("bound", [0.05, 2.0])
def test_norms_are_clipped_before_elements(bound):
    def clip(parameters):
        torch.nn.utils.clip_grad_norm_(parameters, 3.0)
        torch.nn.utils.clip_grad_value_(parameters, bound)

    wanted = torch_path(lambda parameters: torch.optim.Adam(parameters, lr=0.1), clip=clip)
    found = path(Adam(0.1, clip_norm=3.0, clip_gradient=bound), factors=ONES)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-13)


CLIPPED = {
    "plain": {"lr": 0.1},
    "clipped": {"lr": 0.1, "clip_norm": 0.01},
    "decaying": {"lr": 0.1, "lrd": 0.95},
    "all": {"lr": 0.1, "betas": (0.7, 0.8), "eps": 1e-3, "weight_decay": 0.2, "clip_norm": 0.5, "lrd": 0.9},
}


@pytest.mark.parametrize("options", CLIPPED.values(), ids=CLIPPED)
def test_clipped_adam_is_pyros(options):
    rule = Adam(
        options["lr"],
        options.get("betas", (0.9, 0.999)),
        epsilon=options.get("eps", 1e-8),
        weight_decay=options.get("weight_decay", 0.0),
        decay=options.get("lrd", 1.0),
        clip_gradient=options.get("clip_norm", 10.0),
        epsilon_inside=True,
    )
    wanted = torch_path(lambda parameters: ClippedAdam(parameters, **options))
    torch.testing.assert_close(path(rule, factors=ONES), wanted, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("rule", [Adam(0.1), Adam(0.1, decay=0.9, epsilon_inside=True)])
def test_schedules_go_on_where_they_stopped(rule):
    whole = rule.schedule(0, DECAY, torch.float64)
    parts = [rule.schedule(first, DECAY[first : first + 10], torch.float64) for first in range(0, NUM_STEPS, 10)]
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(rule.schedule(7, ONES[:1], torch.float64)[0], rule.schedule(0, ONES, torch.float64)[7])


def test_a_schedule_of_the_users_decides_over_factors():
    rule = Adam(0.1, rates=lambda first, count: DECAY[first : first + count])
    torch.testing.assert_close(path(rule, factors=ONES), path(Adam(0.1), factors=DECAY), rtol=0.0, atol=0.0)


def test_schedules_have_the_dtype_of_the_parameters():
    assert Adam(0.1).schedule(0, ONES, torch.float32).dtype == torch.float32


def test_the_first_state_is_a_copy():
    start = torch.ones(3)
    flat, first, second = Adam(0.1).start(start)
    flat.zero_()
    assert start.eq(1).all()
    assert not first.any()
    assert not second.any()
