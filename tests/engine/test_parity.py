"""Parity: compiled code gives Pyro's own numbers, noise for noise, on every catalogue problem and every guide family.

The oracle shares nothing with the capture but the noise: Pyro's ELBO runs the catalogue's own model, autograd
differentiates with respect to the tensors in the param store, and torch's Adam makes the steps. No pair of problem and
guide is refused by the engine, so that a refusal (`CaptureError`) fails a test.

What was captured is cheap to run operation by operation ("plain"), and so has many pairs; each compiler has some.
"""

import contextlib
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO
from pyro.infer.mcmc.util import initialize_model
from torch.distributions import constraints

import guides as families
import ppl_models as ppl
from engine.steps import Plain
from guides.mixture import StratifiedTrace_ELBO
from ppl_models.catalogue.registry import AUTOENCODERS
from ppl_models.engine import COMPILERS, Adam, CompiledSteps, ElboFunction, SviGraph, compile_density, elbo_function
from ppl_models.engine.noise import NoiseTape
from ppl_models.inference.private import private_copy
from ppl_models.program import build_program
from ppl_models.program.batching import OutOfPlaceRandomness
from ppl_models.program.elbo import mean_field_log_ratio, program_log_ratio
from ppl_models.program.estimators import Total

pytestmark = pytest.mark.native

PROBLEMS = tuple(name for name in ppl.names() if name not in AUTOENCODERS)
"""Nobody would give the thousands of latents of the others a dense normal or a flow: they have pairs of their own."""
GUIDES = (*(name for name in families.names() if families.FAMILIES[name].density), "handwritten")
"""Particles have no density, and no SVI step to speak of."""
PAIRS = tuple(product(PROBLEMS, GUIDES))
SLOW_TO_COMPILE = ("mixture", "realnvp", "neural_spline", "dais", "hierarchical")
QUICK = tuple(guide for guide in GUIDES if guide not in SLOW_TO_COMPILE)
ONCE = tuple((PROBLEMS[-number % len(PROBLEMS)], guide) for number, guide in enumerate(QUICK))
TWICE = tuple((name, QUICK[2 * number % len(QUICK)]) for number, name in enumerate(PROBLEMS))
CHOSEN = (*ONCE, *(pair for pair in TWICE if pair not in ONCE), ("lynx_ar2", "mixture"))
"""Every guide that compiles quickly, the problems in turn; every problem with another one; one of the other guides."""
OF_NETWORKS = (("linear_vae_digits", "handwritten"), ("vae_digits", "handwritten"), ("vae_digits", "normal"))
SINGLE, PARTICLES = ("breast_cancer_logistic", "structured"), ("eight_schools_noncentered", "full_rank")
COMPILED = (
    ("breast_cancer_logistic", "full_rank"),
    ("eight_schools_noncentered", "full_rank_student_t"),
    ("lynx_ar2", "iaf"),
    ("old_faithful_mixture", "handwritten"),
)
"""Each kind of guide: a dense normal, one with draws inside of the step, a network, a hand-written one; a network of
sites (`structured`) is compiled in single precision. Log densities are compiled of every problem."""
BY_INDUCTOR = (("eight_schools_centered", "normal"),)

STEP_SIZE, BETAS = 0.03, (0.9, 0.99)
NUM_STEPS, FEW_STEPS = 60, 20
FEWER_STEPS = {
    ("digits_ppca", "iaf"): 10,
    **{(name, flow): 10 for name in PROBLEMS for flow in ("realnvp", "neural_spline")},
}
"""Networks at this step size are chaos: a change of the start is up to 1e9 times larger after 200 steps; and a spline's
knots are crossed."""
RELATIVE_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
ROUNDING = 1e-15
"""Rounding of one step relative to the largest parameter: a handful of units in the last place."""
SMALL_CHANGE = 1e-8
NUM_POINTS = 5


def compiler(backend):
    return Plain() if backend == "plain" else COMPILERS[backend]


gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@dataclass(frozen=True)
class Pair:
    """A model and a guide at parameters off the guide's start: captured, and as Pyro runs them."""

    svi: SviGraph
    model: object
    guide: object
    pyro_elbo: object
    learned: tuple[torch.Tensor, ...]

    def loss(self, noise):
        """Pyro's loss, differentiable, with one step's noise: the particles one after the other."""
        arguments, elbo = self.svi.elbo.program.arguments, self.svi.elbo
        with NoiseTape(*(part.flatten() for part in noise)) as tape, OutOfPlaceRandomness():
            loss = self.pyro_elbo.differentiable_loss(self.model, self.guide, *arguments.args, **arguments.kwargs)
        wanted = (elbo.num_particles * elbo.num_normal, elbo.num_particles * elbo.num_uniform)
        assert (tape.num_normal, tape.num_uniform) == wanted
        return loss

    def loss_and_gradient(self, noise):
        loss = self.loss(noise)
        return loss.detach(), flattened(torch.autograd.grad(loss, self.learned))

    def parameters_after(self, noise, num_steps):
        """What torch's Adam makes of Pyro's gradients, and the param store's tensors with it."""
        adam = torch.optim.Adam(self.learned, lr=STEP_SIZE, betas=BETAS)
        for step in range(num_steps):
            adam.zero_grad()
            self.loss([part[step] for part in noise]).backward()
            adam.step()
        return flattened(tensor.detach() for tensor in self.learned)


