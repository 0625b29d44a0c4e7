"""Terms of the ELBO and importance weighted bounds, against closed forms."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from closed_forms import DATA, EVIDENCE, MEAN, MEAN_FIELD_SD, regression
from scipy.stats import norm

import ppl_models as ppl
from ppl_models.errors import ModelError, OptionError
from ppl_models.inference.evidence.importance_bound import ImportanceBound, importance_bounds
from ppl_models.workflow.bounds import elbo_terms, importance_bound

NUM_DATA = 5
Y = torch.from_numpy(np.random.default_rng(1).normal(0.0, math.sqrt(2.0), NUM_DATA))
LOCAL_EVIDENCE = norm.logpdf(Y.numpy(), 0.0, math.sqrt(2.0))


def local(y):
    """z_i ~ Normal(0, 1), y_i ~ Normal(z_i, 1): the posterior of each is Normal(y_i / 2, variance 1/2)."""
    with pyro.plate("row", len(y)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def wide(y):
    """The posterior with twice its variance."""
    with pyro.plate("row", len(y)):
        pyro.sample("z", dist.Normal(0.5 * y, 1.0))


def narrow(y):
    """The posterior with a tenth of its variance: weights without a variance, k = 0.91."""
    with pyro.plate("row", len(y)):
        pyro.sample("z", dist.Normal(0.5 * y, 0.3 * math.sqrt(0.5)))


def mean_field(x, y):
    """The best independent normals of a regression."""
    pyro.sample("weights", dist.Normal(MEAN, MEAN_FIELD_SD).to_event(1))


def fit_of(guide, model=local, data=None):
    return ppl.fit(model, {"y": Y} if data is None else data, guide=guide, max_steps=2, seed=1, backend="eager")


def gap_of(bounds):
    """Log evidence less the bound, and its error, for each K; every datum has the same."""
    gap = LOCAL_EVIDENCE.sum() - bounds.table["bound"].to_numpy()
    return gap / NUM_DATA, bounds.table["standard_error"].to_numpy() / NUM_DATA


@pytest.mark.statistical
def test_gaps_of_a_guide_with_twice_the_variance():
    """KL = (1 - log 2) / 2 = 0.153426 at K = 1; K x gap tends to half the variance of the weights, 0.077350."""
    found = importance_bound(fit_of(wide), num_importance=(1, 5, 50, 200), num_draws=200_000, seed=1)
    gap, error = gap_of(found)
    assert abs(gap[0] - 0.153426) < 4.0 * error[0]
    assert abs(50 * gap[2] - 0.077350) < 4.0 * 50 * error[2] + 0.077350 * 0.05  # the next term is of order 1/K
    assert abs(200 * gap[3] - 0.077350) < 4.0 * 200 * error[3] + 0.077350 * 0.02
    bound, standard = found.table["bound"].to_numpy(), found.table["standard_error"].to_numpy()
    assert (np.diff(bound) > -3.0 * np.hypot(standard[1:], standard[:-1])).all()
    assert (bound < LOCAL_EVIDENCE.sum() + 3.0 * standard).all()
    jackknife = found.table["log_evidence"].to_numpy()
    assert math.isnan(jackknife[0])
    away = np.abs(jackknife[1:] - LOCAL_EVIDENCE.sum())
    assert (away[1:] < 4.0 * found.table["log_evidence_error"].to_numpy()[2:]).all()
    assert away[0] < 0.3 * NUM_DATA * gap[1]
    assert found.by_datum.shape == (4, NUM_DATA)
    assert found.passed, found


@pytest.mark.statistical
def test_intervals_cover():
    rng, repeats, size = np.random.default_rng(2), 1_000, 5
    z = math.sqrt(2.0) * rng.standard_normal((2_000, repeats))
    weights = norm.logpdf(z) - norm.logpdf(z, 0.0, math.sqrt(2.0))
    table, bounds, errors = importance_bounds(weights, 1.0, (1, size))
    exact = [-0.5 * (1.0 - math.log(2.0)), reference(size)]
    for place, truth in enumerate(exact):
        cover = (np.abs(bounds[place] - truth) <= 1.96 * errors[place]).mean()
        assert 0.93 < cover < 0.97, (place, cover)  # of 1,000: the share has a standard error of 0.007
    assert table["bound"].iloc[0] == pytest.approx(bounds[0].sum(), rel=1e-12)


def reference(size):
    """E[log mean of `size` weights] from half a million groups, against the four hundred of a test."""
    z = math.sqrt(2.0) * np.random.default_rng(3).standard_normal((500_000, size))
    return float(np.log(np.exp(-0.25 * z**2).mean(axis=1) * math.sqrt(2.0)).mean())


def test_a_bound_by_hand():
    """Two groups of three weights and their jackknife, written out."""
    weights = np.array([0.1, 2.0, -1.0, 0.5, 0.3, 700.0])
    table, bounds, errors = importance_bounds(weights, 1.0, (1, 3))
    first, second = (np.logaddexp.reduce(part) - math.log(3.0) for part in (weights[:3], weights[3:]))
    assert bounds[1] == pytest.approx((first + second) / 2, rel=1e-12)
    assert errors[1] == pytest.approx(abs(first - second) / 2, rel=1e-12)
    left_out = [
        np.mean([np.logaddexp.reduce(np.delete(part, i)) - math.log(2.0) for i in range(3)])
        for part in (weights[:3], weights[3:])
    ]
    expected = np.mean([3 * first - 2 * left_out[0], 3 * second - 2 * left_out[1]])
    assert table["log_evidence"].loc[3] == pytest.approx(expected, rel=1e-10)


def test_one_weight_for_everything_is_another_bound():
    """With global latents all data share one weight; its scale and its sum over the data are those of the ELBO."""
    fit = fit_of(mean_field, regression, DATA)
    found = importance_bound(fit, num_importance=(1, 20), num_draws=4_000, seed=2)
    assert found.by_datum.shape == (2,)
    assert found.log_weights.shape == (4_000,)
    bound, error = found.table["bound"].to_numpy(), found.table["standard_error"].to_numpy()
    elbo, elbo_error = fit.elbo(4_000, seed=3)
    assert abs(bound[0] - elbo) < 4.0 * math.hypot(error[0], elbo_error)
    assert bound[0] - 3 * error[0] < bound[1] + 3 * error[1]
    assert bound[1] < EVIDENCE + 4.0 * error[1]
    assert abs(found.table["log_evidence"].iloc[1] - EVIDENCE) < 0.05
    assert "everything together" in repr(found)
    assert "<table" in found._repr_html_()


@pytest.mark.statistical
def test_weights_of_all_data_together_are_a_looser_bound():
    """The planted fault: the log of a mean of products of weights, as one weight for all data has it."""
    found = importance_bound(fit_of(wide, data={"y": Y.repeat(8)}), num_importance=(50,), num_draws=10_000, seed=1)
    together, _, _ = importance_bounds(found.log_weights.sum(axis=1), 1.0, (50,))
    apart = found.table.iloc[0]
    assert together["bound"].iloc[0] < apart["bound"] - 8.0 * apart["standard_error"]


@pytest.mark.statistical
def test_heavy_weights_fail_their_check():
    found = importance_bound(fit_of(narrow), num_draws=10_000, seed=1)
    (check,) = found.checks
    assert check.passed is False
    assert "datum[" in check.detail


def test_terms_in_closed_form():
    """KL(Normal(y/2, 1) || Normal(0, 1)) = y^2 / 8, and E[log Normal(y; z, 1)] = log Normal(y; y/2, 1) - 1/2."""
    found = elbo_terms(fit_of(wide), num_draws=1_000, seed=1)
    assert found.closed_form == ("z",)
    assert found.sampled == ()
    expected = Y.numpy() ** 2 / 8
    np.testing.assert_allclose(found.by_datum["divergence"], expected, rtol=1e-10)
    assert found.divergence == pytest.approx(expected.sum(), rel=1e-10)
    assert found.divergence_error == pytest.approx(0.0, abs=1e-12)
    assert found.global_divergence == 0.0
    likelihood = norm.logpdf(Y.numpy(), 0.5 * Y.numpy()) - 0.5
    away = found.by_datum["reconstruction"] - likelihood
    assert (away.abs() < 4.5 * found.by_datum["reconstruction_error"]).all()
    assert found.elbo == pytest.approx(found.reconstruction - found.divergence, rel=1e-12)
    assert "closed form of z" in repr(found)


@pytest.mark.parametrize("guide", ["normal", "full_rank", wide])
def test_sampled_terms_are_the_elbo_of_the_same_draws(guide):
    fit = fit_of(guide)
    found = elbo_terms(fit, num_draws=500, closed_form=False, seed=4)
    elbo, error = fit.elbo(500, seed=4)
    assert found.elbo == pytest.approx(elbo, rel=1e-10)
    assert found.elbo_error == pytest.approx(error, rel=1e-10)
    assert found.reconstruction - found.divergence == pytest.approx(elbo, rel=1e-10)
    assert found.closed_form == ()
    assert found.by_datum["reconstruction"].sum() == pytest.approx(found.reconstruction, rel=1e-10)


def nested(y):
    """Levels of schools around a global one, its spread positive, and pupils in them."""
    level = pyro.sample("level", dist.Normal(0.0, 2.0))
    spread = pyro.sample("spread", dist.HalfNormal(1.0))
    with pyro.plate("school", 4, dim=-1):
        school = pyro.sample("at_school", dist.Normal(level, spread))
        with pyro.plate("pupil", 3, dim=-2):
            pyro.sample("y", dist.Normal(school, 1.0), obs=y)


def nested_guide(y):
    level = pyro.sample("level", dist.Normal(0.3, 0.5))
    spread = pyro.sample("spread", dist.LogNormal(0.0, 0.3))
    with pyro.plate("school", 4, dim=-1):
        pyro.sample("at_school", dist.Normal(0.5 * level, 0.7 * spread))


def backward_guide(y):
    """Draws the schools before the level that is their parent in the model."""
    with pyro.plate("school", 4, dim=-1):
        school = pyro.sample("at_school", dist.Normal(0.2, 0.7))
    pyro.sample("level", dist.Normal(0.5 * school.mean(-1), 0.5))
    pyro.sample("spread", dist.LogNormal(0.0, 0.3))


NESTED = {"y": torch.from_numpy(np.random.default_rng(3).normal(size=(3, 4)))}


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("guide", "closed"),
    [(nested_guide, ("level", "at_school")), (backward_guide, ("level",)), ("normal", ("level", "at_school"))],
)
def test_closed_forms_given_parents_have_the_same_mean(guide, closed):
    fit = fit_of(guide, nested, NESTED)
    exact = elbo_terms(fit, num_draws=20_000, seed=5)
    sampled = elbo_terms(fit, num_draws=20_000, closed_form=False, seed=6)
    assert exact.closed_form == closed
    assert "spread" in exact.sampled
    for name in ("divergence", "reconstruction", "elbo"):
        errors = [getattr(one, f"{name}_error") for one in (exact, sampled)]
        assert abs(getattr(exact, name) - getattr(sampled, name)) < 4.5 * math.hypot(*errors)
    if "at_school" in closed:
        assert exact.divergence_error < sampled.divergence_error
    # observations lie in pupils of schools, and no latent does
    assert exact.by_datum.index.names == ["pupil", "school"]
    assert exact.by_datum["divergence"].isna().all()
    assert exact.global_divergence == pytest.approx(exact.divergence, rel=1e-10)


def test_a_closed_form_with_a_parent_drawn_later_is_wrong(monkeypatch):
    """The planted fault: taking the closed form whatever the order gives another divergence."""
    from ppl_models.inference.evidence import elbo_split

    fit = fit_of(backward_guide, nested, NESTED)
    sampled = elbo_terms(fit, num_draws=20_000, closed_form=False, seed=6)
    monkeypatch.setattr(elbo_split, "_has_closed_form", lambda name, *_: name == "at_school")
    wrong = elbo_terms(fit, num_draws=20_000, seed=5)
    assert abs(wrong.divergence - sampled.divergence) > 8.0 * math.hypot(
        wrong.divergence_error, sampled.divergence_error
    )


def test_subsampled_plates_count_all_their_data():
    def model(y):
        with pyro.plate("row", len(y), subsample_size=2) as rows:
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(z, 1.0), obs=y[rows])

    def guide(y):
        with pyro.plate("row", len(y), subsample_size=2) as rows:
            pyro.sample("z", dist.Normal(0.5 * y[rows], math.sqrt(0.5)))

    fit = fit_of(guide, model)
    found = importance_bound(fit, num_importance=(1, 3), num_draws=200, seed=1)
    np.testing.assert_allclose(found.table["bound"], LOCAL_EVIDENCE.sum(), rtol=1e-10)
    assert elbo_terms(fit, num_draws=100).by_datum.shape == (NUM_DATA, 4)


def test_draws_without_density_are_said():
    """A uniform prior that some of the guide's draws miss."""

    def model(y):
        with pyro.plate("row", len(y)):
            z = pyro.sample("z", dist.Uniform(0.0, 50.0))
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    def guide(y):
        with pyro.plate("row", len(y)):
            pyro.sample("z", dist.Normal(torch.full_like(y, 2.5), 1.0))

    fit = fit_of(guide, model)
    found = importance_bound(fit, num_importance=(1, 100), num_draws=2_000)
    assert found.table["bound"].iloc[0] == -math.inf
    assert math.isnan(found.table["standard_error"].iloc[0])
    assert np.isfinite(found.table["bound"].iloc[1])
    terms = elbo_terms(fit, num_draws=200)
    assert terms.divergence == math.inf
    assert terms.checks[0].passed is False


