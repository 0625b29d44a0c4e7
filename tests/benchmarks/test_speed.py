"""The speed benchmark without its peers, on invented numbers: data, limits, tables, file of results, figure."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from race import figure, limits, results, tables, timing, workloads
from race.agreement import relative_difference
from race.processes import Crew, Entrant, new_row, take_turns
from race.settings import Settings

SETTINGS = Settings(rounds=2, quick=True, backends=("native",), target=0.1, say=lambda text: None)


def row(work: dict, peer: str, error: str = "", notes: tuple[str, ...] = (), **values: list[float]) -> dict:
    return {**new_row(work, peer), "values": values, "error": error, "notes": list(notes)}


def step_rows() -> list[dict]:
    work = {"model": "eight_schools", "guide": "normal"}
    return [
        row(work, "native", step=[9e-6, 8e-6, 10e-6], notes=("ran on eager: no compiler",)),
        row(work, "numpyro", step=[18e-6, 18e-6, 18e-6]),
        row(work, "pyro", error="ModuleNotFoundError: No module named 'pyro'"),
    ]


def printed(table: object) -> str:
    console = Console(file=io.StringIO(), width=160)
    console.print(table)
    return console.file.getvalue()


@pytest.mark.parametrize("name", workloads.WORKLOADS)
def test_workloads_repeat_and_are_finite(name):
    data, again = workloads.make(name), workloads.make(name)
    for key, value in data.items():
        assert np.all(np.isfinite(value))
        np.testing.assert_array_equal(value, again[key])


def test_workloads_take_sizes_and_split_into_arrays_and_plain_sizes():
    arrays, plain = workloads.split(workloads.make("hierarchical", rows=50, groups=3))
    assert {name: value.shape for name, value in arrays.items()} == {"group": (50,), "x": (50,), "y": (50,)}
    assert plain == {"num_groups": 3}
    images = workloads.images(2, batch=3)
    assert images.shape == (2, 3, 784)
    assert set(np.unique(images)) == {0.0, 1.0}


def test_a_block_lasts_as_long_as_asked():
    counts = []

    def run(count):
        counts.append(count)
        return 0.001 * count, count

    figures = timing.block_of_steps(run, target=0.5)(1)
    assert counts == [5, 200, 500, 500]
    assert figures["step"] == pytest.approx(0.001)
    assert figures["steps"] == 500


def test_a_block_that_nobody_would_wait_for_is_refused():
    with pytest.raises(timing.TooSlowError, match=r"a step takes 10\.0 s"):
        timing.block_of_steps(lambda count: (10.0 * count, count), target=0.5)


def test_a_peer_that_is_not_there_is_shown_with_its_reason():
    with Crew() as crew:
        rows = take_turns(crew, {"model": "eight_schools"}, [Entrant("absent", "absent", "steps")], SETTINGS)
    assert rows[0]["error"] == "ModuleNotFoundError: No module named 'race.peers.absent'"
    assert tables.remarks(rows) == [f"* absent failed: {rows[0]['error']} (eight_schools)"]


def test_limits_compare_medians_and_say_what_was_not_measured():
    against_pyro, against_numpyro = limits.judge("a", step_rows())
    assert (against_pyro["found"], against_pyro["met"]) == (None, None)
    assert against_numpyro["found"] == pytest.approx(0.5)
    assert against_numpyro["met"]


def test_the_fastest_form_of_a_peer_counts():
    work = {"threads": 1}
    rows = [row(work, "native", step=[1.08]), row(work, "torch", step=[1.1]), row(work, "torch_fused", step=[1.0])]
    (entry,) = limits.judge("b", rows)
    assert (entry["against"], entry["met"]) == ("torch_fused", False)


def test_what_needs_no_cache_stands_beside_cold_and_warm():
    rows = [
        row({"model": "logistic", "cache": "none"}, "pyro", peak=[100.0]),
        row({"model": "logistic", "cache": "cold"}, "native", peak=[130.0]),
        row({"model": "logistic", "cache": "warm"}, "native", peak=[110.0]),
    ]
    assert [(entry["work"]["cache"], entry["met"]) for entry in limits.judge("f", rows)] == [
        ("cold", False),
        ("warm", True),
    ]


def test_tables_show_ratios_failures_and_fallbacks():
    text = printed(tables.by_work("title", step_rows(), "step"))
    for piece in ("9 (8-10)*", "18 (18-18)", "failed*", "0.5"):
        assert piece in text
    assert tables.remarks(step_rows())[0] == "* native ran on eager: no compiler (eight_schools normal)"
    assert "0.25 (0.2-0.3)" in printed(tables.by_peer("title", [row({"model": "m"}, "ours", seconds=[0.2, 0.3])]))
    entries = [{"part": "a", **entry} for entry in limits.judge("a", step_rows())]
    assert "not measured" in printed(tables.verdicts(entries))
    assert "met" in printed(tables.verdicts(entries))


def test_parts_that_were_not_run_keep_their_results(tmp_path):
    path = tmp_path / "speed.json"
    assert results.merged(path, {"b": {"rows": [1]}}) == {"parts": {"b": {"rows": [1]}}}
    path.write_text(json.dumps({"parts": {"a": {"rows": [0]}, "b": {"rows": [1]}}}))
    assert results.merged(path, {"b": {"rows": [2]}}) == {"parts": {"a": {"rows": [0]}, "b": {"rows": [2]}}}


def test_results_tell_where_and_when():
    found = results.circumstances("python benchmarks/speed.py", rounds=5)
    assert found["cores"] >= 1
    assert found["versions"]["torch"] != "not installed"
    json.dumps(found)


def test_the_figure_takes_what_is_there(tmp_path):
    growth = [
        row({"model": "logistic", "grows": "rows", "size": size}, "native", step=[1e-8 * size]) for size in (100, 1_000)
    ]
    figure.draw({"parts": {"a": {"rows": step_rows()}, "e": {"rows": growth}}}, tmp_path / "speed.png")
    assert (tmp_path / "speed.png").stat().st_size > 10_000


def test_densities_may_differ_by_a_constant_alone():
    assert relative_difference([1.0, 3.0], [11.0, 13.0]) == 0.0
    assert relative_difference([1.0, 3.0], [10.0, 20.0]) == pytest.approx(0.4)
