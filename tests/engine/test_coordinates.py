"""Steps in coordinates, and from point to point: what an optimisation asks of compiled and of eager steps alike."""

import itertools
from contextlib import contextmanager

import numpy as np
import pyro
import pytest
import torch
from closed_forms import COVARIANCE, DATA, MEAN, regression
from torch.utils.data import DataLoader, TensorDataset

from engine.steps import BETAS, Plain, elbo_of
from ppl_models.engine import COMPILERS, Adam, CompiledSteps, Coordinates, SviGraph, elbo_function
from ppl_models.inference.eager_steps import EagerSteps
from ppl_models.inference.preconditioning import Normal
from ppl_models.inference.preconditioning.blocks import joined
from ppl_models.inference.preconditioning.families import blocks_of
from ppl_models.program.batches import batches

NATIVE = pytest.param("native", marks=pytest.mark.native)
COMPILED = ["plain", NATIVE]
MAKERS = ["eager", *COMPILED]
KINDS = [
    *itertools.product(["eager", "plain"], [False, True]),
    pytest.param("native", True, marks=pytest.mark.native, id="native-True"),
]
POSTERIOR = Normal(MEAN.numpy(), np.linalg.cholesky(COVARIANCE.numpy()), 0.0, 1)
FACTORS = np.concatenate([np.ones(10), np.geomspace(1.0, 0.01, 20)])


class Replayed:
    """An objective for eager steps: the loss on given noise, step after step, with gradients where Pyro leaves them."""

    def __init__(self, elbo, noise):
        self.elbo, self.noise, self.step = elbo, noise, 0

    def loss_and_grads(self, _model, _guide, *_args, **_kwargs):
        leaf = torch.cat([h.detach().reshape(-1) for h in self.elbo.holders.values()]).requires_grad_(True)
        loss = self.elbo(leaf, *(part[self.step] for part in self.noise))
        self.step += 1
        (slope,) = torch.autograd.grad(loss, leaf)
        holders = list(self.elbo.holders.values())
        for holder, piece in zip(holders, slope.split([h.numel() for h in holders]), strict=True):
            holder.grad = piece.reshape(holder.shape)
        return float(loss.detach())

    def loss(self, _model, _guide, *_args, **_kwargs):
        leaf = torch.cat([h.detach().reshape(-1) for h in self.elbo.holders.values()])
        return float(self.elbo(leaf, *(part[0] for part in self.elbo.draw_noise(1))))


@contextmanager
def steps_of(kind, *, coordinates=True, seed=7):
    """Steps of one kind, their ELBO in the parameters themselves, and their coordinates."""
    guide = "normal" if kind == "native" else "full_rank"  # one graph to compile
    with elbo_of(regression, DATA, guide, particles=2) as elbo:
        chosen = None
        if coordinates:
            chosen = joined(blocks_of(elbo.guide, elbo.program, POSTERIOR, 0.3), elbo.program.dtype)
        rule = Adam(0.05, BETAS)
        if kind == "eager":
            torch.manual_seed(seed)
            objective = Replayed(elbo, elbo.draw_noise(1_000))
            steps = EagerSteps(elbo.program, elbo.guide, objective, rule, chosen)
        else:
            inside = elbo_function(elbo.program, elbo.guide, elbo.estimator, 2, coordinates=chosen)
            steps = CompiledSteps(SviGraph(inside, rule), Plain() if kind == "plain" else COMPILERS[kind])
        torch.manual_seed(seed)
        yield steps, elbo, chosen


def by_hand(elbo, coordinates, factors, seed=7):
    """The same by autograd and torch's Adam: losses, and the points passed."""
    torch.manual_seed(seed)
    noise = elbo.draw_noise(1_000)
    leaf = (elbo.flat_parameters() if coordinates is None else coordinates.start.clone()).requires_grad_(True)
    adam = torch.optim.Adam([leaf], betas=BETAS)
    losses, passed = [], []
    for step, factor in enumerate(factors):
        adam.param_groups[0]["lr"] = 0.05 * factor
        adam.zero_grad()
        parameters = leaf if coordinates is None else coordinates.to_parameters(leaf)
        loss = elbo(parameters, *(part[step] for part in noise))
        loss.backward()
        adam.step()
        losses.append(loss.item())
        passed.append(leaf.detach().clone())
    return losses, torch.stack(passed)


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-10)


def ran(steps, *counts):
    losses = []
    for count in counts:
        steps.run(np.ones(count), losses)
    return losses


def held(elbo):
    return torch.cat([holder.detach().reshape(-1) for holder in elbo.holders.values()])


