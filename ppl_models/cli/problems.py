"""`ppl-models list` and `ppl-models show`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ppl_models.cli.output import command, console, print_json, quiet_stdout, tell

if TYPE_CHECKING:
    from ppl_models.catalogue import Problem

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


@command
def list_problems(as_json: Json = False) -> None:
    """List the problems of the catalogue."""
    with quiet_stdout(as_json):
        from rich import box
        from rich.table import Table
        from rich.text import Text

        from ppl_models.catalogue import load, names
        from ppl_models.errors import ModelError

        titles: dict[str, str] = {}
        for name in names():
            try:
                titles[name] = load(name).title
            except ModelError as error:  # a broken package must not hide the others
                tell(f"note: {error}")
    if as_json:
        print_json([{"name": name, "title": title} for name, title in titles.items()])
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("problem", no_wrap=True)
    table.add_column("what it is")
    for name, title in titles.items():
        table.add_row(Text(name), Text(title))
    console().print(table)


@command
def show(
    name: Annotated[str, typer.Argument(help="A problem, as `list` names it.")],
    as_json: Json = False,
) -> None:
    """Describe one problem: its data, sites, guides and citation."""
    with quiet_stdout(as_json):
        from ppl_models.catalogue import load

        problem = load(name)
        document = _describe(problem)
    if as_json:
        print_json(document)
        return
    typer.echo(str(problem))


def _describe(problem: "Problem") -> dict[str, Any]:
    import inspect

    import guides

    return {
        "name": problem.name,
        "title": problem.title,
        "description": inspect.getdoc(problem.model) or "",
        "data": {name: list(value.shape) if hasattr(value, "shape") else value for name, value in problem.data.items()},
        "sites": {name: list(dims) for name, dims in problem.dims.items() if name not in problem.data},
        "observed": list(problem.observed),
        "enumerated": list(problem.enumerated),
        "coords": {name: list(values) for name, values in problem.coords.items()},
        "guides": list(problem.guides),
        "families": list(guides.names()),
        "expected": dict(problem.expected),
        "cite": problem.cite,
    }
