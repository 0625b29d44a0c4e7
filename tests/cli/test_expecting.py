import json

import pytest
from typer.testing import CliRunner

from ppl_models.cli import app
from ppl_models.inference.monte_carlo.integrands import INTEGRANDS


@pytest.fixture
def run():
    def run(*arguments):
        result = CliRunner().invoke(app, ["expect", *arguments])
        assert "Traceback" not in result.output
        return result

    return run


def test_the_estimate_stands_beside_the_value(run):
    result = run("founding", "--draws", "10000")
    assert result.exit_code == 0
    title, estimate, error = result.stdout.strip().splitlines()
    assert title == "E[exp(-z²)], z ~ N(0, 1) = 0.5773502692"
    assert "plain, 10,000 draws" in estimate
    assert "standard errors" in error


def test_json_holds_the_result_alone(run):
    found = json.loads(
        run("call_option", "--target-error", "0.05", "--method", "quasi", "--seed", "3", "--json").stdout
    )
    assert found["status"] == "met"
    assert found["standard_error"] <= 0.05
    assert found["method"] == "quasi"
    assert found["config"]["seed"] == 3
    assert abs(found["error"]) < 5 * found["standard_error"]
    assert {check["name"] for check in found["checks"]} > {"tails of f (k-hat)"}


def test_what_cannot_be_trusted_is_said(run):
    assert "cannot be trusted" in run("infinite_variance", "--draws", "50000").stdout


def test_the_list_names_them_all(run):
    text = run("--list").stdout
    assert all(name in text for name in INTEGRANDS)
    assert [each["name"] for each in json.loads(run("--list", "--json").stdout)] == list(INTEGRANDS)


def test_methods_offered_are_those_that_it_has(run):
    offered = run("founding", "--method", "qusai").stderr
    assert "first: quasi" in offered
    assert "importance" not in offered
    assert "Python" in run("founding", "--method", "importance").stderr


def test_mistakes_are_one_line(run):
    for arguments in (("foundin",), ("founding", "--method", "plane"), ("founding", "--draws", "1")):
        result = run(*arguments)
        assert result.exit_code == 1
        assert len(result.stderr.strip().splitlines()) == 1
    assert run().exit_code == 2
