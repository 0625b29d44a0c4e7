"""Figures and page of an audit, from synthetic figures and from a small one."""

import re

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from matplotlib.figure import Figure

import ppl_models as ppl
from ppl_models.diagnostics import active_units, rate_distortion
from ppl_models.errors import OptionError
from ppl_models.report import figures as drawn
from ppl_models.report import write_audit
from ppl_models.report.figures.pictures import side_of
from ppl_models.workflow.audit import audit

RNG = np.random.default_rng(1)
MADE = {
    "images": lambda: drawn.reconstruction_figure(*(RNG.uniform(size=(3, 3, 64)))),
    "lines": lambda: drawn.reconstruction_figure(*(RNG.uniform(size=(3, 2, 7))), labels=["a", "b"]),
    "generated": lambda: drawn.generation_figure(RNG.uniform(size=(13, 64))),
    "map": lambda: drawn.latent_figure(
        RNG.normal(size=(30, 2)), RNG.uniform(0.1, 0.3, size=(30, 2)), ["z[0]", "z[1]"], groups=["a", "b", "c"] * 10
    ),
    "traversals": lambda: drawn.traversal_figure(RNG.uniform(size=(2, 5, 64)), ["z[0]", "z[1]"], np.linspace(-2, 2, 5)),
    "gaps": lambda: drawn.gap_figure(RNG.uniform(size=20), RNG.uniform(size=20), np.full(20, 0.1)),
    "bracket": lambda: drawn.bracket_figure(
        {"L_1": np.full(5, -2.0), "L_50": np.full(5, -1.2)}, np.full(5, -1.1), np.full(5, -0.9), np.full(5, -1.0)
    ),
    "k-hat": lambda: drawn.khat_figure([0.2, 0.9, np.nan, np.inf], 0.7),
    "ranks": lambda: drawn.rank_figure(RNG.integers(0, 50, size=(100, 6)), 49, [f"z[{i}]" for i in range(6)]),
    "active": lambda: drawn.active_units_figure(
        active_units(RNG.normal(size=(50, 3)) * [1.0, 0.5, 0.0], np.full((50, 3), 0.5))
    ),
    "plane": lambda: drawn.rate_distortion_figure(
        {name: rate_distortion(*RNG.normal(size=(3, 5, 20))) for name in ("one", "two")}
    ),
}


@pytest.mark.parametrize("name", MADE)
def test_figures_can_be_drawn_alone(name):
    """Warnings are errors, so that this also says that nothing overflows or is left without a handle."""
    figure = MADE[name]()
    assert isinstance(figure, Figure)
    figure.canvas.draw()


@pytest.mark.parametrize(("number", "side"), [(64, 8), (784, 28), (9, None), (65, None)])
def test_squares_are_pictures(number, side):
    assert side_of(number) == side


@pytest.fixture(scope="module")
def small():
    weights = torch.randn(16, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def model(x=None, num_rows=None):
        count = len(x) if x is not None else num_rows
        with pyro.plate("datum", count):
            z = pyro.sample("z", dist.Normal(weights.new_zeros(count, 2), 1.0).to_event(1))
            return pyro.sample("x", dist.Bernoulli(logits=z @ weights.T).to_event(1), obs=x)

    def guide(x=None, num_rows=None):
        scale = pyro.param("<scale>", torch.tensor(0.5, dtype=torch.float64))
        with pyro.plate("datum", len(x)):
            pyro.sample("z", dist.Normal(0.2 * (x - 0.5) @ weights, scale).to_event(1))

    x = (torch.rand(120, 16, generator=torch.Generator().manual_seed(2)) < 0.5).double()
    fit = ppl.fit(model, {"x": x}, guide=guide, max_steps=1, backend="eager", seed=1)
    return audit(fit, num_rows=8, mcmc=False, num_simulations=50, num_encoder_draws=100, seed=1)


def test_page_is_whole_and_escaped(small, tmp_path):
    others = {"another fit": small}
    path = write_audit(small, tmp_path / "a.html", title="A <b> & more", name="<script>", cite="x < y", others=others)
    text = path.read_text(encoding="utf-8")
    assert "A &lt;b&gt; &amp; more" in text
    assert "<script>" not in text
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    assert text.count("<figure>") == 8
    for heading in ("What q(z | x) is worth", "The latent space", "The data", "Row by row"):
        assert heading in text
    assert small.verdict in text
    assert "Rate and distortion" in text


def test_wrong_input_is_refused(tmp_path):
    with pytest.raises(OptionError, match=r"ppl\.audit"):
        write_audit("audit", tmp_path / "a.html")
