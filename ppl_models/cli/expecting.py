"""`ppl-models expect`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ppl_models.cli.output import command, console, print_json, quiet_stdout, tell
from ppl_models.cli.problems import Json

if TYPE_CHECKING:
    from ppl_models.inference.monte_carlo.expectation import Expectation
    from ppl_models.inference.monte_carlo.integrands import KnownExpectation

METHODS = ("auto", "plain", "antithetic", "control_variates", "stratified", "quasi")
"""Those that need no more than a name."""


@command
def expect(
    name: Annotated[str | None, typer.Argument(help="An expectation with a known value, as --list names it.")] = None,
    method: Annotated[str, typer.Option(help=f"{', '.join(METHODS[1:-1])} or {METHODS[-1]}; auto is plain.")] = "auto",
    draws: Annotated[int | None, typer.Option(help="Evaluations of the function; 100,000 if nothing is said.")] = None,
    target_error: Annotated[
        float | None, typer.Option(help="Add draws until the standard error is this small.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    list_all: Annotated[bool, typer.Option("--list", help="List the expectations, and estimate nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Estimate an expectation whose value is known by Monte Carlo, with its error bar."""
    if name is None and not list_all:
        tell("ppl-models: no expectation was named. See ppl-models expect --list.")
        raise typer.Exit(2)
    with quiet_stdout(as_json):
        from ppl_models.inference.monte_carlo.integrands import INTEGRANDS, known_expectation
        from ppl_models.workflow.expecting import expect as estimate
    if list_all or name is None:
        _print_list(list(INTEGRANDS.values()), as_json)
        return
    with quiet_stdout(as_json):
        _check_method(method)
        known = known_expectation(name)
        found = estimate(known.f, known.q, draws, target_error=target_error, method=method, seed=seed)
    document = _document(known, found)
    if as_json:
        print_json(document)
        return
    out = console()
    out.print(f"{known.title} = {known.exact:.10g}", markup=False, soft_wrap=True)
    out.print(repr(found), markup=False, soft_wrap=True)
    out.print(f"error {document['error']:+.3g}{_in_errors(document)}; {known.source}", markup=False, soft_wrap=True)


def _check_method(method: str) -> None:
    from ppl_models.errors import OptionError
    from ppl_models.inference.monte_carlo import registry
    from ppl_models.options import check_choice

    if method in registry.METHODS and method not in METHODS:
        raise OptionError(
            f"--method: '{method}' takes what only Python can give it, such as a proposal or a function of levels. "
            f"Call ppl_models.expect(f, q, method='{method}', ...), or take one of {', '.join(METHODS)}."
        )
    check_choice("method", method, METHODS)


def _print_list(known: "list[KnownExpectation]", as_json: bool) -> None:
    fields = ("name", "title", "exact", "source")
    if as_json:
        print_json([{field: getattr(each, field) for field in fields} for each in known])
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("expectation", no_wrap=True)
    table.add_column("what it is")
    table.add_column("value", justify="right", no_wrap=True)
    for each in known:
        table.add_row(Text(each.name), Text(each.title), f"{each.exact:.8g}")
    console().print(table)


def _document(known: "KnownExpectation", found: "Expectation") -> dict[str, Any]:
    error = float(found) - known.exact
    return {
        "name": known.name,
        "title": known.title,
        "exact": known.exact,
        "estimate": found.estimate,
        "standard_error": found.standard_error,
        "interval": list(found.interval),
        "error": error,
        "ess": found.ess,
        "num_draws": found.num_draws,
        "method": found.method,
        "status": found.status,
        "trusted": found.passed,
        "warning": found.warning,
        "checks": [
            {"name": each.name, "value": each.value, "limit": each.limit, "passed": each.passed, "detail": each.detail}
            for each in found.checks
        ],
        "seconds": found.seconds,
        "config": dict(found.config),
    }


def _in_errors(document: dict[str, Any]) -> str:
    error = document["standard_error"]
    return f" ({document['error'] / error:+.1f} standard errors)" if error > 0.0 else ""
