"""The split of a program's density into prior and likelihood, by datum."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from ppl_models.errors import ModelError, OptionError
from ppl_models.inference.evidence.prior_likelihood import prior_and_likelihood, split_of
from ppl_models.program import build_program
from tests.inference.evidence.tempered_models import normals, rates, switched, two_sites

Y = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)


@pytest.mark.parametrize("by_datum", [False, True])
@pytest.mark.parametrize(
    ("model", "data"),
    [(normals, Y), (rates, torch.tensor([[1.0, 2.0], [0.0, 4.0]])), (two_sites, torch.ones(3, 2).double())],
)
def test_prior_and_likelihood_sum_to_the_log_density(model, data, by_datum):
    program = build_program(model, {"y": data})
    flat = torch.randn(program.num_dims, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with program.isolated(seed=0):
        split = split_of(program, by_datum)
        prior, likelihood = prior_and_likelihood(program, split, flat)
        whole = program.log_density(flat)
    assert prior.shape == likelihood.shape == (split.num_data,)
    torch.testing.assert_close((prior + likelihood).sum(), whole, rtol=1e-12, atol=1e-12)


def test_each_datum_depends_on_its_own_latents_alone():
    program = build_program(two_sites, {"y": torch.ones(3, 2).double()})
    flat = torch.randn(program.num_dims, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with program.isolated(seed=0):
        split = split_of(program, True)
        before = torch.stack(prior_and_likelihood(program, split, flat))
        for datum, places in enumerate(split.order):
            moved = flat.clone()
            moved[places] += 1.0
            changed = (torch.stack(prior_and_likelihood(program, split, moved)) != before).any(0)
            assert changed.nonzero().flatten().tolist() == [datum]
    assert split.shape == (3, 2)
    assert sorted(split.order.flatten().tolist()) == list(range(program.num_dims))


def test_enumerated_sites_belong_to_the_likelihood():
    program = build_program(switched, {"y": torch.tensor(0.7)})
    flat = torch.tensor([0.4], dtype=torch.float64)
    with program.isolated(seed=0):
        prior, likelihood = prior_and_likelihood(program, split_of(program, False), flat)
    torch.testing.assert_close(prior[0], torch.distributions.Normal(0.0, 1.0).log_prob(flat[0]))
    sides = torch.distributions.Normal(flat + torch.tensor([0.0, 2.0]).double(), 0.5).log_prob(torch.tensor(0.7))
    torch.testing.assert_close(likelihood[0], (sides + torch.tensor([0.7, 0.3]).double().log()).logsumexp(0))


def improper(y):
    z = pyro.sample("z", dist.ImproperUniform(dist.constraints.real, (), ()))
    pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def masked(y):
    z = pyro.sample("z", dist.Normal(0.0, 1.0).mask(False))
    pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def scaled(y):
    with pyro.poutine.scale(scale=2.0):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def discrete(y):
    z = pyro.sample("z", dist.Bernoulli(0.5))
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Normal(z + w, 1.0), obs=y)


def behind_enumerated(y):
    side = pyro.sample("side", dist.Bernoulli(0.3), infer={"enumerate": "parallel"})
    z = pyro.sample("z", dist.Normal(side, 1.0))
    pyro.sample("y", dist.Normal(z, 1.0), obs=y)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (improper, "'z': its prior is improper"),
        (masked, "'z': its prior is masked"),
        (scaled, "'z': its prior is scaled"),
        (discrete, "'z': a discrete latent"),
        (behind_enumerated, "'z': it depends on an enumerated site"),
    ],
)
def test_models_without_an_evidence_are_refused(model, says):
    program = build_program(model, {"y": torch.tensor(0.5)})
    with program.isolated(seed=0), pytest.raises(ModelError, match=says):
        split_of(program, False)


def shared(y):
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("datum", len(y)):
        pyro.sample("y", dist.Normal(mean, 1.0), obs=y)


@pytest.mark.parametrize(
    ("model", "data", "says"),
    [(shared, Y, "'mean' stands outside"), (switched, torch.tensor(0.5), "sums out discrete sites")],
)
def test_by_datum_needs_latents_of_the_data_alone(model, data, says):
    program = build_program(model, {"y": data})
    with program.isolated(seed=0), pytest.raises(OptionError, match=says):
        split_of(program, True)