def flattened(tensors):
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


@contextlib.contextmanager
def prepared(name, guide, *, kind=None, log_ratio=program_log_ratio, particles=1, dtype=torch.float64, device="cpu"):
    """A pair in its program's private world."""
    problem = load(name, dtype, device)
    with at_home(problem, dtype, device) as program:
        if guide == "handwritten":
            guide = problem.guides[guide]
        elif isinstance(guide, str):
            guide = families.make(guide, program.model, init_scale=problem.initial_scale)
        guide(*program.arguments.args, **program.arguments.kwargs)
        learned = tuple(tensor for _, tensor in pyro.get_param_store().named_parameters())
        with torch.no_grad():
            for tensor in learned:
                tensor.add_(0.03 * torch.randn_like(tensor))
        svi = SviGraph(elbo_function(program, guide, Total(log_ratio), particles), Adam(STEP_SIZE, BETAS))
        if problem.enumerated and hasattr(guide, "strata"):
            pytest.skip("nothing of Pyro's sums sites out and draws strata apart")
        stratified = StratifiedTrace_ELBO if hasattr(guide, "strata") else Trace_ELBO
        kind = kind or (TraceEnum_ELBO if problem.enumerated else stratified)
        pyro_elbo = kind(num_particles=particles, max_plate_nesting=program.sites.max_plate_nesting)
        yield Pair(svi, problem.model, guide, pyro_elbo, learned)


def load(name, dtype, device):
    """A problem whose networks, if its model has any, are of a dtype and on a device, as a fit makes them."""
    problem = ppl.load(name)
    return replace(problem, model=private_copy(problem.model, {}, dtype, torch.device(device)))


@contextlib.contextmanager
def at_home(problem, dtype=torch.float64, device="cpu"):
    """The program of a problem on a device, in its private world."""
    program = build_program(problem.model, problem.data, dtype=dtype, device=torch.device(device))
    with program.isolated(seed=1, num_threads=1):
        yield program


@pytest.fixture
def drawn(monkeypatch):
    """The noise that ELBOs draw from here on."""
    kept, draw = [], ElboFunction.draw_noise

    def recording(self, count):
        kept.append(draw(self, count))
        return kept[-1]

    monkeypatch.setattr(ElboFunction, "draw_noise", recording)
    return kept


def assert_parity(pair, backend, drawn, num_steps=NUM_STEPS):
    """Loss and gradient of the first step are Pyro's, and the parameters after the last one those of torch's Adam."""
    losses, steps = [], CompiledSteps(pair.svi, compiler(backend))
    start = steps.state[0].clone()
    drawn.clear()
    steps.run(np.ones(1), losses)
    gradient = steps.state[1] / (1.0 - BETAS[0])
    steps.run(np.ones(num_steps - 1), losses)
    noise = [torch.cat(parts) for parts in zip(*drawn, strict=True)]
    wanted_loss, wanted_gradient = pair.loss_and_gradient([part[0] for part in noise])
    assert_equal(wanted_loss.new_tensor(losses[0]), wanted_loss)
    assert_equal(gradient, wanted_gradient)
    if num_steps == 1:
        return
    wanted = pair.parameters_after(noise, num_steps)
    limit = accumulated_rounding(pair.svi, backend, start, steps.state[0], noise, num_steps)
    assert float((steps.state[0] - wanted).abs().max()) <= limit


def assert_equal(found, wanted):
    """Equal to rounding: in float32 relative to the largest element, in float64 each element to itself."""
    assert found.dtype == wanted.dtype
    largest, relative = float(wanted.abs().max()), RELATIVE_TOLERANCE[wanted.dtype]
    if wanted.dtype == torch.float32:
        torch.testing.assert_close(found, wanted, rtol=0.0, atol=relative * largest)
    else:
        # An element that is a difference of large numbers keeps their rounding.
        torch.testing.assert_close(found, wanted, rtol=relative, atol=1e-14 * largest)


