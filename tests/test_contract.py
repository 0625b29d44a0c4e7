"""The public contract: every name documented, options by keyword, results frozen, every family on one small model."""

import dataclasses
import inspect
import re

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import guides
import ppl_models as ppl
from ppl_models import errors

NAMES = [name for name in ppl.__all__ if callable(getattr(ppl, name))]
FUNCTIONS = [name for name in NAMES if inspect.isfunction(getattr(ppl, name))]
CLASSES = [name for name in NAMES if inspect.isclass(getattr(ppl, name))]
WANTED = {
    *("fit", "sample", "check", "load", "names", "register", "load_fit", "sample_prior", "to_datatree"),
    *("to_netcdf", "from_netcdf", "Fit", "Verdict", "Check", "Problem", "PPLError", "PPLWarning"),
}


def public_methods(cls):
    found = inspect.getmembers(cls, lambda member: inspect.isfunction(member) or isinstance(member, property))
    return {name: member for name, member in found if not name.startswith("_")}


def documented():
    """Every public function and method with its documentation."""
    for name in FUNCTIONS:
        yield name, getattr(ppl, name)
    for name in CLASSES:
        cls = getattr(ppl, name)
        if not issubclass(cls, (Exception, Warning)):
            yield from ((f"{name}.{method}", member) for method, member in public_methods(cls).items())


DOCUMENTED = dict(documented())


def own_parameters(function):
    return [p for p in inspect.signature(function).parameters.values() if p.name not in ("self", "cls")]


def test_all_is_complete_and_sorted_and_no_more():
    assert set(ppl.__all__) >= WANTED
    assert list(ppl.__all__) == sorted(ppl.__all__)
    assert len(set(ppl.__all__)) == len(ppl.__all__)
    assert set(ppl.__all__) <= set(dir(ppl))
    own = {
        name
        for name, value in vars(ppl).items()
        if not name.startswith("_") and getattr(value, "__module__", "").startswith("ppl_models")
    }
    assert own <= set(ppl.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = ppl.no_such_name


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_function_and_method_is_documented(name):
    member = DOCUMENTED[name]
    text = inspect.getdoc(member)
    assert text, name
    first = text.splitlines()[0]
    assert first.endswith((".", ":")) or "." in text.split("\n\n")[0], f"{name}: the first paragraph is no sentence"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_argument_is_described(name):
    function = getattr(ppl, name)
    text = inspect.getdoc(function)
    parameters = own_parameters(function)
    if len(parameters) > 1:
        assert "Args:" in text
        missing = [p.name for p in parameters if not re.search(rf"^\s+\*{{0,2}}{p.name}\b", text, re.MULTILINE)]
        assert missing == []
    if parameters:
        assert "Raises:" in text or name in ("sample_prior",), f"{name} does not say what it raises"


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_says_what_it_is(name):
    cls = getattr(ppl, name)
    text = "\n".join(inspect.getdoc(base) or "" for base in cls.__mro__ if base is not object)
    assert inspect.getdoc(cls)
    if dataclasses.is_dataclass(cls):
        missing = [field.name for field in dataclasses.fields(cls) if not re.search(rf"\b{field.name}\b", text)]
        assert missing == []


@pytest.mark.parametrize("name", DOCUMENTED)
def test_options_are_by_keyword(name):
    """Whatever has a default is an option, but for a leading count of draws or rows, and what a fit brings itself."""
    member = DOCUMENTED[name]
    if isinstance(member, property):
        return
    positional = [
        p.name
        for p in own_parameters(member)
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is not p.empty
    ]
    assert set(positional) <= {"num_draws", "num_rows", "build", "data", "q", "parameters"}


@pytest.mark.parametrize("name", ["fit", "sample", "check", "sample_prior"])
def test_whatever_is_random_takes_a_seed(name):
    assert inspect.signature(getattr(ppl, name)).parameters["seed"].default == 0


@pytest.mark.parametrize("name", [name for name in CLASSES if dataclasses.is_dataclass(getattr(ppl, name))])
def test_results_are_frozen(name):
    assert getattr(ppl, name).__dataclass_params__.frozen


def test_errors_have_one_root():
    found = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, Exception)]
    for cls in found:
        assert issubclass(cls, errors.PPLWarning if issubclass(cls, Warning) else errors.PPLError)
        assert cls.__doc__
    assert issubclass(errors.OptionError, ValueError)
    assert issubclass(errors.UnknownNameError, LookupError)
    assert issubclass(errors.FileError, OSError)


@pytest.mark.parametrize(
    ("found", "valid", "first"),
    [("nomal", ("full_rank", "normal"), "normal"), ("FULL-RANK", ("normal", "full_rank"), "full_rank")],
)
def test_unknown_name_lists_the_nearest_first(found, valid, first):
    error = errors.UnknownNameError("guide", found, valid)
    assert error.valid[0] == first
    assert f"nearest first: {first}" in str(error)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one.\ntwo"), "one"),
        (ValueError("values:\n-1\nmore"), "values: -1"),
        (ValueError(""), "ValueError"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ],
)
def test_first_line_of_an_error(error, line):
    assert errors.first_line(error) == line


def groups(x, y=None):
    """A scale, a simplex, a plate of latents and a deterministic: what a family must get right at once."""
    scale = pyro.sample("scale", dist.HalfNormal(1.0))
    shares = pyro.sample("shares", dist.Dirichlet(torch.ones(3)))
    with pyro.plate("group", 3):
        level = pyro.sample("level", dist.Normal(0.0, 1.0))
        pyro.deterministic("weighted", level * shares)
    with pyro.plate("row", len(x)):
        pyro.sample("y", dist.Normal(level.sum(-1, keepdim=True) * x, scale), obs=y)


GROUPS = {"x": np.linspace(-1, 1, 6), "y": np.array([-0.8, -0.6, 0.0, 0.3, 0.4, 1.1])}


@pytest.mark.parametrize("family", guides.names())
def test_every_family_fits_a_small_model(family):
    fit = ppl.fit(groups, GROUPS, guide=family, max_steps=20, backend="eager", seed=1)
    tree = fit.sample(500, seed=2)
    posterior, stats = tree["posterior"].to_dataset(), tree["sample_stats"].to_dataset()
    assert (fit.guide_name, fit.family, fit.point) == (family, family, guides.FAMILIES[family].point)
    assert np.isfinite(fit.losses).all()
    assert {name: value.shape[2:] for name, value in posterior.data_vars.items()} == {
        "scale": (),
        "shares": (3,),
        "level": (3,),
        "weighted": (3,),
    }
    assert (posterior["scale"] > 0).all()
    np.testing.assert_allclose(posterior["shares"].sum(posterior["shares"].dims[-1]), 1.0, rtol=1e-9)
    np.testing.assert_allclose(
        posterior["weighted"].values, posterior["level"].values * posterior["shares"].values, rtol=1e-9
    )
    assert np.isfinite(stats["log_p"]).all()
    judged = ppl.check(fit, seed=3)
    if guides.FAMILIES[family].density:
        assert np.isfinite(stats["log_q"]).all()
    assert np.isfinite(judged.khat) if fit.has_density else judged.verdict == "reject"
    assert str(judged)
    sites = {str(name).split("[")[0] for name in judged.table.index}
    assert sites == (set() if fit.point else {"scale", "shares", "level", "weighted"})
