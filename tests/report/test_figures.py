import numpy as np
import pytest
from matplotlib.figure import Figure

from ppl_models.report import gather
from ppl_models.report.evidence import Predicted, Sample
from ppl_models.report.figures import (
    choose_pair,
    density_figure,
    elbo_figure,
    forest_figure,
    pair_figure,
    predictive_figure,
    tail_figure,
    to_svg,
)
from ppl_models.report.figures.marginals import MAX_LABEL, shortened


def sample(kind="baseline", num_draws=2_000, seed=0):
    """A funnel: tau governs the spread of x; y is independent of both."""
    rng = np.random.default_rng(seed)
    tau = np.exp(rng.normal(size=num_draws))
    values = np.stack([tau, tau * rng.normal(size=num_draws), rng.normal(size=num_draws)], axis=1)
    return Sample(kind, kind, ("tau", "x", "y"), values, np.arange(num_draws) < 3 if kind == "baseline" else None)


def assert_drawn(figure):
    assert isinstance(figure, Figure)
    svg = to_svg(figure)
    assert svg.startswith(b"<?xml")
    assert svg.rstrip().endswith(b"</svg>")


def test_no_figure_is_known_to_pyplot():
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    assert_drawn(forest_figure([sample("guide"), sample()], ["tau", "x"]))
    assert pyplot.get_fignums() == before


def test_figures_ignore_the_users_settings():
    import matplotlib as mpl

    plain = to_svg(density_figure([sample("guide"), sample()], ["tau", "x", "y"]))
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "black"}):
        assert to_svg(density_figure([sample("guide"), sample()], ["tau", "x", "y"])) == plain


@pytest.mark.parametrize(
    "losses",
    [np.linspace(100.0, 3.0, 500), np.full(3, 2.0), np.array([]), np.array([np.nan, 1e9, 4.0]), np.array([1.0])],
    ids=["usual", "constant", "none", "not finite", "one step"],
)
def test_any_course_of_the_elbo_can_be_drawn(losses):
    assert_drawn(elbo_figure(losses, (0, len(losses))))
    assert_drawn(elbo_figure(losses))


def test_end_of_the_elbo_is_not_squeezed_by_its_beginning():
    rng = np.random.default_rng(0)
    losses = np.concatenate([np.geomspace(1e6, 10.0, 200), 10.0 + 0.1 * rng.normal(size=800)])
    _, end = elbo_figure(losses, (0, 800)).axes
    low, high = end.get_ylim()
    assert high - low < 2.0


def test_forest_is_in_units_of_the_reference():
    reference = sample()
    shifted = Sample("guide", "guide", reference.labels, reference.values + reference.values.std(axis=0, ddof=1))
    (axes,) = forest_figure([shifted, reference], ["x"]).axes
    means = sorted(line.get_xdata()[0] for line in axes.lines if line.get_marker() in ("o", "s"))
    np.testing.assert_allclose(means, [0.0, 1.0], atol=1e-12)


def test_parameter_that_does_not_vary_is_drawn_as_a_line():
    constant = Sample("guide", "point", ("tau",), np.full((200, 1), 2.0))
    assert_drawn(density_figure([constant, sample()], ["tau"]))
    assert_drawn(forest_figure([constant, sample()], ["tau"]))


def test_funnel_is_found_by_its_spread():
    funnel = sample()
    assert choose_pair(funnel, ["tau"], funnel.labels) == ("tau", "x")
    assert choose_pair(funnel, ["tau"], ["tau", "y"]) is None
    assert choose_pair(funnel, [], funnel.labels) is None
    assert_drawn(pair_figure([sample("guide"), funnel], "tau", "x"))


def test_counts_are_drawn_as_counts_and_measurements_as_a_distribution():
    rng = np.random.default_rng(0)
    binary = Predicted("y", rng.integers(0, 2, 40).astype(float), rng.integers(0, 2, (50, 40)).astype(float))
    whole_by_chance = Predicted("y", np.arange(8.0), rng.normal(size=(50, 8)))
    assert predictive_figure(binary).axes[0].get_ylabel() == "number of data"
    assert predictive_figure(whole_by_chance).axes[0].get_ylabel() == "share of the data at most this"


@pytest.mark.parametrize("khat", [-0.4, 0.0, 0.3, 1.2, np.nan, np.inf])
def test_tail_of_any_weights_can_be_drawn(khat):
    rng = np.random.default_rng(0)
    assert_drawn(tail_figure(rng.normal(size=1_000), khat, 0.7))
    assert_drawn(tail_figure(np.zeros(1_000), khat, 0.7))
    assert_drawn(tail_figure(np.full(1_000, -np.inf), khat, 0.7))
    assert_drawn(tail_figure(1_000 * rng.normal(size=300), khat, 0.7))


@pytest.mark.parametrize(
    "label", ["tau", "coefficients[worst fractal dimension]", "a_very_long_name_without_any_index", "beta[12, 7]"]
)
def test_labels_leave_room(label):
    assert len(shortened(label)) <= MAX_LABEL
    if len(label) <= MAX_LABEL:
        assert shortened(label) == label


def test_long_labels_keep_their_index():
    assert shortened("coefficients_of_regression[St. Paul's]").endswith("[St. Paul's]")


def test_evidence_repeats_the_draws_of_the_verdict(judged, evidence):
    normal = evidence[0]
    table = judged.pairs["normal"][1].table
    reference = judged.baseline["posterior"]["tau"].to_numpy().ravel()
    error = (normal.samples[0].column("tau").mean() - reference.mean()) / reference.std(ddof=1)
    np.testing.assert_allclose(error, table.loc["tau", "mean_error_sd"], rtol=1e-3)


def test_evidence_without_a_baseline_ends_with_what_was_used(judged):
    (alone,) = gather([judged.alone])
    assert alone.samples[0].kind == "guide"
    assert alone.reference.kind == judged.alone[1].reference


def test_density_does_not_smooth_separate_modes_away():
    rng = np.random.default_rng(0)
    values = np.where(rng.uniform(size=10_000) < 0.3, -5.0, 5.0) + 0.2 * rng.standard_normal(10_000)
    (axes,) = density_figure([Sample("guide", "guide", ("x",), values[:, None])], ["x"]).axes
    (line,) = axes.lines
    peak = 0.7 / (0.2 * np.sqrt(2.0 * np.pi))
    # the kernel's bandwidth is below a third of the sd, which lowers the peak by a factor of 1 / sqrt(1 + 1/9) at most
    assert 0.9 * peak < line.get_ydata().max() < 1.1 * peak


def test_positive_latents_are_found_by_their_support(evidence):
    assert evidence[0].positive == ("tau",)


def test_point_estimate_has_no_elbo(evidence):
    delta = evidence[1]
    assert np.isnan(delta.elbo[0])
    assert [one.kind for one in delta.samples] == ["guide", "baseline"]
