"""The ELBO as a pure function, and the compiled step: the same numbers as Pyro's, noise for noise."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import guides as families
import ppl_models as ppl
from ppl_models.engine import CaptureError, CompiledSteps, elbo_function
from ppl_models.engine.noise import NoiseTape
from ppl_models.errors import BackendWarning
from ppl_models.program import build_program
from ppl_models.program.batching import OutOfPlaceRandomness
from ppl_models.program.elbo import program_log_ratio

NUM_PARTICLES = 4
PROBLEMS = ("eight_schools_noncentered", "old_faithful_mixture", "lynx_ar2", "breast_cancer_logistic")


def _normal_mean(y):
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def _prepared(program, guide):
    guide(*program.arguments.args, **program.arguments.kwargs)
    program.model(*program.arguments.args, **program.arguments.kwargs)
    return elbo_function(program, guide)


def _noise(elbo, count=NUM_PARTICLES):
    generator = torch.Generator().manual_seed(5)
    normal = torch.randn(count, elbo.num_normal, generator=generator, dtype=torch.float64)
    uniform = torch.rand(count, elbo.num_uniform, generator=generator, dtype=torch.float64)
    return normal, uniform


@pytest.mark.parametrize("family", ["normal", "full_rank", "structured", "handwritten"])
@pytest.mark.parametrize("name", PROBLEMS)
def test_loss_and_gradient_equal_pyros_with_the_same_noise(name, family):
    problem = ppl.load(name)
    program = build_program(problem.model, problem.data)
    with program.isolated(seed=1):
        guide = problem.guides[family] if family in problem.guides else families.make(family, program.model)
        elbo = _prepared(program, guide)
        noise = _noise(elbo)
        flat = elbo.flat_parameters() + 0.01
        gradient, loss = torch.func.grad_and_value(elbo)(flat, *noise)

        elbo.write(flat)
        total = torch.zeros((), dtype=torch.float64)
        for normal, uniform in zip(*noise, strict=True):
            with NoiseTape(normal, uniform), OutOfPlaceRandomness():
                total = total - program_log_ratio(program, guide) / NUM_PARTICLES
        wanted = torch.autograd.grad(total, list(elbo.holders.values()))
    torch.testing.assert_close(loss, total.detach(), rtol=1e-10, atol=1e-10)
    flat_gradient = torch.cat([part.reshape(-1) for part in wanted])
    torch.testing.assert_close(gradient, flat_gradient, rtol=1e-9, atol=1e-9 * float(flat_gradient.abs().max()))


@pytest.mark.native
@pytest.mark.slow
def test_compiled_steps_follow_torchs_adam_noise_for_noise():
    problem = ppl.load("eight_schools_noncentered")
    program = build_program(problem.model, problem.data)
    with program.isolated(seed=1):
        elbo = _prepared(program, families.make("full_rank", program.model))
        steps = CompiledSteps(elbo, NUM_PARTICLES, step_size=0.02)
        leaf = elbo.flat_parameters().requires_grad_(True)
        adam = torch.optim.Adam([leaf], lr=0.02)
        losses = []
        for step in range(200):
            if step == 100:
                steps.set_factor(0.1)
                adam.param_groups[0]["lr"] = 0.002
            if not steps.noise:
                steps.noise = steps._draw(steps.chunk)
            normal, uniform = steps.noise[-1]
            adam.zero_grad()
            loss = elbo(leaf, normal, uniform)
            loss.backward()
            adam.step()
            losses.append((steps(), float(loss.detach())))
        steps.write()
        found = elbo.flat_parameters()
    for one, other in losses:
        assert one == pytest.approx(other, rel=1e-9)
    torch.testing.assert_close(found, leaf.detach(), rtol=1e-8, atol=1e-8)


@pytest.mark.native
@pytest.mark.slow
@pytest.mark.statistical
def test_fit_with_compiled_steps_finds_the_closed_form_posterior():
    y = torch.linspace(-1.0, 2.0, 20, dtype=torch.float64)
    fit = ppl.fit(_normal_mean, {"y": y}, guide="normal", seed=1, backend="inductor")
    assert fit.backend == "inductor"
    assert fit.status == "converged"
    precision = 1.0 + len(y)
    mean, sd = fit.parameters["AutoNormal.locs.mean"], fit.parameters["AutoNormal.scales.mean"]
    # Adam's leftover noise at the end of the cool-down is below a hundredth of the posterior sd.
    assert abs(float(mean) - float(y.sum()) / precision) < 0.03 * precision**-0.5
    assert float(sd) == pytest.approx(precision**-0.5, rel=0.03)
    again = ppl.fit(_normal_mean, {"y": y}, guide="normal", seed=1, backend="inductor")
    assert (again.losses == fit.losses).all()


def _gamma_guide(y):
    scale = pyro.param("scale", torch.tensor(1.0))
    pyro.sample("mean", dist.Gamma(2.0, 2.0).mask(False))
    return scale


def test_guide_with_other_random_numbers_is_refused():
    program = build_program(_normal_mean, {"y": torch.ones(3)})
    with program.isolated(seed=1):
        pyro.param("scale", torch.tensor(1.0))
        with pytest.raises(CaptureError, match="neither normal nor uniform"):
            elbo_function(program, _gamma_guide)


def test_objects_of_the_users_are_left_to_pyro_with_a_warning():
    y = torch.ones(3, dtype=torch.float64)
    with pytest.warns(BackendWarning, match="of your own"):
        fit = ppl.fit(
            _normal_mean, {"y": y}, guide="normal", max_steps=5, backend="inductor", elbo=pyro.infer.Trace_ELBO()
        )
    assert fit.backend == "eager"
