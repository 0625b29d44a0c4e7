"""What every autoencoder keeps: prior draws, finite densities, gradients everywhere, particles, vmap, other batches."""

from dataclasses import dataclass, field
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import scipy.stats
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from torch import nn

import ppl_models as ppl
from guides.amortization.normal import NormalHead
from guides.errors import MissingDataError
from guides.networks import MLP
from ppl_models.autoencoders import (
    LIKELIHOODS,
    VAE,
    ConditionalVAE,
    FactorAnalysis,
    FlowPrior,
    LadderVAE,
    LinearVAE,
    ProbabilisticPCA,
    VampPrior,
    as_likelihood,
)
from ppl_models.autoencoders.ladder_vae import merged
from ppl_models.errors import DataError, ModelError, OptionError
from ppl_models.program import build_program, find_rows

NUM_ROWS, NUM_FEATURES, NUM_CLASSES = 11, 6, 3


def normal(num_inputs: int, latent_dim: int, init_scale: float = 0.5) -> nn.Module:
    return nn.Sequential(MLP(num_inputs, 8, (8,)), nn.Tanh(), NormalHead(8, latent_dim, init_scale=init_scale))


def vae(likelihood="bernoulli", **options):
    options.setdefault("posterior", normal(NUM_FEATURES, 2))
    kind = as_likelihood(likelihood, NUM_FEATURES, **({"num_levels": 4} if likelihood == "categorical" else {}))
    return VAE(MLP(2, kind.num_outputs, (8,)), 2, likelihood=kind, **options)


def vamp_vae():
    posterior = normal(NUM_FEATURES, 2)
    return vae(prior=VampPrior(2, posterior, torch.rand(5, NUM_FEATURES)), posterior=posterior)


def conditional(num_covariates=NUM_CLASSES, **options):
    return ConditionalVAE(
        MLP(2 + num_covariates, NUM_FEATURES, (8,)),
        2,
        num_features=NUM_FEATURES,
        posterior=normal(NUM_FEATURES + num_covariates, 2),
        **options,
    )


def ladder(guide_scale=0.5):
    return LadderVAE(
        MLP(3, NUM_FEATURES, (8,)),
        (3, 2),
        top_down=normal(2, 3, 1.0),
        bottom_up=MLP(NUM_FEATURES, 8),
        message=normal(8, 3, guide_scale),
        posterior=normal(8, 2, guide_scale),
        num_features=NUM_FEATURES,
    )


@dataclass
class Case:
    """An autoencoder, with which latents it has and what it conditions on."""

    make: Any
    latents: dict[str, int] = field(default_factory=lambda: {"z": 2})
    given: Any = None

    def made(self, dtype: torch.dtype = torch.float64):
        return self.make().to(dtype)

    def data(self, model: Any, num_rows: int = NUM_ROWS) -> dict[str, Any]:
        """Rows that the model has drawn."""
        given = {} if self.given is None else {"c": self.given(num_rows)}
        with pyro.get_param_store().scope(), torch.no_grad():
            x = model(**given) if given else model(num_rows=num_rows)
        return {**given, "x": x.to(next(model.parameters()).dtype)}


CASES = {
    **{name: Case(lambda name=name: vae(name)) for name in LIKELIHOODS},
    "flow_prior": Case(lambda: vae(prior=FlowPrior(2, hidden_dims=(8,)))),
    "vamp_prior": Case(vamp_vae),
    "labels": Case(
        lambda: conditional(num_classes=NUM_CLASSES, prior_given=normal(NUM_CLASSES, 2)),
        given=lambda num_rows: torch.arange(num_rows) % NUM_CLASSES,
    ),
    "covariates": Case(lambda: conditional(1), given=lambda num_rows: torch.linspace(-1, 1, num_rows)),
    "ladder": Case(ladder, {"z2": 2, "z1": 3}),
    "linear_vae": Case(lambda: LinearVAE(NUM_FEATURES, 2)),
    "probabilistic_pca": Case(lambda: ProbabilisticPCA(NUM_FEATURES, 2)),
    "factor_analysis": Case(lambda: FactorAnalysis(NUM_FEATURES, 2)),
}
CASE = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def loss(model: Any, data: dict[str, Any], **options: Any) -> torch.Tensor:
    """Negative ELBO with validation of everything."""
    estimator = Trace_ELBO(max_plate_nesting=1, **options)
    with pyro.validation_enabled(True), pyro.get_param_store().scope():
        return estimator.differentiable_loss(model, model.guide, **data)


