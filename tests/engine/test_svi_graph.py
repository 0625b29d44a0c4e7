"""Compiled steps: the same numbers as steps made by hand, whatever the backend, and how they end where they fail."""

import contextlib
import itertools
import json
import math
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from closed_forms import DATA, EVIDENCE, MEAN, MEAN_FIELD_GAP, MEAN_FIELD_SD, PRECISION, X, Y, regression
from torch.utils.data import DataLoader, TensorDataset

import ppl_models as ppl
from engine.steps import BETAS, Plain, by_hand, compiled, delta_guide, elbo_of, losses_of
from ppl_models.engine import COMPILERS, Adam, CaptureError, CompiledSteps, SviGraph
from ppl_models.engine import compiled_steps as module
from ppl_models.errors import DataError
from ppl_models.inference.fault import describe_fault
from ppl_models.program.batches import batches
from ppl_models.program.elbo import mean_field_log_ratio
from ppl_models.program.estimators import Total

NATIVE = pytest.param(COMPILERS["native"], marks=pytest.mark.native, id="native")
INDUCTOR = pytest.param(COMPILERS["inductor"], marks=pytest.mark.native, id="inductor")
BACKENDS = [pytest.param(Plain(), id="plain"), NATIVE, INDUCTOR]
MORE_NATIVE = pytest.param(COMPILERS["native"], marks=(pytest.mark.native, pytest.mark.exhaustive), id="native")
"""Where another test has native steps of the same kind."""


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_steps_equal_those_made_by_hand(backend):
    factors = np.concatenate([np.ones(20), np.geomspace(1.0, 0.01, 40)])
    with elbo_of(regression, DATA) as elbo:
        steps, losses = compiled(elbo, backend), []
        assert torch.equal(steps.state[0], elbo.flat_parameters())
        steps.run(factors, losses)
        wanted, passed = by_hand(elbo, 60, factors=factors)
        close(losses, wanted)
        close(steps.state[0], passed[-1])
        assert steps.num_steps == 60
        assert steps.failed is None
        assert torch.equal(elbo.flat_parameters(), passed[0])
        steps.write()
        assert torch.equal(elbo.flat_parameters(), steps.state[0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_steps_may_be_made_in_any_pieces(backend, monkeypatch):
    monkeypatch.setattr(module, "NOISE_STEPS", 16)
    with elbo_of(regression, DATA) as elbo:
        whole, pieces = [losses_of(compiled(elbo, backend), *counts) for counts in ((50,), (1, 1, 7, 16, 20, 5))]
    assert whole == pieces
    assert len(set(whole)) == 50


def test_steps_look_at_the_keyboard_from_time_to_time():
    with elbo_of(regression, DATA) as elbo:
        backend = Plain(lambda step, results: time.sleep(0.1))
        steps = compiled(elbo, backend)
        backend.counts.clear()
        losses_of(steps, 5)
        assert backend.counts[0] == 1
        assert max(backend.counts) <= module.SECONDS_AWAY / 0.1


def test_noise_is_bounded_in_memory(monkeypatch):
    monkeypatch.setattr(module, "NOISE_NUMBERS", 10)
    with elbo_of(regression, DATA, particles=3) as elbo:
        assert elbo.numbers_per_step == 6
        backend = Plain()
        losses_of(compiled(elbo, backend), 4)
        assert backend.counts == [1] * (module.NUM_PROOFS + 4)


@pytest.mark.parametrize("backend", [pytest.param(Plain(), id="plain"), MORE_NATIVE])
def test_several_particles_are_the_mean_of_single_ones(backend):
    with elbo_of(regression, DATA, particles=3) as elbo:
        losses = losses_of(compiled(elbo, backend), 30)
        wanted, _ = by_hand(elbo, 30)
        torch.manual_seed(7)
        noise = elbo.draw_noise(1_000)
        flat = elbo.flat_parameters()
        singles = [-elbo.particle(flat, noise[0][0, one], noise[1][0, one], [])["log_ratio"] for one in range(3)]
    close(losses, wanted)
    assert losses[0] == pytest.approx(float(torch.stack(singles).mean()), rel=1e-12)


@pytest.mark.parametrize("backend", [pytest.param(Plain(), id="plain"), MORE_NATIVE])
def test_float32_steps_agree_to_their_precision(backend):
    with elbo_of(regression, DATA, "full_rank", dtype=torch.float32) as elbo:
        steps = compiled(elbo, backend)
        losses = losses_of(steps, 40)
        wanted, passed = by_hand(elbo, 40)
    assert steps.state[0].dtype == torch.float32
    np.testing.assert_allclose(losses, wanted, rtol=1e-4)
    np.testing.assert_allclose(steps.state[0], passed[-1], rtol=1e-3, atol=1e-4)


def test_the_mean_field_estimator_takes_divergences_in_closed_form():
    def guide(x, y):
        scale = pyro.param("scale", torch.tensor([0.3, 2.0]), constraint=dist.constraints.positive)
        pyro.sample("weights", dist.Normal(pyro.param("loc", torch.tensor([0.1, -0.2])), scale).to_event(1))

    with elbo_of(regression, DATA, guide, estimator=Total(mean_field_log_ratio)) as elbo:
        loc, scale = (pyro.param(name).detach() for name in ("loc", "scale"))
        normal, uniform = (part[0] for part in elbo.draw_noise(1))
        divergence = (0.5 * (scale**2 + loc**2 - 1) - scale.log()).sum()
        away = Y - X @ (loc + scale * normal[0])
        wanted = divergence + (0.5 * away**2 + 0.5 * math.log(2 * math.pi)).sum()
        assert float(elbo(elbo.flat_parameters(), normal, uniform)) == pytest.approx(float(wanted), rel=1e-12)
        close(losses_of(compiled(elbo, Plain()), 20), by_hand(elbo, 20)[0])


def test_seeds_decide():
    with elbo_of(regression, DATA) as elbo:
        steps = [CompiledSteps(SviGraph(elbo, Adam(0.05)), Plain()) for _ in range(3)]
        losses = []
        for one, seed in zip(steps, (1, 1, 2), strict=True):
            torch.manual_seed(seed)
            losses.append(losses_of(one, 10))
    assert losses[0] == losses[1]
    assert set(losses[0]).isdisjoint(losses[2])


def test_preparation_draws_nothing_that_counts():
    with elbo_of(regression, DATA) as elbo:
        before = torch.get_rng_state()
        CompiledSteps(SviGraph(elbo, Adam(0.05)), Plain())
        assert torch.equal(torch.get_rng_state(), before)


def gamma_guide(*_args, **_kwargs):
    rate = pyro.param("rate", torch.full((2,), 2.0), constraint=dist.constraints.positive)
    pyro.sample("weights", dist.Gamma(3.0, rate).to_event(1))


@pytest.mark.parametrize("backend", [pytest.param(Plain(), id="plain"), NATIVE])
def test_draws_inside_the_step_follow_torchs_seed_too(backend):
    with elbo_of(regression, DATA, gamma_guide) as elbo:
        steps = compiled(elbo, backend)
        assert steps.svi.graph.random == ("aten._standard_gamma",)
        first = losses_of(steps, 5, 20)
        again = losses_of(compiled(elbo, backend), 3, 22)
        wanted, _ = by_hand(elbo, 25)
    assert first == again
    close(first, wanted)


@pytest.mark.native
@pytest.mark.statistical
def test_a_fit_finds_the_closed_form_posterior_and_finds_it_again():
    options = {"guide": "normal", "seed": 1, "num_particles": 3, "backend": "native"}
    fit, again = (ppl.fit(regression, DATA, **options) for _ in range(2))
    assert (fit.backend, fit.status) == ("native", "converged")
    assert np.array_equal(fit.losses, again.losses)
    mean, sd = (fit.parameters[f"AutoNormal.{name}.weights"] for name in ("locs", "scales"))
    away, ratio = mean - MEAN, sd / MEAN_FIELD_SD
    gap = float(0.5 * away @ PRECISION @ away + (0.5 * (ratio**2 - 1) - ratio.log()).sum())
    assert 0.0 <= gap < 0.01  # nats below the best ELBO of independent normals


# How steps fail.


def shrinking(y):
    """The scale of `y` goes down with `w`, and is negative beyond a bound."""
    w = pyro.sample("w", dist.Normal(0.0, 0.01).mask(False))
    pyro.sample("y", dist.Normal(0.0, 1.03 - w), obs=y)


def steep(y):
    """The gradient is NaN beyond a bound, the loss is not."""
    w = pyro.sample("w", dist.Normal(0.0, 0.01).mask(False))
    left = 0.52 - w
    pyro.factor("push", 10.0 * w + 0.1 * (left.abs() + left).sqrt())


OBSERVED = (torch.zeros(()),)


def first_failure(elbo):
    """The step that fails when made by hand, the losses before it, and the parameters of every step."""
    losses, passed = by_hand(elbo, 60)
    failing = next(step for step, loss in enumerate(losses) if not math.isfinite(loss))
    return failing, losses[:failing], passed


@pytest.mark.parametrize("backend", [pytest.param(Plain(), id="plain"), NATIVE])
@pytest.mark.parametrize(
    ("model", "cause"),
    [(shrinking, "the model's site 'y' "), (steep, "parameter 'a' was not finite")],
    ids=["scale", "gradient"],
)
def test_steps_end_with_the_last_parameters_whose_loss_was_finite(model, cause, backend):
    with elbo_of(model, OBSERVED, delta_guide) as elbo:
        failing, wanted, passed = first_failure(elbo)
        assert 5 < failing < 55
        for counts in ((60,), (failing, 10), (failing + 1, 10), (1,) * 60):
            steps = compiled(elbo, backend)
            losses = []
            for count in counts:
                steps.run(np.ones(count), losses)
                if steps.failed:
                    break
            assert len(losses) == failing + 1
            assert not math.isfinite(losses.pop())
            close(losses, wanted)
            assert steps.num_steps == failing
            close(steps.state[0], passed[failing - 1])
            torch.testing.assert_close(steps.failed.flat, passed[failing], equal_nan=True)
            assert cause in describe_fault(steps.failed)


def test_a_first_step_that_fails_leaves_the_parameters():
    with elbo_of(shrinking, OBSERVED, delta_guide) as elbo:
        elbo.write(torch.full((1,), 2.0, dtype=torch.float64))
        steps = compiled(elbo, Plain())
        (loss,) = losses_of(steps, 5)
        assert math.isnan(loss)
        assert float(steps.state[0]) == 2.0
        assert describe_fault(steps.failed) == ("the model's site 'y' has a log density of nan")


def test_a_replay_draws_what_was_drawn():
    def model(y):
        w = pyro.sample("w", dist.Gamma(3.0, 3.0).mask(False))
        pyro.factor("bound", torch.where(w > 8.0, torch.nan, 50.0 * w))

    def guide(y):
        rate = pyro.param("rate", torch.tensor(2.0), constraint=dist.constraints.positive)
        pyro.sample("w", dist.Gamma(3.0, rate))

    with elbo_of(model, OBSERVED, guide) as elbo:
        failing, _, passed = first_failure(elbo)
        steps = compiled(elbo, Plain())
        after = torch.get_rng_state()
        losses = losses_of(steps, 60)
        assert len(losses) == failing + 1 > 5
        close(steps.state[0], passed[failing - 1])
        assert not torch.equal(torch.get_rng_state(), after)


def test_the_guides_sites_are_named_too():
    def model(y):
        pyro.sample("w", dist.Normal(0.0, 1.0))

    def guide(y):
        pyro.sample("w", dist.Normal(0.0, 0.5 - pyro.param("a", torch.zeros(()))))

    with elbo_of(model, OBSERVED, guide, particles=2) as elbo:
        elbo.write(torch.ones(1, dtype=torch.float64))
        steps = compiled(elbo, Plain())
        assert math.isnan(losses_of(steps, 3)[0])
        assert describe_fault(steps.failed) == "the guide's site 'w' has a log density of nan"


@pytest.mark.parametrize("at", [1, 10, 27])
def test_ctrl_c_keeps_the_steps_that_were_made(at):
    def interrupt(step, _results):
        if step == module.NUM_PROOFS + at:
            raise KeyboardInterrupt

    with elbo_of(regression, DATA) as elbo:
        steps, losses = compiled(elbo, Plain(interrupt)), []
        with contextlib.suppress(KeyboardInterrupt):
            for _ in range(100):
                steps.run(np.ones(10), losses)
        assert len(losses) == at
        wanted, passed = by_hand(elbo, at)
        close(losses, wanted)
        assert steps.num_steps == at
        close(steps.state[0], passed[at])
        steps.write()
        close(elbo.flat_parameters(), passed[at])


INTERRUPTED = """
import json, os, signal, threading, time
import pyro, torch
import ppl_models as ppl
from closed_forms import DATA, regression
from ppl_models.engine import compiled_steps

started, sent, run = [], [], compiled_steps.CompiledSteps.run

def interrupt():
    time.sleep(0.3)
    sent.append(time.monotonic())
    os.kill(os.getpid(), signal.SIGINT)

def watched(steps, factors, losses):
    if not started:
        started.append(True)
        threading.Thread(target=interrupt).start()
    run(steps, factors, losses)

compiled_steps.CompiledSteps.run = watched
fit = ppl.fit(regression, DATA, guide="normal", seed=1, num_particles=1, backend="native",
              optimizer=pyro.optim.Adam({"lr": 1e-3}), max_steps=10**9)
print(json.dumps({
    "seconds": time.monotonic() - sent[0], "status": fit.status, "backend": fit.backend, "steps": fit.steps,
    "note": fit.note, "finite": all(bool(torch.isfinite(v).all()) for v in fit.parameters.values()),
}))
"""


@pytest.mark.native
@pytest.mark.slow
def test_ctrl_c_ends_a_native_loop_within_a_second(request):
    folder = str(request.config.rootpath / "tests")
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {folder!r})\n{INTERRUPTED}"]
    found = json.loads(subprocess.check_output(command, text=True, cwd=request.config.rootpath, timeout=120))
    assert (found["status"], found["backend"], found["finite"]) == ("interrupted", "native", True)
    assert found["steps"] > 1_000
    assert found["note"] == f"stopped by the user after {found['steps']} steps"
    assert found["seconds"] < 1.0


# Minibatches.

ROWS = 10


def scaled(x, y):
    weights = pyro.sample("weights", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with pyro.poutine.scale(scale=ROWS / len(x)), pyro.plate("row", len(x)):
        pyro.sample("y", dist.Normal((x * weights).sum(-1), 1.0), obs=y)


def rows(num_rows=ROWS):
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(num_rows, 2, dtype=torch.float64, generator=generator)
    return x, x @ torch.tensor([1.0, -1.0], dtype=torch.float64) + 0.1 * x[:, 0]


def loader(**options):
    return DataLoader(TensorDataset(*rows()), batch_size=4, **{"shuffle": True, **options})


def batches_of(elbo, data):
    return batches(scaled, data, elbo.program.arguments, torch.float64, torch.device("cpu"))


@pytest.mark.parametrize("backend", [pytest.param(Plain(), id="plain"), NATIVE])
def test_minibatches_and_a_smaller_last_one(backend):
    x, y = rows()
    with elbo_of(scaled, (x[:4], y[:4])) as elbo:
        own = [loader(generator=torch.Generator().manual_seed(2)) for _ in range(2)]
        steps = compiled(elbo, backend, batches=batches_of(elbo, own[0]))
        losses = losses_of(steps, 1, 30, 14)
        wanted, passed = by_hand(elbo, 45, arguments=list(itertools.islice(batches_of(elbo, own[1]), 45)))
    close(losses, wanted)
    close(steps.state[0], passed[-1])
    assert len(steps._runners) == 2


def test_batches_of_one_shape_are_run_together():
    x, y = rows()
    with elbo_of(scaled, (x[:4], y[:4])) as elbo:
        backend = Plain()
        steps = compiled(elbo, backend, batches=batches_of(elbo, loader(drop_last=True)))
        steps.seconds_per_step = 1e-6
        losses_of(steps, 30)
        assert backend.counts == [1] * module.NUM_PROOFS + [30]


def test_the_order_of_batches_follows_the_seed_whatever_the_pieces():
    x, y = rows()
    with elbo_of(scaled, (x[:4], y[:4]), gamma_guide) as elbo:
        found = []
        for seed, counts in ((3, (1,) * 20), (3, (20,)), (4, (20,))):
            torch.manual_seed(seed)
            svi = SviGraph(elbo, Adam(0.05), minibatches=True)
            steps = CompiledSteps(svi, Plain(), batches_of(elbo, loader()))
            steps.seconds_per_step = 1e-6
            found.append(losses_of(steps, *counts))
    assert found[0] == found[1]
    assert set(found[0]).isdisjoint(found[2])


def test_a_fault_is_looked_for_in_the_batch_that_failed():
    x, y = rows()
    x[7, 0] = torch.inf
    with elbo_of(scaled, (x[:4], y[:4])) as elbo:
        data = DataLoader(TensorDataset(x, y), batch_size=4)
        steps = compiled(elbo, Plain(), batches=batches_of(elbo, data))
        steps.seconds_per_step = 1e-6
        losses = losses_of(steps, 2)
        assert len(losses) == 2
        assert not math.isfinite(losses[1])
        arguments = steps.failed.elbo.program.arguments.tensors()
        assert torch.equal(arguments["x"], x[4:8])
        assert "the model's site 'y'" in describe_fault(steps.failed)


def test_a_batch_that_cannot_be_compiled_says_so():
    def fickle(x, y):
        scaled(x, y if len(x) == 4 else y + float(y.sum()))

    x, y = rows()
    with elbo_of(fickle, (x[:4], y[:4])) as elbo:
        steps, losses = compiled(elbo, Plain(), batches=batches_of(elbo, loader(shuffle=False))), []
        with pytest.raises(DataError, match=r"\(2, 2\).*cannot be compiled.*reads the value.*drop_last=True"):
            steps.run(np.ones(6), losses)
        assert len(losses) == 2


def test_minibatches_bake_nothing_of_the_first_batch():
    def baking(x, y):
        scaled(x, y + sum(x[0].tolist()))

    x, y = rows()
    with elbo_of(baking, (x[:4], y[:4])) as elbo, pytest.raises(CaptureError, match="differs from eager's"):
        compiled(elbo, Plain(), batches=batches_of(elbo, loader()))


# Subsampled plates.


def subsampled(x, y, subsample_size=2):
    weights = pyro.sample("weights", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with pyro.plate("row", len(x), subsample_size=subsample_size) as chosen:
        pyro.sample("y", dist.Normal((x[chosen] * weights).sum(-1), 1.0), obs=y[chosen])


def test_the_mean_over_all_subsamples_is_the_loss_of_all_the_data():
    with elbo_of(subsampled, DATA) as elbo:
        assert dict(elbo.subsamples) == {"row": (4, 2)}
        normal, uniform, _ = (part[0] for part in elbo.draw_noise(1))
        flat = elbo.flat_parameters()
        losses = [
            elbo(flat, normal, uniform, torch.tensor(chosen)) for chosen in itertools.permutations(range(len(Y)), 2)
        ]
    with elbo_of(regression, DATA) as whole:
        assert torch.equal(whole.flat_parameters(), flat)
        wanted = whole(flat, normal, uniform)
    assert float(torch.stack(losses).mean()) == pytest.approx(float(wanted), rel=1e-12)


@pytest.mark.native
@pytest.mark.statistical
def test_losses_of_subsamples_are_unbiased():
    num_steps = 20_000
    with elbo_of(subsampled, DATA) as elbo:
        elbo.write(torch.cat([MEAN, MEAN_FIELD_SD.expm1().log()]))  # scales are softplus of what the guide holds
        losses = np.asarray(losses_of(compiled(elbo, COMPILERS["native"], Adam(0.0, BETAS)), num_steps))
    error = losses.std() / math.sqrt(num_steps)
    assert abs(-losses.mean() - (EVIDENCE - MEAN_FIELD_GAP)) < 5 * error


def test_guide_and_model_see_the_same_subsample():
    seen = SimpleNamespace(model=[], guide=[])  # lists of its own would count as Python state of the model

    def model(y):
        with pyro.plate("row", len(y), subsample_size=3) as chosen:
            seen.model.append(chosen.tolist())
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(z, 1.0), obs=y[chosen])

    def guide(y):
        locs = pyro.param("locs", torch.zeros(len(y)))
        with pyro.plate("row", len(y), subsample_size=3) as chosen:
            seen.guide.append(chosen.tolist())
            pyro.sample("z", dist.Normal(locs[chosen], 1.0))

    with elbo_of(model, (torch.arange(8.0),), guide) as elbo:
        noise = elbo.draw_noise(4)
        for lists in (seen.model, seen.guide):
            lists.clear()
        for step in range(4):
            elbo(elbo.flat_parameters(), *(part[step] for part in noise))
        assert seen.guide == seen.model == noise[2].tolist()
        close(losses_of(compiled(elbo, Plain()), 20), by_hand(elbo, 20)[0])


@pytest.mark.native
def test_local_latents_of_a_subsample_are_learnt():
    def model(y):
        scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        with pyro.plate("row", len(y), subsample_size=3) as chosen:
            z = pyro.sample("z", dist.Normal(0.0, scale))
            pyro.sample("y", dist.Normal(z, 1.0), obs=y[chosen])

    with elbo_of(model, (torch.arange(8.0),), "normal") as elbo:
        losses = losses_of(compiled(elbo, COMPILERS["native"]), 30)
        wanted, passed = by_hand(elbo, 30)
    close(losses, wanted)
    assert (passed[-1] != passed[0]).all()


# What is refused.


def test_a_guide_without_parameters_is_refused():
    with pytest.raises(CaptureError, match="no parameter to learn"), elbo_of(regression, DATA, lambda x, y: None):
        pass


def test_a_site_without_reparameterisation_is_named():
    def model(y):
        k = pyro.sample("k", dist.Poisson(3.0))
        pyro.sample("y", dist.Normal(k, 1.0), obs=y)

    def guide(y):
        pyro.sample("k", dist.Poisson(pyro.param("rate", torch.tensor(2.0))))

    with pytest.raises(CaptureError, match=r"'k' \(Poisson\) is not reparameterised"), elbo_of(model, OBSERVED, guide):
        pass


@pytest.mark.parametrize(("kept", "which"), [(1, "loss"), (2, "parameters")])
def test_steps_with_other_numbers_are_refused(kept, which):
    class Wrong(Plain):
        def compile(self, graph):
            code = super().compile(graph)
            right = code.module

            def wrong(*inputs):
                (loss,) = right(*inputs)
                if kept == 2:
                    inputs[0].mul_(1 + 1e-7)
                return (loss * (1 + 1e-7) if kept == 1 else loss,)

            code.module = wrong
            return code

    reason = f"step's {which} differs from eager's by"
    with elbo_of(regression, DATA) as elbo, pytest.raises(CaptureError, match=reason):
        compiled(elbo, Wrong())


def test_steps_that_fail_are_refused():
    def fail(step, results):
        raise RuntimeError("no such operator\nat all")

    with elbo_of(regression, DATA) as elbo, pytest.raises(CaptureError) as caught:
        compiled(elbo, Plain(fail))
    assert str(caught.value) == "a step fails: RuntimeError: no such operator"


def test_a_disagreement_is_said_as_it_is():
    with elbo_of(regression, DATA) as elbo, pytest.raises(CaptureError, match=r"^a compiled step's loss differs from"):
        compiled(elbo, Plain(lambda step, results: results[0].add_(1.0)))