def test_the_gradient_is_pulled_back():
    coordinates = Coordinates(
        torch.zeros(2), lambda flat: torch.stack([flat[0] * flat[1], flat[0].exp()]), torch.ones(2) > 0
    )
    found = coordinates.gradient(torch.tensor([1.0, 3.0]), torch.tensor([10.0, 100.0]))
    torch.testing.assert_close(found, torch.tensor([30.0 + 100.0 * float(np.e), 10.0]))


@pytest.mark.parametrize(("kind", "coordinates"), KINDS)
def test_steps_equal_those_made_by_hand(kind, coordinates):
    with steps_of(kind, coordinates=coordinates) as (steps, elbo, chosen):
        losses = []
        start = steps.position()
        close(start, elbo.flat_parameters() if chosen is None else chosen.start)
        steps.run(FACTORS, losses)
        wanted, passed = by_hand_from(elbo, chosen, start, FACTORS)
        close(losses, wanted)
        close(steps.position(), passed[-1])
        close(steps.take_mean(), passed.mean(dim=0))
        steps.write()
        close(held(elbo), passed[-1] if chosen is None else chosen.to_parameters(passed[-1]))


def by_hand_from(elbo, chosen, start, factors):
    before = held(elbo)
    elbo.write(start if chosen is None else chosen.to_parameters(start))
    try:
        return by_hand(elbo, chosen, factors)
    finally:
        elbo.write(before)


def test_steps_in_coordinates_go_elsewhere_than_steps_without():
    ends = []
    for coordinates in (False, True):
        with steps_of("plain", coordinates=coordinates) as (steps, elbo, _):
            ran(steps, 5)
            steps.write()
            ends.append(held(elbo))
    assert not np.allclose(ends[0], ends[1])


@pytest.mark.parametrize("kind", MAKERS)
def test_the_mean_is_that_of_the_points_since_the_last_call(kind):
    with steps_of(kind, coordinates=True) as (steps, elbo, chosen):
        ran(steps, 3, 4)
        first = steps.take_mean()
        ran(steps, 5)
        second = steps.take_mean()
        here = steps.position()
        _, passed = by_hand_from(elbo, chosen, chosen.start, np.ones(12))
        close(first, passed[:7].mean(dim=0))
        close(second, passed[7:].mean(dim=0))
        assert torch.equal(steps.take_mean(), here)  # no point passed
        ran(steps, 2)
        steps.move(first)
        ran(steps, 1)
        close(steps.take_mean(), steps.position())


@pytest.mark.parametrize("afresh", [False, True])
@pytest.mark.parametrize("kind", MAKERS)
def test_a_move_forgets_the_momentum(kind, afresh):
    """The next step, by hand: the average gradient begins at zero, that of its square goes on or begins too."""
    with steps_of(kind) as (steps, elbo, chosen):
        ran(steps, 6)
        point = steps.position() + 0.1
        second = torch.zeros_like(point) if afresh else steps.state[2].clone()
        steps.move(point, afresh=afresh)
        assert torch.equal(steps.position(), point)
        assert torch.equal(steps.state[1], torch.zeros_like(point))
        torch.manual_seed(7)
        noise = [part[6] for part in elbo.draw_noise(1_000)]
        slope = torch.func.grad(elbo)(chosen.to_parameters(point), *noise)
        gradient = chosen.gradient(point, slope)
        number = 1 if afresh else 7
        average = (1 - BETAS[0]) * gradient / (1 - BETAS[0] ** number)
        square = (BETAS[1] * second + (1 - BETAS[1]) * gradient**2) / (1 - BETAS[1] ** number)
        ran(steps, 1)
        close(steps.position(), point - 0.05 * average / (square.sqrt() + 1e-8))


@pytest.mark.parametrize("kind", MAKERS)
def test_a_move_copies_the_point(kind):
    with steps_of(kind) as (steps, _, _):
        point = steps.position()
        kept = point.clone()
        steps.move(point)
        ran(steps, 2)
        assert torch.equal(point, kept)
        here = steps.position()
        ran(steps, 1)
        assert not torch.equal(here, steps.position())


