import json

import pyro
import pyro.distributions as dist
import pytest
import torch
from typer.testing import CliRunner

import ppl_models as ppl
from ppl_models.catalogue import registry
from ppl_models.cli import app

WEIGHTS = torch.randn(16, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def model(x=None, num_rows=None):
    count = len(x) if x is not None else num_rows
    with pyro.plate("datum", count):
        z = pyro.sample("z", dist.Normal(torch.zeros(count, 2, dtype=WEIGHTS.dtype), 1.0).to_event(1))
        return pyro.sample("x", dist.Bernoulli(logits=z @ WEIGHTS.to(z).T).to_event(1), obs=x)


def guide(x=None, num_rows=None):
    scale = pyro.param("scale", torch.tensor(0.5, dtype=torch.float64))
    with pyro.plate("datum", len(x)):
        pyro.sample("z", dist.Normal(0.2 * (x - 0.5) @ WEIGHTS.to(x), scale).to_event(1))


def build():
    x = (torch.rand(60, 16, generator=torch.Generator().manual_seed(2)) < 0.5).double()
    return ppl.Problem(
        name="tiny_vae",
        title="a tiny autoencoder",
        model=model,
        data={"x": x},
        coords={},
        dims={},
        guides={"handwritten": guide},
        observed=("x",),
        cite="made for a test",
    )


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setitem(registry._registered, "tiny_vae", build)

    def run(*arguments):
        result = CliRunner().invoke(app, list(arguments))
        assert "Traceback" not in result.output
        return result

    return run


QUICK = ("--rows", "4", "--no-mcmc", "--max-steps", "2")


def test_table_and_page(run, tmp_path):
    result = run("audit", "tiny_vae", *QUICK, "--output", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert "Audit: q(z | x):" in result.stdout
    assert (tmp_path / "tiny_vae_audit.html").exists()


def test_json_of_a_saved_fit(run, tmp_path, monkeypatch):
    monkeypatch.setattr("ppl_models.report.write_audit", lambda found, path, **names: path)  # the other test writes one
    path = tmp_path / "tiny.fit"
    saved = run("fit", "tiny_vae", "--guide", "handwritten", "--max-steps", "2", "--draws", "10", "--save", str(path))
    assert saved.exit_code == 0, saved.output
    result = run("audit", "tiny_vae", *QUICK[:3], "--fit", str(path), "--output", str(tmp_path), "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["verdict"] in ("correct", "reject")
    assert found["elbo"] == pytest.approx(-(found["rate"] + found["distortion"]))
    assert len(found["rows"]) == 4
    assert {check["name"] for check in found["checks"]} >= {"active units", "SBC of the encoder"}


def test_mistakes_are_one_line(run):
    assert run("audit", "tiny_va").exit_code == 1
    assert run("audit", "tiny_vae", "--guide", "handwriten").exit_code == 1
    result = run("audit", "eight_schools_noncentered", "--guide", "normal", "--no-mcmc", "--max-steps", "5")
    assert result.exit_code == 1
