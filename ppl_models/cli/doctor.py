"""`ppl-models doctor`: what is installed, and what really works."""

import importlib
import platform
import re
import time
import warnings
from importlib import metadata
from typing import Annotated, Any

import typer

from ppl_models.cli.output import command, console, print_json, quiet_stdout
from ppl_models.cli.problems import Json

OK, DEGRADED, BROKEN = "ok", "degraded", "broken"
STYLES = {OK: "green", DEGRADED: "yellow", BROKEN: "bold red"}
REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)")
EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")

Finding = dict[str, Any]
"""part, name, state ("ok", "degraded": slower or optional, "broken"), found."""


@command
def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Do not compile or sample anything.")] = False,
    as_json: Json = False,
) -> None:
    """Say what is installed and what works; exit with 1 if something essential is broken."""
    with quiet_stdout(as_json):
        findings = [_python(), *_packages()]
        if not any(finding["state"] == BROKEN for finding in findings):
            findings += [_compiler(), *_backends(quick), *_kernels(quick), _cuda()]
    broken = [finding for finding in findings if finding["state"] == BROKEN]
    if as_json:
        print_json({"ok": not broken, "findings": findings})
    else:
        _print(findings)
    if broken:
        raise typer.Exit(1)


def _finding(part: str, name: str, state: str, found: str) -> Finding:
    return {"part": part, "name": name, "state": state, "found": found}


def _python() -> Finding:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return _finding("python", platform.python_implementation(), OK, found)


def _packages() -> list[Finding]:
    """Every requirement of this package: required ones must be there, those of extras may be missing."""
    found = [_finding("package", "ppl-models", OK, metadata.version("ppl-models"))]
    for requirement in metadata.requires("ppl-models") or []:
        match, extra = REQUIREMENT.match(requirement), EXTRA.search(requirement)
        if match is None or match[1] == "ppl-models":
            continue
        part = f"extra {extra[1]}" if extra else "package"
        try:
            found.append(_finding(part, match[1], OK, metadata.version(match[1])))
        except metadata.PackageNotFoundError:
            remedy = f"pip install 'ppl-models[{extra[1]}]'" if extra else f"pip install {match[1]}"
            found.append(_finding(part, match[1], DEGRADED if extra else BROKEN, f"missing: {remedy}"))
    return sorted(found, key=lambda finding: finding["part"] != "package")


def _compiler() -> Finding:
    from ppl_models.engine import cpp_compiler

    path = cpp_compiler()
    if path is None:
        return _finding("compiler", "C++", DEGRADED, "none found: set CXX, or install g++ or clang++; eager is used")
    return _finding("compiler", "C++", OK, path)


def _tiny_model(x: Any) -> None:
    import pyro
    import pyro.distributions as dist

    location = pyro.sample("location", dist.Normal(0.0, 1.0))
    with pyro.plate("x_plate", len(x)):
        pyro.sample("x", dist.Normal(location, 1.0), obs=x)


def _tiny_data() -> dict[str, Any]:
    import torch

    return {"x": torch.tensor([0.5, 1.0, 1.5])}


def _backends(quick: bool) -> list[Finding]:
    from ppl_models.engine import COMPILERS

    return [
        _finding("backend", "eager", OK, "Pyro itself"),
        *(_backend(name, backend.available(), quick) for name, backend in COMPILERS.items()),
    ]


def _backend(name: str, missing: str | None, quick: bool) -> Finding:
    if missing is not None:
        return _finding("backend", name, DEGRADED, missing)
    if quick:
        return _finding("backend", name, OK, "available, not tried")
    from ppl_models.engine import compile_density
    from ppl_models.program import build_program

    program = build_program(_tiny_model, _tiny_data())
    try:
        import torch

        with program.isolated(seed=0, num_threads=1), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the note says the same
            density = compile_density(program, name)
            value, _ = density.gradient(torch.zeros(program.num_dims, dtype=program.dtype))
    except Exception as error:  # whatever is broken here is what this command is for
        return _finding("backend", name, DEGRADED, f"{type(error).__name__}: {error}")
    if density.backend != name:
        return _finding("backend", name, DEGRADED, density.note)
    return _finding("backend", name, OK, f"log density {float(value):.3f} of a tiny model in {density.seconds:.1f} s")


def _kernels(quick: bool) -> list[Finding]:
    from ppl_models.inference.mcmc.sampling import KERNELS

    return [_kernel(name, quick) for name in KERNELS]


def _kernel(name: str, quick: bool) -> Finding:
    if name == "nutpie":
        try:
            importlib.import_module("nutpie")
        except Exception as error:
            return _finding("kernel", name, BROKEN, f"{type(error).__name__}: {error}")
    if quick:
        return _finding("kernel", name, OK, "available, not tried")
    from ppl_models.inference import sample_chains

    started = time.perf_counter()
    try:
        sample_chains(_tiny_model, _tiny_data(), chains=1, warmup=20, draws=20, kernel=name, backend="eager")
    except Exception as error:
        return _finding("kernel", name, BROKEN, f"{type(error).__name__}: {error}")
    return _finding("kernel", name, OK, f"20 draws of a tiny model in {time.perf_counter() - started:.1f} s")


def _cuda() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return _finding("device", "CUDA", OK, "none; fits run on the processor")
    return _finding("device", "CUDA", OK, f"{torch.cuda.get_device_name(0)} (fits run on the processor)")


def _print(findings: list[Finding]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("part", "name", "state", "found"):
        table.add_column(column, overflow="fold")
    previous = ""
    for finding in findings:
        part = finding["part"] if finding["part"] != previous else ""
        previous = finding["part"]
        table.add_row(
            part, finding["name"], Text(finding["state"], style=STYLES[finding["state"]]), Text(finding["found"])
        )
    console().print(table)