@pytest.mark.parametrize(("kind", "coordinates"), KINDS)
def test_losses_elsewhere_change_nothing(kind, coordinates):
    with steps_of(kind, coordinates=coordinates) as (steps, elbo, chosen):
        ran(steps, 4)
        steps.write()
        point = steps.position() + 0.2
        before, states = torch.get_rng_state(), [value.clone() for value in steps.state]
        parameters = held(elbo)
        losses = steps.losses_at(point, 9, seed=3)
        assert torch.equal(torch.get_rng_state(), before)
        assert all(map(torch.equal, steps.state, states))
        assert torch.equal(held(elbo), parameters)
        assert np.array_equal(steps.losses_at(point, 9, seed=3), losses)
        assert np.array_equal(steps.losses_at(point, 4, seed=3), losses[:4]) or kind != "eager"
        assert set(steps.losses_at(point, 9, seed=4)).isdisjoint(losses)
        further = ran(steps, 3)
        mean = steps.take_mean()
    with steps_of(kind, coordinates=coordinates) as (steps, elbo, chosen):
        start = steps.position()
        assert ran(steps, 4, 3)[4:] == further
        assert torch.equal(steps.take_mean(), mean)
        if kind != "eager":
            torch.manual_seed(3)
            noise = elbo.draw_noise(9)
            flat = point if chosen is None else chosen.to_parameters(point)
            close(losses, [float(elbo(flat, *(part[step] for part in noise))) for step in range(9)])
        assert not torch.equal(start, point)


@pytest.mark.parametrize("kind", COMPILED)
def test_losses_on_common_noise_differ_by_what_the_points_differ(kind):
    """For independent normals around the posterior mean the mean loss is known; here only that common noise cancels."""
    with steps_of(kind) as (steps, _, _):
        point = steps.position()
        one, other = (steps.losses_at(p, 64, seed=5) for p in (point, point + 1e-6))
        assert np.std(one - other) < 1e-4 * np.std(one)


def test_a_failed_step_forgets_the_mean():
    def fail(step, results):
        if step == 2 + 8:  # two proofs
            results[0].fill_(torch.nan)

    with elbo_of(regression, DATA) as elbo:
        steps = CompiledSteps(SviGraph(elbo, Adam(0.05, BETAS)), Plain(fail))
        losses = ran(steps, 3, 20)
        assert len(losses) == 8
        assert np.isnan(losses[-1])
        assert torch.equal(steps.take_mean(), steps.position())


ROWS = 10


def scaled(x, y):
    weights = pyro.sample("weights", pyro.distributions.Normal(0.0, 1.0).expand([2]).to_event(1))
    with pyro.poutine.scale(scale=ROWS / len(x)), pyro.plate("row", len(x)):
        pyro.sample("y", pyro.distributions.Normal((x * weights).sum(-1), 1.0), obs=y)


@pytest.mark.parametrize("guide", ["normal", "delta"])
@pytest.mark.parametrize("kind", ["eager", "plain"])
def test_losses_elsewhere_keep_their_batches(kind, guide):
    """Shuffling draws random numbers when batches are first taken; the losses of the first call are those of all."""
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(ROWS, 2, dtype=torch.float64, generator=generator)
    y = x.sum(-1)
    with elbo_of(scaled, (x[:4], y[:4]), guide) as elbo:
        loader = DataLoader(TensorDataset(x, y), batch_size=4, shuffle=True)
        rows = batches(scaled, loader, elbo.program.arguments, torch.float64, torch.device("cpu"))
        if kind == "eager":
            steps = EagerSteps(elbo.program, elbo.guide, pyro.infer.Trace_ELBO(), Adam(0.05, BETAS), None, rows)
        else:
            steps = CompiledSteps(SviGraph(elbo, Adam(0.05, BETAS), minibatches=True), Plain(), rows)
        torch.manual_seed(7)
        ran(steps, 2)
        point = steps.position()
        before = torch.get_rng_state()
        first = steps.losses_at(point, 8, seed=3)
        assert torch.equal(torch.get_rng_state(), before)
        ran(steps, 4)
        assert np.array_equal(steps.losses_at(point, 8, seed=3), first)
        assert len(set(first)) > 1
        longer = steps.losses_at(point, 11, seed=3)
        assert np.array_equal(longer[:8], first)
        assert np.array_equal(steps.losses_at(point, 11, seed=3), longer)


def test_large_vectors_are_not_averaged(monkeypatch):
    from ppl_models.engine import svi_graph

    monkeypatch.setattr(svi_graph, "MOST_AVERAGED", 3)
    with elbo_of(regression, DATA) as elbo:
        steps = CompiledSteps(SviGraph(elbo, Adam(0.05, BETAS)), Plain())
        assert not steps.averaged
        assert len(steps.state) == 3
        torch.manual_seed(7)
        losses = ran(steps, 5)
        steps.move(steps.position())
        assert len(steps.losses_at(steps.position(), 3, seed=1)) == 3
    with elbo_of(regression, DATA) as elbo:
        monkeypatch.setattr(svi_graph, "MOST_AVERAGED", 100)
        torch.manual_seed(7)
        close(losses, list(itertools.islice(by_hand(elbo, None, np.ones(5))[0], 5)))
