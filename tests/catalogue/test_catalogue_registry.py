import subprocess
import sys
from importlib import metadata

import pytest

from ppl_models.catalogue import Problem, load, names, register, registry
from ppl_models.errors import ModelError, OptionError, UnknownNameError


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})


def offer(monkeypatch, **targets):
    points = [metadata.EntryPoint(name, target, registry.GROUP) for name, target in targets.items()]
    monkeypatch.setattr(registry.metadata, "entry_points", lambda group: points if group == registry.GROUP else [])


def build_example():
    return Problem(
        name="example", title="", model=print, data={}, coords={}, dims={}, guides={"handwritten": print}, cite=""
    )


not_a_function = 3


def build_nothing():
    return None


def test_unknown_name_lists_the_nearest_first():
    with pytest.raises(
        UnknownNameError, match=r"unknown problem 'eight_schools_centred'.*first: eight_schools_centered"
    ):
        load("eight_schools_centred")


def test_registered_problem_loads_anew_each_time():
    assert register("mine", build_example) is build_example
    assert "mine" in names()
    assert load("mine").name == "example"
    assert load("mine") is not load("mine")


def test_register_is_a_decorator():
    @register("mine")
    def build():
        return build_example()

    assert load("mine").name == "example"
    assert build().name == "example"


@pytest.mark.parametrize("taken", ["lynx_ar2", "mine"])
def test_taken_name_needs_replace(taken):
    register("mine", build_example)
    with pytest.raises(OptionError, match=f"named '{taken}' exists.*replace=True"):
        register(taken, build_example)
    register(taken, build_example, replace=True)
    assert load(taken).name == "example"
    assert names().count(taken) == 1


@pytest.mark.parametrize("name", ["", None])
def test_name_must_be_a_string(name):
    with pytest.raises(OptionError, match="wanted a string"):
        register(name, build_example)


def test_installed_packages_offer_problems(monkeypatch):
    offer(monkeypatch, theirs=f"{__name__}:build_example")
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    assert "theirs" in names()
    assert load("theirs").name == "example"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no_such_package:build", "ModuleNotFoundError.*Update or uninstall"),
        (f"{__name__}:no_such_function", "AttributeError"),
        (f"{__name__}:not_a_function", "TypeError"),
        (f"{__name__}:build_nothing", "returned NoneType, wanted a ppl_models.catalogue.Problem"),
    ],
)
def test_a_broken_package_breaks_only_its_own_problem(monkeypatch, target, message):
    offer(monkeypatch, broken=target)
    assert "broken" in names()
    with pytest.raises(ModelError, match=f"(?s)problem 'broken'.*{message}"):
        load("broken")
    assert load("eight_schools_centered").name == "eight_schools_centered"


def test_nothing_heavy_is_imported_for_the_names():
    code = (
        "import sys; from ppl_models.catalogue import registry; registry.names(); "
        "heavy = {'sklearn', 'ppl_models.catalogue.lynx_ar2', 'ppl_models.datasets'} & set(sys.modules); "
        "sys.exit(', '.join(heavy) or None)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