def test_faults_are_named():
    fit = fit_of(wide)
    with pytest.raises(OptionError, match="fit: found dict"):
        elbo_terms({})
    with pytest.raises(OptionError, match="num_draws"):
        importance_bound(fit, num_importance=(1, 50), num_draws=400)
    with pytest.raises(OptionError, match="num_importance"):
        importance_bound(fit, num_importance=(0,))
    with pytest.raises(OptionError, match="num_importance"):
        importance_bound(fit, num_importance=())
    with pytest.raises(OptionError, match="'delta' has no density"):
        importance_bound(fit_of("delta"))
    with pytest.raises(OptionError, match="'delta' has no density"):
        elbo_terms(fit_of("delta"))


def test_errors_print_two_digits_and_sampled_terms_say_so():
    rng = np.random.default_rng(1)
    table, by_datum, errors = importance_bounds(1e-6 * rng.standard_normal(1_000), 1.0, (1, 5))
    bound = ImportanceBound(table, by_datum, errors, 1_000, (), {}, np.zeros(1_000))
    for error in [*table["standard_error"], table["log_evidence_error"].iloc[1]]:
        assert 0.0 < error < 1e-6
        assert f"{error:.2g}" in repr(bound)
        assert f"{error:.2g}" in bound._repr_html_()
    assert "sampled" not in repr(elbo_terms(fit_of(wide), num_draws=100))
    text = repr(elbo_terms(fit_of("full_rank"), num_draws=100))
    assert ", sampled" in text
    assert "no latent" not in text


def test_models_that_sum_out_sites_have_no_terms():
    def mixture(y):
        weight = pyro.sample("weight", dist.Beta(1.0, 1.0))
        with pyro.plate("row", len(y)):
            kind = pyro.sample("kind", dist.Bernoulli(weight), infer={"enumerate": "parallel"})
            pyro.sample("y", dist.Normal(kind, 1.0), obs=y)

    fit = fit_of("normal", mixture)
    with pytest.raises(ModelError, match="'kind'"):
        elbo_terms(fit, num_draws=100)
    assert np.isfinite(importance_bound(fit, num_draws=500).table["bound"]).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_on_cuda():
    fit = ppl.fit(local, {"y": Y}, guide=wide, max_steps=2, seed=1, backend="eager", device="cuda")
    found = importance_bound(fit, num_draws=20_000, seed=1)
    gap, error = gap_of(found)
    assert abs(gap[0] - 0.153426) < 4.5 * error[0]
    assert elbo_terms(fit, num_draws=1_000).closed_form == ("z",)
