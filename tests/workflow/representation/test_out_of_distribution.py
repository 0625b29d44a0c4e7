"""Strange rows among digits under probabilistic PCA, whose log p(x) is known; and how often usual rows seem strange."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import betabinom

from ppl_models import datasets
from ppl_models.errors import DataError, OptionError
from ppl_models.workflow.representation import out_of_distribution
from ppl_models.workflow.representation.out_of_distribution import _checks
from ppl_models.workflow.representation.rank_tests import distances, lower_p_value
from ppl_models.workflow.representation.row_scores import RowScores
from tests.workflow.representation.models import digits_pca, fitted, linear


@pytest.fixture(scope="module")
def digits():
    """A model of 900 digits, and 890 others, in random order."""
    pixels = datasets.digits()["pixels"] / 16.0
    pixels = pixels[np.random.default_rng(0).permutation(len(pixels))]
    model = digits_pca(pixels[:900], 8)
    return model, fitted(model.model, model.guide, {"x": torch.as_tensor(pixels[:900])}), pixels[900:]


@pytest.fixture(scope="module")
def usual(digits):
    _, fit, others = digits
    return out_of_distribution(fit, others[400:], reference=others[:400], num_draws=100)


def test_scores_are_the_evidence(digits, usual):
    model, _, others = digits
    wanted = model.log_evidence(torch.as_tensor(others[400:])).numpy()
    np.testing.assert_allclose(usual["score"]["log_evidence"], wanted, rtol=1e-6)
    assert usual["score"]["log_evidence_error"].values.max() < 1e-6
    total = usual["score"]["distortion"] + usual["score"]["rate"] - usual["score"]["gap"]
    np.testing.assert_allclose(total, -wanted, rtol=1e-6)


def test_usual_rows_are_called_strange_as_often_as_is_said(usual):
    number, reference = usual["score"].sizes["datum"], 400
    # alarms among n rows at the j-th smallest of R + 1 equally likely ranks are beta-binomial
    rank = int(0.05 * (reference + 1))
    low, high = betabinom(number, rank, reference + 1 - rank).ppf([0.0005, 0.9995])
    for name in ("p_value", "p_likelihood", "p_typicality"):
        alarms = int((usual["score"][name] <= 0.05).sum())
        assert low <= alarms <= high, name
        assert 0.4 < float(usual["score"][name].mean()) < 0.6
    assert usual.attrs["passed"] == 1


def test_noise_and_inverted_digits_are_found(digits):
    _, fit, others = digits
    rng = np.random.default_rng(1)
    noise, inverted = rng.random((40, 64)), 1.0 - others[400:440]
    for rows in (noise, inverted):
        score = out_of_distribution(fit, rows, reference=others[:400], num_draws=100)["score"]
        assert float(score["p_value"].max()) < 0.01


def test_what_the_likelihood_calls_typical_is_found(digits):
    """The mean digit has more density than any digit."""
    model, fit, others = digits
    score = out_of_distribution(fit, model.b[None], reference=others[:400], num_draws=100)["score"]
    assert float(score["p_likelihood"][0]) > 0.95
    assert float(score["p_typicality"][0]) < 0.05
    assert float(score["p_value"][0]) < 0.05


def test_monte_carlo_errors_cover_the_evidence():
    """A guide that is half a sd off: the log of a mean of weights is off by some of its standard errors."""
    wide = linear(shift=0.1, widen=1.3)
    fit = fitted(wide.model, wide.guide, {"x": wide.draw(40, 2)})
    x = wide.draw(400, 3)
    tree = out_of_distribution(fit, x, reference=wide.draw(100, 4), num_draws=400, batch_size=400)
    error = (tree["score"]["log_evidence"].values - wide.log_evidence(x).numpy()) / tree["score"][
        "log_evidence_error"
    ].values
    assert np.abs(error).max() < 4.5
    assert 0.85 < error.std() < 1.15
    assert (tree["score"]["gap"] > 0).all()


def test_references_that_do_not_serve_are_flagged(exact, exact_fit):
    x = exact.draw(10, 5)
    checks = {c["name"]: c for c in json.loads(out_of_distribution(exact_fit, x, num_draws=100).attrs["checks"])}
    assert checks["reference held out"]["passed"] is None
    assert checks["rows of the reference"]["passed"] is False
    assert checks["Monte Carlo error of log p(x)"]["passed"] is True
    narrow = linear(widen=0.2)
    fit = fitted(narrow.model, narrow.guide, {"x": narrow.draw(40, 2)})
    tree = out_of_distribution(fit, x, reference=narrow.draw(120, 6), num_draws=100)
    checks = {c["name"]: c for c in json.loads(tree.attrs["checks"])}
    assert checks["reference held out"]["passed"] is True
    assert checks["Monte Carlo error of log p(x)"]["passed"] is False
    assert tree.attrs["passed"] == 0


def test_distances_leave_each_row_out():
    rng = np.random.default_rng(2)
    reference, values = rng.normal(size=(30, 3)), rng.normal(size=(4, 3))
    found, left_out = distances(values, reference)
    for i in range(30):
        others = np.delete(reference, i, axis=0)
        off = reference[i] - others.mean(0)
        # scatter over the number of rows less one, as for rows that are not among them
        wanted = off @ np.linalg.solve(np.cov(others.T), off)
        np.testing.assert_allclose(left_out[i], wanted, rtol=1e-9)
    off = values - reference.mean(0)
    np.testing.assert_allclose(found, np.einsum("ij,jk,ik->i", off, np.linalg.inv(np.cov(reference.T)), off), rtol=1e-9)


def test_p_values_are_ranks():
    assert lower_p_value(np.array([0.0, 2.5, 9.0, np.nan]), np.arange(1.0, 5.0)).tolist() == [0.2, 0.6, 1.0, 0.2]


def test_wrong_input_is_refused(exact, exact_fit):
    x = exact.draw(5, 1)
    with pytest.raises(DataError, match="wanted at least 20"):
        out_of_distribution(exact_fit, x, reference=x)
    with pytest.raises(OptionError, match="num_draws"):
        out_of_distribution(exact_fit, x, num_draws=50)
    with pytest.raises(DataError, match=r"shape \(5, 2\)"):
        out_of_distribution(exact_fit, x[:, :2])


def test_an_error_that_heavy_weights_hide_is_not_passed():
    rng = np.random.default_rng(0)

    def check(khat):
        own = [rng.normal(size=30), np.full(30, 0.01), *rng.normal(size=(3, 30)), np.full(30, khat)]
        scores = RowScores(*own)
        return next(c for c in _checks(scores, scores, held_out=True) if c.name == "Monte Carlo error of log p(x)")

    assert check(0.2).passed is True
    assert check(1.2).passed is None
    assert check(np.nan).passed is None
    assert "num_draws" in check(1.2).advice
