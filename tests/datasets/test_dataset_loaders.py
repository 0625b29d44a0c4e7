import numpy as np
import pytest

from ppl_models import datasets

ROWS = {
    "eight_schools": 8,
    "sleepstudy": 180,
    "old_faithful": 272,
    "lynx": 114,
    "diabetes": 442,
    "breast_cancer": 569,
    "digits": 1797,
    "mnist_5k": 5000,
    "pbmc": 700,
}
WITHOUT_ROWS = ("covariate", "gene")


@pytest.mark.parametrize("name", ROWS)
def test_columns_are_complete_and_new_at_each_call(name):
    table, again = getattr(datasets, name)(), getattr(datasets, name)()
    for column, values in table.items():
        assert values is not again[column]
        if column not in WITHOUT_ROWS:
            assert len(values) == ROWS[name]
        if np.issubdtype(values.dtype, np.number):
            assert np.isfinite(values).all()
        np.testing.assert_array_equal(values, again[column])


def test_eight_schools_are_rubins():
    table = datasets.eight_schools()
    assert table["effect"].tolist() == [28, 8, -3, 7, -1, 1, 18, 12]
    assert table["standard_error"].tolist() == [15, 10, 16, 11, 9, 11, 10, 18]


def test_sleepstudy_is_balanced():
    table = datasets.sleepstudy()
    subjects, counts = np.unique(table["subject"], return_counts=True)
    assert len(subjects) == 18
    assert set(counts) == {10}
    # the fixed effects that lme4 prints for Reaction ~ Days + (Days | Subject); in a balanced design they are those of
    # ordinary least squares
    slope, intercept = np.polyfit(table["day"], table["reaction_ms"], 1)
    assert round(intercept, 3) == 251.405
    assert round(slope, 3) == 10.467


def test_old_faithful_has_the_published_summary():
    table = datasets.old_faithful()
    assert np.quantile(table["waiting_minutes"], [0.0, 0.25, 0.5, 0.75, 1.0]).tolist() == [43, 58, 76, 82, 96]
    assert round(table["eruption_minutes"].mean(), 3) == 3.488


def test_lynx_has_the_published_extremes():
    table = datasets.lynx()
    assert table["year"].tolist() == list(range(1821, 1935))
    assert (table["trapped"].min(), table["trapped"].max()) == (39, 6991)
