"""Probabilities, quantiles and decisions of fits with planted faults: the guide's error beside that of Monte Carlo."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

import ppl_models as ppl
from ppl_models.errors import DataError, OptionError, UnknownNameError
from ppl_models.workflow.predictive_expectations import best_action, probability, quantiles
from ppl_models.workflow.predictive_expectations.estimating import compared, even_weights, mean_of, quantile_of

from .planted import MEAN, NEW, SD, fit_of, model

SHIFT = 0.4
Z = 4.5


@pytest.fixture(scope="module")
def fits():
    return {"exact": fit_of(), "shifted": fit_of(shift=SHIFT), "narrow": fit_of(scale=0.35)}


def above(draws):
    return draws["mu"] > MEAN


def row(found, place=0):
    return found.table.iloc[place]


def near(value, truth, error):
    return abs(value - truth) < Z * error


def test_an_exact_guide_has_no_error_of_its_own(fits):
    found = probability(fits["exact"], above, num_draws=4_000, seed=1)
    assert near(row(found)["raw"], 0.5, row(found)["raw_error"])
    assert row(found)["guide_error"] == pytest.approx(0.0, abs=1e-12)
    assert found.dominated_by == "monte carlo"
    assert found.passed


def test_a_wrong_mean_is_seen_in_a_probability_and_corrected(fits):
    found = probability(fits["shifted"], above, num_draws=8_000, seed=1)
    figures = row(found)
    planted = norm.cdf(SHIFT) - 0.5
    assert near(figures["raw"], 0.5 + planted, figures["raw_error"])
    assert near(figures["corrected"], 0.5, figures["corrected_error"])
    assert near(figures["guide_error"], planted, figures["guide_error_error"])
    # the draws are the same on both sides
    assert figures["guide_error_error"] < np.hypot(figures["raw_error"], figures["corrected_error"])
    assert found.dominated_by == "guide"
    assert "The guide dominates" in repr(found)
    assert "The guide dominates" in found._repr_html_()


def test_a_wrong_mean_is_seen_in_quantiles_and_corrected(fits):
    found = quantiles(fits["shifted"], "mu", num_draws=8_000, seed=1)
    for place, level in enumerate((0.05, 0.5, 0.95)):
        figures = row(found, place)
        truth = MEAN + SD * norm.ppf(level)
        assert near(figures["raw"], truth + SHIFT * SD, figures["raw_error"])
        assert near(figures["corrected"], truth, figures["corrected_error"])
        assert near(figures["guide_error"], SHIFT * SD, figures["guide_error_error"])
    # the known error of a quantile of normal draws
    level = 0.05
    wanted = SD * np.sqrt(level * (1 - level) / 8_000) / norm.pdf(norm.ppf(level))
    assert row(found)["raw_error"] == pytest.approx(wanted, rel=0.2)
    assert found.dominated_by == "guide"


def test_where_k_hat_is_too_large_the_correction_is_not_trusted(fits):
    found = probability(fits["narrow"], above, num_draws=4_000)
    assert found.khat > 0.7
    assert not found.correctable
    assert found.dominated_by == "unknown"
    assert "cannot be trusted" in repr(found)
    choice = best_action(fits["narrow"], lambda d, a: (d["mu"] - a) ** 2, [0.0, 1.0], num_draws=4_000)
    assert "by the raw figures" in repr(choice)


def test_predicted_observations_and_new_rows(fits):
    found = probability(fits["exact"], lambda d: d["y"] > 0.5, data=NEW, num_draws=8_000, seed=2)
    spread = np.sqrt(1.0 + SD**2)
    for place, mean in enumerate((MEAN, MEAN + 1.0)):
        assert near(row(found, place)["raw"], norm.sf(0.5, mean, spread), row(found, place)["raw_error"])
    assert list(found.table.index) == ["probability[0]", "probability[1]"]
    own = quantiles(fits["exact"], lambda d: d["y"][:, 0], probs=(0.5,), num_draws=4_000)
    assert near(row(own)["raw"], MEAN, row(own)["raw_error"])
    double = quantiles(fits["exact"], "double", probs=(0.5,), data=NEW, num_draws=1_000)
    assert near(row(double)["raw"], 2.0 * MEAN, row(double)["raw_error"])


def test_the_best_action_and_how_sure_it_is(fits):
    """Expected squared loss (mu - a)² is SD² + (MEAN - a)²."""

    def loss(draws, action):
        return (draws["mu"] - action) ** 2

    actions = [MEAN - 0.5, MEAN, MEAN + SHIFT * SD]
    found = best_action(fits["exact"], loss, actions, num_draws=6_000)
    for place, action in enumerate(actions):
        assert near(row(found, place)["raw"], SD**2 + (MEAN - action) ** 2, row(found, place)["raw_error"])
    assert found.best == str(MEAN)
    assert found.chance_of_other < 1e-4
    wrong = best_action(fits["shifted"], loss, {"left": actions[0], "right": actions[1], "moved": actions[2]}, seed=3)
    assert (wrong.best, wrong.raw_best) == ("right", "moved")
    assert "misranks" in repr(wrong)
    close = best_action(fits["exact"], loss, [MEAN, MEAN + 0.001], num_draws=1_000)
    assert 0.05 < close.chance_of_other <= 1.0
    assert next(check for check in close.checks if check.name == "ranking").passed is None


@pytest.mark.statistical
def test_errors_of_raw_corrected_and_difference_cover():
    """Known normals, known weights: N(0, 1) draws of a guide, N(0.3, 1) the posterior."""
    runs, num_draws, hits = 500, 1_000, []
    rng = np.random.default_rng(1)
    for _ in range(runs):
        x = rng.standard_normal((num_draws, 1))
        weights = np.exp(0.3 * x[:, 0])
        weights /= weights.sum()
        mean = compared(mean_of(x, even_weights(num_draws)), mean_of(x, weights), ["x"]).iloc[0]
        tail = compared(quantile_of(x, even_weights(num_draws), 0.9), quantile_of(x, weights, 0.9), ["x"]).iloc[0]
        top = norm.ppf(0.9)
        hits.append(
            [
                abs(mean["raw"]) < 1.96 * mean["raw_error"],
                abs(mean["corrected"] - 0.3) < 1.96 * mean["corrected_error"],
                abs(mean["guide_error"] + 0.3) < 1.96 * mean["guide_error_error"],
                tail["raw_low"] <= top <= tail["raw_high"],
                tail["corrected_low"] <= top + 0.3 <= tail["corrected_high"],
                abs(tail["guide_error"] + 0.3) < 1.96 * tail["guide_error_error"],
            ]
        )
    shares = np.mean(hits, axis=0)
    assert ((shares >= 0.925) & (shares <= 0.975)).all(), shares


def test_a_guide_without_density_has_raw_figures_only():
    fit = ppl.fit(
        model,
        {"x": torch.zeros(4), "y": torch.ones(4)},
        guide="delta",
        max_steps=3,
        backend="eager",
        precondition=False,
    )
    found = quantiles(fit, lambda d: d["y"][:, 0], probs=(0.5,), num_draws=500)
    assert np.isnan(found.corrected).all()
    assert found.dominated_by == "unknown"
    assert "could not be weighted" in found.sentence


def test_rare_events_are_said_to_be_too_rare(fits):
    found = probability(fits["exact"], lambda d: d["mu"] > MEAN + 5.0 * SD, num_draws=1_000)
    assert next(check for check in found.checks if check.name == "occurrences").passed is None


def test_same_seed_same_figures(fits):
    first, second, other = (probability(fits["exact"], lambda d: d["y"] > 0, num_draws=300, seed=s) for s in (1, 1, 2))
    assert first.table.equals(second.table)
    assert not first.table.equals(other.table)


def test_mistakes_are_named(fits):
    fit = fits["exact"]
    with pytest.raises(OptionError, match=r"ppl\.fit"):
        probability("fit", above)
    with pytest.raises(OptionError, match="num_draws"):
        probability(fit, above, num_draws=10)
    with pytest.raises(DataError, match="truth values"):
        probability(fit, lambda d: d["mu"], num_draws=200)
    with pytest.raises(UnknownNameError, match="mu"):
        quantiles(fit, "nu", num_draws=200)
    with pytest.raises(DataError, match="nu"):
        quantiles(fit, lambda d: d["nu"], num_draws=200)
    with pytest.raises(OptionError, match="probs"):
        quantiles(fit, "mu", probs=(0.0, 0.5), num_draws=200)
    with pytest.raises(OptionError, match="two at least"):
        best_action(fit, lambda d, a: d["mu"], [1.0], num_draws=200)
    with pytest.raises(DataError, match="wanted one"):
        best_action(fit, lambda d, a: d["y"], [1.0, 2.0], num_draws=200)


def test_messages_name_the_argument_and_the_names_that_there_are(fits):
    fit = fits["exact"]
    with pytest.raises(DataError, match="event: unknown variable 'm'; the valid ones, nearest first: mu, double, y"):
        probability(fit, lambda d: d["m"] > 0, num_draws=200)
    with pytest.raises(DataError, match=r"event: .*d\['y'\], not d\.y"):
        probability(fit, lambda d: d.y > 0, num_draws=200)
    with pytest.raises(DataError, match=r"loss: .* not finite"):
        best_action(fit, lambda d, a: d["mu"] * np.nan, [0.0, 1.0], num_draws=200)


@pytest.mark.parametrize("which", ["exact", "shifted"])
def test_losses_that_differ_by_rounding_alone_are_equal(fits, which):
    def loss(draws, action):
        return 1000.1 + 1e-12 * (draws["mu"] + action)

    found = best_action(fits[which], loss, [0.0, 1.0], num_draws=1_000)
    assert found.dominated_by == "monte carlo"
    np.testing.assert_array_equal(found.guide_error, 0.0)
    assert found.chance_of_other == 0.5
    checks = {check.name: check for check in found.checks}
    assert checks["k-hat of the losses"].passed
    assert checks["ranking"].passed is None
    # a loss that does vary is judged beside one that does not
    mixed = best_action(fits[which], lambda d, a: 1000.1 + a * d["mu"] ** 2, [0.0, 1.0], num_draws=1_000)
    assert next(check for check in mixed.checks if check.name == "k-hat of the losses").value > 0.0
    assert mixed.best == "0.0"
