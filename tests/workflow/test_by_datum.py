"""Local latents with known posteriors: z_i ~ N(0, I), y_i ~ N(z_i, I), so z_i | y_i ~ N(y_i / 2, I / 2)."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from closed_forms import DATA, regression
from pyro.distributions import constraints

import ppl_models as ppl
from ppl_models.errors import OptionError
from ppl_models.workflow.by_datum import check_by_datum, log_ratio_by_datum

NUM_DATA, NUM_DIMS = 40, 3
Y = torch.from_numpy(np.random.default_rng(1).normal(0.0, math.sqrt(2.0), (NUM_DATA, NUM_DIMS)))


def locals_only(y):
    with pyro.plate("row", len(y)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([NUM_DIMS]).to_event(1))
        pyro.sample("y", dist.Normal(z, 1.0).to_event(1), obs=y)


def amortised(widths):
    """The exact conditionals, their sds times `widths`."""

    def encoder(y):
        scale = torch.as_tensor(widths, dtype=y.dtype).expand(len(y))[:, None] * math.sqrt(0.5)
        with pyro.plate("row", len(y)):
            pyro.sample("z", dist.Normal(0.5 * y, scale).to_event(1))

    return encoder


def fit_of(guide, model=locals_only, data=None, **options):
    return ppl.fit(model, {"y": Y} if data is None else data, guide=guide, max_steps=2, seed=1, **options)


@pytest.mark.parametrize("width", [1.0, 0.6])
def test_weights_add_up_to_that_of_everything(width):
    fit = fit_of(amortised(width))
    ratio = log_ratio_by_datum(fit, 500, seed=3)["row"]
    assert ratio.shape == (500, NUM_DATA)
    np.testing.assert_allclose(ratio.sum(axis=1), fit.log_ratio(500, seed=3), rtol=1e-10)


def test_exact_conditionals_have_constant_weights_that_are_the_evidence_of_each_datum():
    ratio = log_ratio_by_datum(fit_of(amortised(1.0)), 200)["row"]
    evidence = dist.Normal(0.0, torch.tensor(2.0, dtype=Y.dtype).sqrt()).log_prob(Y).sum(-1).numpy()
    np.testing.assert_allclose(ratio, np.broadcast_to(evidence, ratio.shape), rtol=1e-10)
    (check,) = check_by_datum(fit_of(amortised(1.0)))
    assert (check.value, check.passed) == (0.0, True)


@pytest.mark.statistical
def test_data_with_narrow_encodings_are_named_and_one_weight_for_everything_does_not():
    widths = torch.full((NUM_DATA,), 0.95)
    widths[[4, 30]] = 0.35
    fit = fit_of(amortised(widths), coords={"row": [f"r{i}" for i in range(NUM_DATA)]})
    (check,) = check_by_datum(fit, seed=2)
    assert check.passed is False
    assert check.name == "k-hat by datum (row)"
    assert "2 of 40 beyond" in check.detail
    assert "row[r4]" in check.detail
    assert "row[r30]" in check.detail
    (clean,) = check_by_datum(fit_of(amortised(0.95)), seed=2)
    assert clean.passed is True


def mixed(y):
    """A global level, and pupils in schools."""
    level = pyro.sample("level", dist.Normal(0.0, 1.0))
    with pyro.plate("school", 4, dim=-1):
        school = pyro.sample("at_school", dist.Normal(level, 1.0))
        with pyro.plate("pupil", 3, dim=-2):
            pupil = pyro.sample("of_pupil", dist.LogNormal(school, 1.0))
            pyro.sample("y", dist.Normal(pupil, 1.0), obs=y)


PUPILS = {"y": torch.from_numpy(np.random.default_rng(2).normal(1.0, 1.0, (3, 4)))}


@pytest.mark.parametrize("guide", ["normal", "hierarchical"])
def test_nested_plates_have_weights_of_their_own_given_the_globals(guide):
    fit = fit_of(guide, mixed, PUPILS)
    found = log_ratio_by_datum(fit, 300, seed=5)
    assert {name: ratio.shape for name, ratio in found.items()} == {"school": (300, 4), "pupil, school": (300, 12)}
    draws = fit.sample(300, seed=5)["posterior"].to_dataset().isel(chain=0)
    pupil, school = draws["of_pupil"].to_numpy(), draws["at_school"].to_numpy()
    log_p = (
        dist.LogNormal(torch.as_tensor(school)[:, None], 1.0).log_prob(torch.as_tensor(pupil))
        + dist.Normal(torch.as_tensor(pupil), 1.0).log_prob(PUPILS["y"])
    ).numpy()
    by_school = dist.Normal(torch.as_tensor(draws["level"].to_numpy())[:, None], 1.0)
    at_school = by_school.log_prob(torch.as_tensor(school)).numpy()
    # what is left of the schools' weights is the guide's density of schools alone, the same model or not
    left = found["school"] - found["pupil, school"].reshape(300, 3, 4).sum(axis=1) - at_school
    assert np.isfinite(left).all()
    if guide == "normal":
        values = {name: torch.as_tensor(draws[name].to_numpy()) for name in ("of_pupil", "at_school")}
        locs, scales = fit.guide.locs, fit.guide.scales
        log_q = (
            dist.Normal(locs.of_pupil, scales.of_pupil).log_prob(values["of_pupil"].log()) - values["of_pupil"].log()
        )
        wanted = (log_p - log_q.detach().numpy()).reshape(300, 12)
        np.testing.assert_allclose(found["pupil, school"], wanted, rtol=1e-9, atol=1e-9)
        log_q = dist.Normal(locs.at_school, scales.at_school).log_prob(values["at_school"])
        np.testing.assert_allclose(left, -log_q.detach().numpy(), rtol=1e-9, atol=1e-9)


def test_elements_are_named_by_their_coordinates():
    fit = fit_of("normal", mixed, PUPILS, coords={"school": list("abcd"), "pupil": [7, 8, 9]})
    assert {check.name for check in check_by_datum(fit)} == {
        "k-hat by datum (school)",
        "k-hat by datum (pupil, school)",
    }
    details = " ".join(check.detail for check in check_by_datum(fit))
    assert "school[" in details
    assert any(f"pupil, school[{i}, {s}]" in details for i in (7, 8, 9) for s in "abcd")


def point_locals(y):
    loc = pyro.param("loc", lambda: torch.zeros(NUM_DATA, NUM_DIMS))
    with pyro.plate("row", len(y)):
        pyro.sample("z", dist.Delta(loc, event_dim=1))


@pytest.mark.parametrize("guide", ["full_rank", "realnvp", point_locals])
def test_guides_without_a_density_for_each_element_are_not_measured(guide):
    fit = fit_of(guide)
    assert log_ratio_by_datum(fit, 100) == {}
    (check,) = check_by_datum(fit)
    assert math.isnan(check.value)
    assert check.passed is None
    assert check.detail.startswith("not measured")


def enumerated(y):
    weight = pyro.sample("weight", dist.Beta(1.0, 1.0))
    with pyro.plate("row", len(y)):
        level = pyro.sample("level", dist.Normal(0.0, 1.0))
        kind = pyro.sample("kind", dist.Bernoulli(weight), infer={"enumerate": "parallel"})
        pyro.sample("y", dist.Normal(level + kind, 1.0), obs=y)


@pytest.mark.parametrize(
    ("guide", "model", "words"), [("delta", locals_only, "point"), ("normal", enumerated, "discrete")]
)
def test_what_cannot_be_measured_says_why(guide, model, words):
    (check,) = check_by_datum(fit_of(guide, model, {"y": Y if model is locals_only else Y[:, 0]}))
    assert check.passed is None
    assert words in check.detail


def tempered(y):
    with pyro.plate("row", len(y)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.poutine.scale(scale=0.5), pyro.poutine.mask(mask=y > 0.0):
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def learnt(y):
    loc = pyro.param("loc", lambda: torch.zeros(len(y)))
    scale = pyro.param("scale", lambda: torch.tensor(0.7), constraint=constraints.positive)
    with pyro.plate("row", len(y)):
        pyro.sample("z", dist.Normal(loc, scale))


def test_scales_and_masks_of_the_model_count():
    fit = fit_of(learnt, tempered, {"y": Y[:, 0]})
    ratio = log_ratio_by_datum(fit, 200, seed=3)["row"]
    np.testing.assert_allclose(ratio.sum(axis=1), fit.log_ratio(200, seed=3), rtol=1e-10)


def test_model_without_local_latents_has_nothing_to_check():
    fit = fit_of("normal", regression, DATA)
    assert check_by_datum(fit) == ()
    assert log_ratio_by_datum(fit, 100) == {}


def test_options_are_refused():
    fit = fit_of(amortised(1.0))
    for wrong in ({"num_draws": 999}, {"seed": -1}):
        with pytest.raises(OptionError, match=next(iter(wrong))):
            check_by_datum(fit, **wrong)
    with pytest.raises(OptionError, match="fit"):
        check_by_datum("a fit")


def test_same_seed_same_check():
    fit = fit_of(amortised(0.8))
    assert check_by_datum(fit, seed=4) == check_by_datum(fit, seed=4)