def log_ratios(model: Any, data: dict[str, Any], latents: Any) -> torch.Tensor:
    """Log p - log q of each row at one draw."""
    with pyro.get_param_store().scope(), torch.no_grad():
        guide_trace = poutine.trace(model.guide).get_trace(**data)
        model_trace = poutine.trace(poutine.replay(model, guide_trace)).get_trace(**data)
    guide_trace.compute_log_prob()
    model_trace.compute_log_prob()
    log_p = sum(model_trace.nodes[name]["log_prob"] for name in ("x", *latents))
    return log_p - sum(guide_trace.nodes[name]["log_prob"] for name in latents)


@CASE
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_prior_predictive_and_the_elbo(case, dtype):
    """Shapes of prior draws; a finite ELBO in that dtype, with a slope in every parameter of model and guide."""
    model = case.made(dtype)
    data = case.data(model)
    assert (data["x"].shape, data["x"].dtype) == ((NUM_ROWS, NUM_FEATURES), dtype)
    found = loss(model, data)
    assert found.dtype == dtype
    assert bool(found.isfinite())
    for name, gradient in zip(
        dict(model.named_parameters()), torch.autograd.grad(found, list(model.parameters())), strict=True
    ):
        assert bool(gradient.isfinite().all()), name
        assert bool((gradient != 0).any()), name


@CASE
def test_vectorised_particles_and_other_batches(case):
    """Seven particles at once, one row, and a smaller batch: finite, of the right shapes (Pyro checks the plates)."""
    model = case.made()
    for num_rows in (NUM_ROWS, 4, 1):
        data = case.data(model, num_rows)
        assert bool(loss(model, data, num_particles=7, vectorize_particles=True).isfinite())


@CASE
def test_its_rows_are_found_and_its_log_density_can_be_vmapped(case):
    model = case.made()
    program = build_program(model, case.data(model))
    rows = find_rows(program)
    assert (rows.plate, rows.latents, rows.outside, rows.observed) == ("datum", tuple(case.latents), (), ("x",))
    values = {name: torch.randn(4, NUM_ROWS, dim, dtype=torch.float64) for name, dim in case.latents.items()}
    with program.isolated(seed=0), torch.no_grad():
        mapped = torch.func.vmap(program.log_joint)(values)
        looped = torch.stack([program.log_joint({n: v[draw] for n, v in values.items()}) for draw in range(4)])
    torch.testing.assert_close(mapped, looped, rtol=1e-10, atol=1e-10)


@CASE
def test_rows_are_independent(case):
    """The log ratios of some rows alone are those that they have among all, with the same latents."""
    model = case.made()
    program = build_program(model, case.data(model))
    some = build_program(model, find_rows(program).take(program.arguments, slice(2, 6)).named())
    values = {name: torch.randn(NUM_ROWS, dim, dtype=torch.float64) for name, dim in case.latents.items()}
    with program.isolated(seed=0), torch.no_grad():
        every = torch.stack([_log_joint_by_row(program, values)[row] for row in range(2, 6)])
        torch.testing.assert_close(_log_joint_by_row(some, {n: v[2:6] for n, v in values.items()}), every, rtol=1e-10, atol=1e-10)  # fmt: skip # noqa: E501


def _log_joint_by_row(program, values):
    trace = poutine.trace(poutine.condition(program.model, values)).get_trace(**program.arguments.named())
    trace.compute_log_prob()
    return sum(trace.nodes[name]["log_prob"] for name in ("x", *values))


