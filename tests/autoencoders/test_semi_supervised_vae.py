"""The bound with labels summed out is the sum, term by term; the sampled one agrees with it on average."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from torch import nn

import ppl_models as ppl
from guides.amortization import NormalHead
from guides.errors import MissingDataError
from guides.networks import MLP
from ppl_models.autoencoders import SemiSupervisedVAE
from ppl_models.autoencoders.label_weights import LabelWeighted
from ppl_models.errors import DataError, OptionError, UnknownNameError
from ppl_models.program import build_program, find_rows

NUM_FEATURES, NUM_CLASSES, LATENT_DIM = 6, 3, 2
ALPHA = 0.7
Y = torch.tensor([2, -1, 0, -1, -1, 1, -1])
Z = 4.5


def semi_supervised(likelihood="bernoulli", **options):
    posterior = nn.Sequential(MLP(NUM_FEATURES + NUM_CLASSES, 8, ()), nn.Tanh(), NormalHead(8, LATENT_DIM))
    return SemiSupervisedVAE(
        MLP(LATENT_DIM + NUM_CLASSES, NUM_FEATURES, (8,)),
        LATENT_DIM,
        num_classes=NUM_CLASSES,
        classifier=MLP(NUM_FEATURES, NUM_CLASSES, (8,)),
        posterior=posterior,
        likelihood=likelihood,
        num_features=NUM_FEATURES,
        alpha=ALPHA,
        **options,
    ).double()


@pytest.fixture
def x():
    return torch.bernoulli(torch.full((len(Y), NUM_FEATURES), 0.5, dtype=torch.float64))


@pytest.fixture(autouse=True)
def _own_store():
    with pyro.get_param_store().scope():
        yield


def by_hand(vae, x, y, z):
    """Each row's objective at one draw of z under every label, shape (row, class, latent): a plain sum over labels."""
    found = []
    for row in range(len(x)):
        log_q = vae.classifier(x[row]).log_softmax(-1)
        terms = []
        for label in range(NUM_CLASSES):
            one_hot = torch.eye(NUM_CLASSES, dtype=torch.float64)[label]
            draw = z[row, label]
            inputs = torch.cat([x[row], one_hot])
            loc, scale = vae.encoder[2].loc_and_scale(vae.encoder[1](vae.encoder[0](inputs)))
            logits = vae.decoder(torch.cat([draw, one_hot]))
            terms.append(
                dist.Bernoulli(logits=logits).log_prob(x[row]).sum()
                + dist.Normal(0.0, 1.0).log_prob(draw).sum()
                - dist.Normal(loc, scale).log_prob(draw).sum()
                - torch.log(torch.tensor(float(NUM_CLASSES), dtype=torch.float64))
            )
        if y[row] >= 0:
            found.append(terms[y[row]] + ALPHA * log_q[y[row]])
        else:
            found.append(sum(log_q[label].exp() * (terms[label] - log_q[label]) for label in range(NUM_CLASSES)))
    return torch.stack(found)


def traced(vae, x, y):
    guide = poutine.trace(vae.guide).get_trace(x, y)
    model = poutine.trace(poutine.replay(vae, trace=guide)).get_trace(x, y)
    return model, guide


