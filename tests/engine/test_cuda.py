"""Fits on a GPU: the same numbers as on the CPU, by the same road."""

import numpy as np
import pytest
import torch

import ppl_models as ppl

ON_CUDA = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_missing_device_is_said():
    problem = ppl.load("eight_schools_noncentered")
    with pytest.raises(ppl.PPLError, match="sees no CUDA device"):
        ppl.fit(problem.model, problem.data, guide="normal", device="cuda")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "meta", "mps"])
def test_other_devices_are_refused(name):
    problem = ppl.load("eight_schools_noncentered")
    with pytest.raises(ppl.PPLError, match="device"):
        ppl.fit(problem.model, problem.data, guide="normal", device=name)


@pytest.mark.parametrize("backend", [pytest.param(name, marks=ON_CUDA) for name in ("eager", "inductor", "auto")])
@pytest.mark.parametrize("guide", ["normal", "full_rank"])
def test_fit_on_cuda_finds_what_the_cpu_finds(backend, guide):
    problem = ppl.load("sleepstudy_varying_intercepts")
    options = {"guide": guide, "seed": 1, "max_steps": 3_000}
    there = ppl.fit(problem.model, problem.data, device="cuda", backend=backend, **options)
    here = ppl.fit(problem.model, problem.data, backend="native", **options)
    assert there.backend == ("inductor" if backend == "auto" else backend)  # compiled code was proven on the way
    (elbo_there, error_there), (elbo_here, error_here) = there.elbo(5_000, seed=2), here.elbo(5_000, seed=2)
    assert abs(elbo_there - elbo_here) < 0.1 + 5 * np.hypot(error_there, error_here)
    assert np.isfinite(there.sample(100, seed=3)["posterior"]["sigma"]).all()