@pytest.mark.parametrize("name", ["vamp_prior", "ladder", "labels"])
def test_a_fit_trains_a_copy_of_model_and_guide_as_one(name):
    """What model and guide share stands in the fit once, moves, and leaves the user's module as it was."""
    case = CASES[name]
    model = case.made()
    data = case.data(model, 40)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    fit = ppl.fit(model, data, guide=model.guide, max_steps=20, step_size=0.01, backend="eager", seed=1)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    names = {name.split("$$$")[1] for name in fit.program.parameters.values}
    assert names == set(dict(model.named_parameters()))
    assert fit.losses[-5:].mean() < fit.losses[:5].mean()


def test_decoding_depends_on_the_condition():
    model = conditional(num_classes=NUM_CLASSES).double()
    z = torch.zeros(7, NUM_CLASSES, 2, dtype=torch.float64)
    law = model.decode(z, torch.arange(NUM_CLASSES))
    assert (law.batch_shape, law.event_shape) == ((7, NUM_CLASSES), (NUM_FEATURES,))
    logits = law.base_dist.logits.detach()
    assert float((logits[0, 0] - logits[0, 1]).abs().max()) > 0.01
    torch.testing.assert_close(logits[0], logits[1])
    alone = model.decode(z[0, :1], torch.tensor([1])).base_dist.logits
    torch.testing.assert_close(alone[0], logits[0, 1])


def test_labels_outside_their_classes_are_refused():
    model = conditional(num_classes=NUM_CLASSES)
    with pyro.validation_enabled(True), pytest.raises(DataError, match="labels outside"):
        model.covariates(torch.tensor([0, NUM_CLASSES]))
    assert model.covariates(torch.tensor([2.0, 0.0])).tolist() == [[0, 0, 1], [1, 0, 0]]


def test_two_normals_merge_as_their_product():
    """The product of two normal densities differs from the merged one by a constant."""
    first = dist.Normal(torch.tensor([0.0, 2.0]).double(), torch.tensor([1.0, 0.1]).double()).to_event(1)
    second = dist.Normal(torch.tensor([3.0, -2.0]).double(), torch.tensor([0.5, 4.0]).double()).to_event(1)
    points = torch.randn(6, 2, dtype=torch.float64)
    gap = first.log_prob(points) + second.log_prob(points) - merged(first, second).log_prob(points)
    torch.testing.assert_close(gap, gap[:1].expand(6), rtol=1e-10, atol=1e-10)


def test_the_ladders_elbo_is_below_its_log_evidence_and_its_weights_have_that_mean():
    """The evidence of three rows by 20,000 draws of the prior, and by 40,000 of the guide.

    The guide is random and wide: its gap of about a nat is far above the errors, and its weights have a variance.
    """
    model = ladder(1.5).double()
    data = CASES["ladder"].data(model, 3)
    num_guide, num_prior = 40_000, 20_000
    many = {"x": data["x"].repeat(num_guide, 1)}
    with torch.no_grad():
        ratios = log_ratios(model, many, ("z2", "z1")).reshape(num_guide, 3)
        z2 = model.prior().sample((num_prior,))
        likelihood = model.decode(model.top_down(z2).sample()).log_prob(data["x"].unsqueeze(1)).exp()
    evidence, error = likelihood.mean(-1), likelihood.std(-1) / num_prior**0.5
    z = scipy.stats.norm.isf(1e-4 / 6)
    assert bool((ratios.mean(0) + 0.1 + z * ratios.std(0) / num_guide**0.5 < (evidence - z * error).log()).all())
    weights = ratios.exp()
    both = (weights.var(0) / num_guide + error**2).sqrt()
    assert bool(((weights.mean(0) - evidence).abs() <= z * both).all())
    assert bool((both / evidence < 0.05).all())


def test_a_model_without_data_or_posterior_says_so():
    model = vae(posterior=None)
    with pytest.raises(ModelError, match="num_rows"):
        model()
    with pyro.get_param_store().scope(), pytest.raises(ModelError, match="posterior="):
        model.guide(torch.zeros(2, NUM_FEATURES))
    with pytest.raises(MissingDataError, match=r"VAE\.guide"):
        model.guide(num_rows=3)
    with pytest.raises(OptionError, match="latent_dim is 3"):
        VAE(MLP(3, 4), 3, num_features=4, prior=FlowPrior(2))