def accumulated_rounding(svi, backend, start, end, noise, num_steps):
    """How far apart rounding may bring two runs of the same steps.

    Every step adds its rounding, and from there on it grows or shrinks as any small change of the parameters does. How
    much is found by making the steps again from a start that is a little off.
    """
    size = float(start.abs().max())
    change = SMALL_CHANGE * size
    state = svi.start(start + change * torch.randn_like(start).sign())
    runner = compiler(backend).compile(svi.graph).bind(state, svi.graph.fixed)
    schedule = svi.optimizer.schedule(0, np.ones(num_steps), start.dtype)
    losses = torch.empty(num_steps, dtype=start.dtype)
    assert runner.run(num_steps, [schedule, *(part[:num_steps] for part in noise)], [losses]) == num_steps
    growth = max(1.0, float((state[0] - end).abs().max()) / change)
    limit = num_steps * growth * ROUNDING * size
    assert limit < 1e-6 * size, "a comparison that forgives this much says nothing"
    return limit


def pytest_generate_tests(metafunc):
    """All pairs with `-m slow`; else many by torch alone, some for native, and for inductor a few."""
    chosen = {
        test_captured_steps_are_pyros: CHOSEN,
        test_native_steps_are_pyros: COMPILED,
        test_inductor_steps_are_pyros: BY_INDUCTOR,
    }.get(metafunc.function)
    if chosen is not None:
        pairs = PAIRS if "slow" in metafunc.config.option.markexpr else dict.fromkeys((*chosen, *CHOSEN))
        rare = pytest.mark.slow if "slow" in metafunc.config.option.markexpr else pytest.mark.exhaustive
        marked = [pytest.param(*pair, marks=() if pair in chosen else rare) for pair in pairs]
        metafunc.parametrize(("name", "guide"), marked)


def test_captured_steps_are_pyros(name, guide, drawn):
    with prepared(name, guide) as pair:
        assert_parity(pair, "plain", drawn, min(FEW_STEPS, FEWER_STEPS.get((name, guide), NUM_STEPS)))


@pytest.mark.parametrize(("network", "by"), OF_NETWORKS)
def test_captured_steps_of_networks_are_pyros(network, by, drawn):
    with prepared(network, by) as pair:
        assert_parity(pair, "plain", drawn, num_steps=5)


def test_native_steps_are_pyros(name, guide, drawn):
    with prepared(name, guide) as pair:
        assert_parity(pair, "native", drawn, FEWER_STEPS.get((name, guide), NUM_STEPS))


def test_inductor_steps_are_pyros(name, guide, drawn):
    with prepared(name, guide) as pair:
        assert_parity(pair, "inductor", drawn, FEWER_STEPS.get((name, guide), NUM_STEPS))


def test_chosen_pairs_have_every_problem_and_every_quick_guide():
    assert {name for name, _ in CHOSEN} == set(PROBLEMS)
    assert {guide for _, guide in CHOSEN} >= set(QUICK)


def test_a_hundred_millionth_too_much_is_noticed(drawn):
    def wrong(program, guide):
        return program_log_ratio(program, guide) * (1.0 + 1e-8)

    with prepared("lynx_ar2", "delta", log_ratio=wrong) as pair, pytest.raises(AssertionError, match="not close"):
        assert_parity(pair, "plain", drawn)


def test_steps_a_billionth_too_long_are_noticed(drawn, monkeypatch):
    with prepared("lynx_ar2", "delta") as pair:
        assert_parity(pair, "plain", drawn)
    with prepared("lynx_ar2", "delta") as pair:
        monkeypatch.setitem(globals(), "STEP_SIZE", STEP_SIZE * (1.0 + 1e-9))
        with pytest.raises(AssertionError, match="<="):
            assert_parity(pair, "plain", drawn)


@pytest.mark.parametrize(
    ("backend", "name", "guide"),
    [
        # Neither funnels nor horseshoes, whose scales span decades, nor sums over thousands of numbers.
        ("plain", "eight_schools_noncentered", "normal"),
        ("plain", "sleepstudy_varying_intercepts", "structured"),
        ("plain", "lynx_ar2", "full_rank"),
        ("native", *SINGLE),
        pytest.param("native", "eight_schools_noncentered", "normal", marks=pytest.mark.exhaustive),
        pytest.param("native", "sleepstudy_varying_intercepts", "structured", marks=pytest.mark.exhaustive),
        pytest.param("native", "breast_cancer_logistic", "low_rank", marks=pytest.mark.exhaustive),
        pytest.param("native", "lynx_ar2", "full_rank", marks=pytest.mark.exhaustive),
        ("inductor", "eight_schools_noncentered", "full_rank"),
        pytest.param("inductor", "old_faithful_mixture", "normal", marks=pytest.mark.exhaustive),
    ],
)
def test_single_precision(backend, name, guide, drawn):
    with prepared(name, guide, dtype=torch.float32) as pair:
        assert_parity(pair, backend, drawn, num_steps=1)


