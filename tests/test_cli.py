import json
import subprocess
import sys
from dataclasses import replace

import pytest
from typer.testing import CliRunner

import ppl_models as ppl
from ppl_models import catalogue
from ppl_models.catalogue import registry
from ppl_models.cli import app

PROBLEM = "eight_schools_noncentered"
QUICK = ("--max-steps", "60")


@pytest.fixture
def run():
    def run(*arguments):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert "Traceback" not in result.output
        return result

    return run


@pytest.fixture
def hostile(monkeypatch):
    """A problem registered by a user, whose texts are markup."""
    problem = replace(
        ppl.load(PROBLEM), name="a/b <i>", title="<script>alert(1)</script> [bold]schools[/bold]", cite="<img src=x>"
    )
    monkeypatch.setitem(registry._registered, "a/b <i>", lambda: problem)
    return "a/b <i>"


def one_line(result):
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = result.stderr.strip().splitlines()
    return line


def test_help_names_every_command_and_the_exit_codes(run):
    result = run("--help")
    assert result.exit_code == 0
    for word in ("list", "show", "fit", "check", "compare", "expect", "doctor", "Exit codes", "130"):
        assert word in result.stdout


def test_version(run):
    assert run("--version").stdout.strip() == "0.1.0"


def test_wrong_usage(run):
    assert run("check", "--no-such-option").exit_code == 2
    assert run("fit").exit_code == 2


def test_list(run):
    result = run("list")
    assert result.exit_code == 0
    assert all(name in result.stdout for name in ppl.names())
    assert [row["name"] for row in json.loads(run("list", "--json").stdout)] == list(ppl.names())


def test_show(run):
    assert "Rubin (1981)" in run("show", PROBLEM).stdout
    document = json.loads(run("show", PROBLEM, "--json").stdout)
    assert document["guides"] == ["handwritten"]
    assert document["data"] == {"sigma": [8], "y": [8]}


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("show", "eight_schools_noncentred"), "nearest first: eight_schools_noncentered,"),
        (("check", "eight_schools"), "unknown problem 'eight_schools'"),
        (("check", PROBLEM, "--guide", "hand_written"), "nearest first: handwritten,"),
        (("fit", PROBLEM, "--guide", "fullrank"), "nearest first: full_rank,"),
        (("compare", PROBLEM, "--guide", "nrmal"), "nearest first: normal,"),
        (("check", PROBLEM, "--kernel", "nutpy"), "unknown kernel 'nutpy'"),
        (("check", PROBLEM, "--backend", "inducter"), "nearest first: inductor,"),
    ],
)
def test_unknown_names_get_the_nearest(run, arguments, wanted):
    assert wanted in one_line(run(*arguments))


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("fit", PROBLEM, "--guide", "normal", "--max-steps", 0), "max_steps: found 0"),
        (("fit", PROBLEM, "--guide", "normal", "--step-size", -1), "step_size: found -1.0"),
        (("fit", PROBLEM, "--guide", "normal", "--draws", 0), "draws: found 0"),
        (("fit", PROBLEM, "--guide", "normal", "--seed", -1), "seed: found -1"),
        (("check", PROBLEM, "--chains", 0), "chains: found 0"),
        (("check", PROBLEM, "--target-accept", 2), "target_accept: found 2.0"),
    ],
)
def test_bad_options_are_refused(run, arguments, wanted):
    assert wanted in one_line(run(*arguments))


def test_a_model_to_be_learnt_is_sent_to_the_audit(run):
    for verb, options in (("check", ("--no-baseline",)), ("compare", ("--guide", "handwritten"))):
        assert "`ppl-models audit vae_digits`" in one_line(run(verb, "vae_digits", *options))


def test_fit_writes_what_it_is_asked_to(run, tmp_path):
    files = ("--output", tmp_path / "draws.nc", "--save", tmp_path / "fit.safetensors")
    result = run("fit", PROBLEM, "--guide", "normal", *QUICK, "--draws", 200, *files)
    assert result.exit_code == 0
    assert "tau" in result.stdout
    problem = ppl.load(PROBLEM)
    assert ppl.from_netcdf(tmp_path / "draws.nc")["posterior"].sizes["draw"] == 200
    assert ppl.load_fit(tmp_path / "fit.safetensors", problem.model, problem.data).steps == 60


def test_fit_as_json(run):
    document = json.loads(run("fit", PROBLEM, "--guide", "handwritten", *QUICK, "--draws", 200, "--json").stdout)
    assert document["guide"] == "handwritten"
    assert document["steps"] == 60
    assert {row["parameter"] for row in document["summary"]} >= {"mu", "tau", "theta[Choate]"}


def test_check_without_a_baseline(run, tmp_path):
    guides = ("--guide", "normal", "--guide", "delta")
    result = run("check", PROBLEM, "--no-baseline", *guides, *QUICK, "--output", tmp_path)
    assert result.exit_code == 0  # a rejection is one only with --strict
    assert "k-hat" in result.stdout
    assert "reject" in result.stdout
    assert str(tmp_path / f"{PROBLEM}.html") in result.stdout.replace("\n", "")
    assert (tmp_path / f"{PROBLEM}.html").is_file()


