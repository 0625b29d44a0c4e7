"""What an amortised guide is, read off it and proven."""

import pyro
import pyro.distributions as dist
import torch

import ppl_models as ppl
from ppl_models.inference.by_datum.amortised import OTHER, amortised_normals
from ppl_models.inference.by_datum.held import hold_outside
from ppl_models.inference.by_datum.target import DatumTarget
from tests.inference.by_datum.linear_gaussian import Exact, fit, rows

X = rows(6)


def read(fitted, backend="auto"):
    with fitted.program.isolated(seed=0, num_threads=1), torch.no_grad():
        return amortised_normals(fitted, DatumTarget(fitted.program, backend))


def test_normals_are_read_exactly():
    exact = Exact(X)
    diagonal, name = read(fit(X, family="diagonal", shift=0.2))
    assert name == "diagonal"
    assert torch.allclose(diagonal.mean, exact.mean + 0.2)
    full, name = read(fit(X))
    assert name == "full_rank"
    assert torch.allclose(full.covariance, exact.covariance.expand(6, 2, 2))


def two_latents(x):
    with pyro.plate("datum", len(x)):
        a = pyro.sample("a", dist.Normal(torch.zeros(len(x), dtype=x.dtype), 1.0))
        b = pyro.sample("b", dist.LogNormal(a, 1.0))
        pyro.sample("x", dist.Normal(b.log(), 1.0), obs=x)


def conditional(x):
    shift = pyro.param("shift", torch.tensor(0.5, dtype=torch.float64))
    with pyro.plate("datum", len(x)):
        a = pyro.sample("a", dist.Normal(0.5 * x, 1.0))
        pyro.sample("b", dist.LogNormal(shift * a + 0.5 * x, 0.8))


def independent(x):
    shift = pyro.param("shift", torch.tensor(0.5, dtype=torch.float64))
    with pyro.plate("datum", len(x)):
        pyro.sample("a", dist.Normal(0.5 * x, 1.0))
        b = pyro.sample("b_unconstrained", dist.Normal(shift * x, 0.8), infer={"is_auxiliary": True})
        jacobian = -b
        pyro.sample("b", dist.Delta(b.exp(), log_density=jacobian))


def fitted(guide):
    x = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
    return ppl.fit(two_latents, {"x": x}, guide=guide, max_steps=1, step_size=1e-12, backend="eager", seed=0)


def test_a_conditional_factor_is_no_normal():
    assert read(fitted(conditional))[1] == OTHER


def test_a_positive_latent_is_read_in_unconstrained_coordinates():
    normals, name = read(fitted(independent))
    assert name == "diagonal"
    assert torch.allclose(normals.sd, torch.tensor([1.0, 0.8], dtype=torch.float64).expand(3, 2))
    assert torch.allclose(normals.mean[:, 1], 0.5 * torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64))


def shared(x):
    level = pyro.sample("level", dist.LogNormal(torch.tensor(0.0, dtype=x.dtype), 0.5))
    with pyro.plate("datum", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(len(x), dtype=x.dtype), 1.0))
        pyro.sample("x", dist.Normal(z, level), obs=x)


def shared_guide(x):
    loc = pyro.param("loc", torch.tensor(-0.3, dtype=torch.float64))
    pyro.sample("level", dist.LogNormal(loc, 0.1))
    with pyro.plate("datum", len(x)):
        pyro.sample("z", dist.Normal(0.5 * x, 0.7))


def test_latents_that_all_rows_share_are_held():
    x = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
    made = ppl.fit(shared, {"x": x}, guide=shared_guide, max_steps=1, step_size=1e-12, backend="eager", seed=0)
    local, held = hold_outside(made)
    assert list(held) == ["level"]
    assert [site.name for site in local.program.sites.latent] == ["z"]
    with local.program.isolated(seed=0, num_threads=1), torch.no_grad():
        target = DatumTarget(local.program)
        normals, name = amortised_normals(local, target)
        value, _ = target(torch.zeros(1, 3, 1, dtype=torch.float64))
    assert name == "diagonal"
    assert torch.allclose(normals.mean[:, 0], 0.5 * x)
    # 1,000 draws put the mean log level within 5 standard errors of -0.3
    levels = torch.exp(torch.tensor([-0.3 - 5 * 0.1 / 1000**0.5, -0.3 + 5 * 0.1 / 1000**0.5], dtype=torch.float64))
    prior = dist.Normal(torch.tensor(0.0, dtype=torch.float64), 1.0).log_prob(torch.tensor(0.0, dtype=torch.float64))
    ends = torch.stack([prior + dist.Normal(0.0, level).log_prob(x) for level in levels])
    assert bool(((value[0] > ends.min(0).values) & (value[0] < ends.max(0).values)).all())


def test_a_weak_dependence_shows_in_single_precision_too():
    """Log weights of hundreds of nats, and of one latent's mean a fifth of an sd that depends on the other."""

    def model(x):
        with pyro.plate("datum", len(x)):
            a = pyro.sample("a", dist.Normal(torch.zeros(len(x)), 1.0))
            b = pyro.sample("b", dist.Normal(a, 1.0))
            pyro.sample("x", dist.Normal(b[..., None].expand(len(x), 300), 1.0).to_event(1), obs=x)

    def guide(x, weight):
        learnt = pyro.param("learnt", torch.tensor(1.0))
        with pyro.plate("datum", len(x)):
            a = pyro.sample("a", dist.Normal(learnt * x[:, 0], 0.8))
            pyro.sample("b", dist.Normal(x.mean(1) + weight * a, 0.5))

    x = torch.randn(8, 300, generator=torch.Generator().manual_seed(2))
    names = []
    for weight in (0.0, 0.1):
        made = ppl.fit(
            model, {"x": x}, guide=lambda x, w=weight: guide(x, w), max_steps=1, step_size=1e-12, backend="eager"
        )
        names.append(read(made, "eager")[1])
    assert names == ["diagonal", OTHER]