@pytest.mark.parametrize("y", [Y, torch.full_like(Y, -1), Y.clamp_min(0)], ids=["some", "none", "all"])
def test_the_objective_is_the_sum_over_labels(x, y):
    vae = semi_supervised()
    model, guide = traced(vae, x, y)
    found = model.log_prob_sum() - guide.log_prob_sum()
    wanted = by_hand(vae, x, y, guide.nodes["z"]["value"]).sum()
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=0.0)
    slopes = [torch.autograd.grad(value, list(vae.parameters()), retain_graph=True) for value in (found, wanted)]
    for ours, theirs in zip(*slopes, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_no_labels_at_all_are_labels_of_minus_one(x):
    vae = semi_supervised()
    model, guide = traced(vae, x, None)
    wanted = by_hand(vae, x, torch.full_like(Y, -1), guide.nodes["z"]["value"]).sum()
    torch.testing.assert_close(model.log_prob_sum() - guide.log_prob_sum(), wanted, rtol=1e-10, atol=0.0)


def test_sampled_labels_have_the_same_objective_on_average(x):
    """2,000 draws of each: the difference of means within 4.5 standard errors; and a planted fault is outside."""
    vae = semi_supervised()
    rows = x.repeat(2_000, 1), Y.repeat(2_000)
    objectives = {}
    for labels in ("enumerated", "sampled"):
        vae.labels = labels
        model, guide = traced(vae, *rows)
        model.compute_log_prob()
        guide.compute_log_prob()
        by_row = sum(
            node["log_prob"] for node in model.nodes.values() if node["type"] == "sample" and "log_prob" in node
        )
        by_row = by_row - sum(guide.nodes[name]["log_prob"] for name in ("label", "z") if name in guide.nodes)
        objectives[labels] = by_row.reshape(2_000, len(Y)).sum(-1).detach()
    first, second = objectives["enumerated"], objectives["sampled"]
    error = ((first.var() + second.var()) / len(first)).sqrt()
    assert abs(first.mean() - second.mean()) < Z * error
    assert abs(first.mean() - (second + ALPHA).mean()) > Z * error
    assert first.std() < second.std()


def test_label_probabilities_are_the_classifiers_or_the_labels(x):
    vae = semi_supervised()
    model, _ = traced(vae, x, Y)
    found = model.nodes["label_probabilities"]["value"]
    for row, label in enumerate(Y.tolist()):
        wanted = vae.classify(x[row]) if label < 0 else torch.eye(NUM_CLASSES, dtype=torch.float64)[label]
        torch.testing.assert_close(found[row], wanted, rtol=1e-12, atol=0.0)


def test_particles_can_be_vectorised(x):
    vae = semi_supervised()
    for labels in ("enumerated", "sampled"):
        vae.labels = labels
        elbo = Trace_ELBO(num_particles=5, vectorize_particles=True, max_plate_nesting=1)
        assert torch.tensor(elbo.loss(vae, vae.guide, x, Y)).isfinite()


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "poisson"])
@pytest.mark.parametrize("labels", ["enumerated", "sampled"])
def test_rows_are_drawn_without_data(likelihood, labels):
    vae = semi_supervised(likelihood, labels=labels)
    assert vae(num_rows=5).shape == (5, NUM_FEATURES)
    assert vae(y=Y).shape == (len(Y), NUM_FEATURES)
    trace = poutine.trace(vae).get_trace(y=Y)
    assert trace.nodes["x"]["value"].isfinite().all()


def test_the_plate_is_found_and_fits_raise_the_objective(x):
    vae = semi_supervised()
    rows = find_rows(build_program(vae, {"x": x, "y": Y}))
    assert (rows.plate, rows.num_rows, set(rows.tensors)) == ("datum", len(Y), {"x", "y"})
    fits = {}
    for labels, estimator in (("enumerated", "total"), ("sampled", "score")):
        vae = semi_supervised(labels=labels)
        options = {"max_steps": 40, "step_size": 0.05, "backend": "eager", "seed": 1, "estimator": estimator}
        fits[labels] = ppl.fit(vae, {"x": x, "y": Y}, guide=vae.guide, **options)
        assert fits[labels].losses[-10:].mean() < fits[labels].losses[:5].mean() - 1.0
    draws = fits["enumerated"].sample(3)["posterior"]["label_probabilities"]
    assert draws.shape[2:] == (len(Y), NUM_CLASSES)
    assert fits["enumerated"].sample(3)["posterior"]["z"].shape[2:] == (len(Y), NUM_CLASSES, LATENT_DIM)


def test_what_does_not_fit_is_refused(x):
    vae = semi_supervised()
    with pytest.raises(MissingDataError, match=r"SemiSupervisedVAE.guide"):
        vae.guide()
    with pytest.raises(DataError, match=r"labels outside 0, ..., 2"):
        build_program(vae, {"x": x, "y": Y + 1})
    with pytest.raises(DataError, match=r"ContinuousBernoulli"):
        build_program(vae, {"x": x / 2, "y": Y})
    with pytest.raises(UnknownNameError, match=r"labels"):
        semi_supervised(labels="guessed")
    with pytest.raises(OptionError, match=r"num_classes"):
        SemiSupervisedVAE(nn.Linear(3, 2), 2, num_classes=1, classifier=nn.Linear(2, 1), num_features=2)


def test_draws_of_a_shared_value_are_a_mixture():
    """Of 100,000 draws the mean and variance, within 4.5 standard errors."""
    weights = torch.tensor([0.2, 0.8], dtype=torch.float64)
    base = dist.Normal(torch.tensor([[-1.0], [2.0]], dtype=torch.float64), 0.5).to_event(1)
    draws = LabelWeighted(base, weights, shared=True).sample((100_000,))
    assert draws.shape == (100_000, 1)
    wanted = 1.4, 0.25 + 0.16 * 9.0
    assert abs(draws.mean() - wanted[0]) < Z * (wanted[1] / 1e5) ** 0.5
    squares = (draws - wanted[0]) ** 2
    assert abs(squares.mean() - wanted[1]) < Z * float(squares.std()) / 1e5**0.5


def test_draws_of_sampled_labels_have_the_guides_shares(x):
    vae = semi_supervised(labels="sampled")
    fit = ppl.fit(vae, {"x": x, "y": Y}, guide=vae.guide, max_steps=2, backend="eager", seed=1, estimator="score")
    draws = fit.sample(5)["posterior"]["label"]
    assert draws.shape[2:] == (len(Y), NUM_CLASSES)
    assert (draws.sum(draws.dims[-1]) == 1).all()