def test_check_with_a_baseline_that_fails_its_gates(run, tmp_path):
    baseline = ("--chains", 2, "--warmup", 30, "--draws", 20, "--backend", "eager")
    result = run("check", PROBLEM, *baseline, "--guide", "normal", *QUICK, "--output", tmp_path, "--json")
    assert result.exit_code == 0
    (problem,) = json.loads(result.stdout)["problems"]
    assert problem["baseline"]["gates"]["bulk ESS"]["passed"] is False
    assert problem["baseline"]["backend"] == "eager"
    (guide,) = problem["guides"]
    assert guide["reference"] == "pool"
    assert guide["reasons"][0].startswith("The baseline did not pass")
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("note: these draws do not pass the gates")


def test_texts_of_a_problem_are_not_taken_for_markup(run, hostile, tmp_path):
    result = run("check", hostile, "--no-baseline", "--guide", "normal", *QUICK, "--output", tmp_path)
    assert result.exit_code == 0
    assert "<script>alert(1)</script> [bold]schools[/bold]" in " ".join(result.stdout.split())
    (path,) = tmp_path.iterdir()
    assert path.name == "a_b_i_.html"
    page = path.read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<img src=x>" not in page


def test_strict_check_tells_a_rejection_by_its_exit_code(run, tmp_path):
    arguments = ("check", PROBLEM, "--no-baseline", "--guide", "delta", *QUICK, "--output", tmp_path)
    assert run(*arguments, "--strict").exit_code == 3


def test_output_that_is_a_file_is_refused_before_any_work(run, tmp_path):
    (tmp_path / "taken").write_text("", encoding="utf-8")
    assert "is a file" in one_line(run("check", PROBLEM, "--output", tmp_path / "taken"))


def test_guide_that_cannot_serve_does_not_stop_the_others(run, monkeypatch, tmp_path):
    def lame(sigma, y=None):
        raise ValueError("no site")

    problem = replace(ppl.load(PROBLEM), guides={"lame": lame})
    monkeypatch.setitem(registry._registered, PROBLEM, lambda: problem)
    guides = ("--guide", "lame", "--guide", "normal")
    result = run("check", PROBLEM, "--no-baseline", *guides, *QUICK, "--output", tmp_path, "--json")
    assert result.exit_code == 1
    normal, failed = json.loads(result.stdout)["problems"][0]["guides"]
    assert normal["guide"] == "normal"
    assert "no site" in failed["error"]


def test_compare_ranks_by_elbo(run):
    guides = ("--guide", "delta", "--guide", "normal", "--guide", "handwritten")
    result = run("compare", PROBLEM, "--no-baseline", *guides, *QUICK)
    assert result.exit_code == 0
    assert result.stdout.index("handwritten") < result.stdout.index("delta")


def test_interrupt_ends_quietly(run, monkeypatch):
    def interrupted(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(catalogue, "load", interrupted)
    result = run("show", PROBLEM)
    assert result.exit_code == 130
    assert result.output.strip() == ""


def test_interrupted_fit_ends_the_command(run, monkeypatch):
    import ppl_models.workflow as workflow

    def interrupted(*args, **options):
        return replace(fitted, status="interrupted")

    problem = ppl.load(PROBLEM)
    fitted = ppl.fit(problem.model, problem.data, guide="normal", max_steps=5)
    monkeypatch.setattr(workflow, "fit", interrupted)
    assert run("fit", PROBLEM, "--guide", "normal").exit_code == 130
    assert run("check", PROBLEM, "--no-baseline").exit_code == 130


def test_doctor(run):
    result = run("doctor", "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    states = {(finding["part"], finding["name"]): finding["state"] for finding in document["findings"]}
    assert document["ok"] is True
    assert states["backend", "eager"] == states["package", "torch"] == states["kernel", "pyro_nuts"] == "ok"
    assert "compiler" in run("doctor", "--quick").stdout


def test_doctor_without_a_compiler_is_degraded_and_not_broken(run, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    findings = json.loads(run("doctor", "--quick", "--json").stdout)["findings"]
    states = {(finding["part"], finding["name"]): finding["state"] for finding in findings}
    assert states["compiler", "C++"] == states["backend", "inductor"] == "degraded"


def test_doctor_fails_when_something_essential_is_missing(run, monkeypatch):
    from importlib import metadata

    usual = metadata.version

    def without_torch(name):
        if name == "torch":
            raise metadata.PackageNotFoundError(name)
        return usual(name)

    monkeypatch.setattr(metadata, "version", without_torch)
    result = run("doctor", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["ok"] is False


def test_command_prints_one_document_and_exits_with_the_code(tmp_path):
    command = [sys.executable, "-c", "from ppl_models.cli import main; main()"]
    arguments = ["check", PROBLEM, "--no-baseline", "--guide", "delta", *QUICK, "--output", str(tmp_path)]
    done = subprocess.run([*command, *arguments, "--json", "--strict"], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert json.loads(done.stdout)["problems"][0]["guides"][0]["verdict"] == "reject"
    failed = subprocess.run([*command, "show", "nothing", "--json"], capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert failed.stdout == ""
    assert failed.stderr.startswith("ppl-models: unknown problem 'nothing'")
    assert len(failed.stderr.strip().splitlines()) == 1