@pytest.mark.parametrize(
    ("backend", "name", "guide"),
    [
        ("plain", "eight_schools_centered", "handwritten"),
        ("plain", "sleepstudy_varying_intercepts", "structured"),
        ("plain", "old_faithful_mixture", "normal"),
        ("plain", "lynx_ar2", "iaf"),
        ("native", *PARTICLES),
        pytest.param("native", "eight_schools_centered", "handwritten", marks=pytest.mark.exhaustive),
        pytest.param("native", "sleepstudy_varying_intercepts", "structured", marks=pytest.mark.exhaustive),
        pytest.param("native", "breast_cancer_logistic", "full_rank", marks=pytest.mark.exhaustive),
        pytest.param("native", "lynx_ar2", "iaf", marks=pytest.mark.exhaustive),
        pytest.param("inductor", "old_faithful_mixture", "normal", marks=pytest.mark.exhaustive),
        pytest.param("inductor", "breast_cancer_logistic", "full_rank", marks=pytest.mark.exhaustive),
    ],
)
def test_vectorised_particles_are_the_mean_of_pyros(backend, name, guide, drawn):
    with prepared(name, guide, particles=4) as pair:
        assert_parity(pair, backend, drawn, num_steps=20)


def mean_field(sigma, y=None):
    """Two normals, whose divergences from their priors have closed forms, and a log-normal, whose has none."""

    def learned(name, size=()):
        scale = pyro.param(f"{name}_scale", torch.ones(size), constraint=constraints.positive)
        return pyro.param(f"{name}_location", torch.zeros(size)), scale

    pyro.sample("mu", dist.Normal(*learned("mu")))
    pyro.sample("tau", dist.LogNormal(*learned("tau")))
    with pyro.plate("school", len(sigma)):
        pyro.sample("theta_trans", dist.Normal(*learned("theta_trans", len(sigma))))


@pytest.mark.parametrize(
    ("backend", "name", "guide"),
    [
        ("native", "eight_schools_noncentered", mean_field),
        ("plain", "lynx_ar2", "normal"),
        pytest.param("native", "lynx_ar2", "normal", marks=pytest.mark.exhaustive),
        pytest.param("native", "diabetes_horseshoe", "normal", marks=pytest.mark.exhaustive),
        ("inductor", "eight_schools_noncentered", mean_field),
        pytest.param("inductor", "sleepstudy_varying_intercepts", "normal", marks=pytest.mark.exhaustive),
    ],
)
def test_mean_field_elbo_is_pyros(backend, name, guide, drawn):
    with prepared(name, guide, kind=TraceMeanField_ELBO, log_ratio=mean_field_log_ratio) as pair:
        assert_parity(pair, backend, drawn, num_steps=20)


def pyro_log_density(problem, program):
    """Pyro's own potential energy, of one flat vector, as a log density."""

    def log_density(flat):
        pieces = {name: flat[piece].reshape(shape) for name, (piece, shape) in program.slices.items()}
        return -potential(pieces)

    start = {name: torch.zeros(shape) for name, (_, shape) in program.slices.items()}
    _, potential, _, _ = initialize_model(
        problem.model,
        (),
        dict(program.arguments.kwargs),
        max_plate_nesting=program.sites.max_plate_nesting,
        initial_params=start,
    )
    return log_density


def assert_density_parity(name, backend, device="cpu"):
    problem = load(name, torch.float64, device)
    with at_home(problem, device=device) as program:
        compiled = compile_density(program, backend)
        assert compiled.backend == backend
        oracle = pyro_log_density(problem, program)
        for _ in range(NUM_POINTS):
            flat = torch.randn(program.num_dims, requires_grad=True)
            wanted = oracle(flat)
            value, gradient = compiled.gradient(flat.detach())
            assert_equal(value, wanted.detach())
            assert_equal(gradient, torch.autograd.grad(wanted, flat)[0])


LONG_FOR_INDUCTOR = ("diabetes_horseshoe", "sleepstudy_varying_intercepts", "old_faithful_mixture")


@pytest.mark.parametrize(
    ("backend", "name"),
    [
        *product(("native",), PROBLEMS),
        *(
            pytest.param("inductor", name, marks=pytest.mark.exhaustive if name in LONG_FOR_INDUCTOR else ())
            for name in PROBLEMS
        ),
    ],
)
def test_log_densities_are_pyros(name, backend):
    assert_density_parity(name, backend)


@gpu
@pytest.mark.gpu
@pytest.mark.parametrize(("name", "guide"), CHOSEN)
def test_steps_on_a_gpu_are_pyros(name, guide, drawn):
    with prepared(name, guide, device="cuda") as pair:
        assert_parity(pair, "inductor", drawn, num_steps=10)


@gpu
@pytest.mark.gpu
@pytest.mark.parametrize("name", PROBLEMS)
def test_log_densities_on_a_gpu_are_pyros(name):
    assert_density_parity(name, "inductor", device="cuda")
