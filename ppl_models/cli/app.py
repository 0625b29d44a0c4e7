"""The application and its commands. Heavy libraries are imported by the commands, so that `--help` answers at once."""

from importlib import metadata
from typing import Annotated

import typer

from ppl_models.cli import auditing, cache, checking, doctor, expecting, fitting, problems

app = typer.Typer(
    name="ppl-models",
    help="A variational posterior you can trust, from an unmodified Pyro model.",
    epilog="Exit codes: 0 done (whatever the verdict); 1 a mistake, or something that could not be done (one line on "
    "standard error says what); 2 wrong usage; 3 a fit was rejected and check --strict was asked for; 130 stopped by "
    "Ctrl-C.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        try:
            typer.echo(metadata.version("ppl-models"))
        except metadata.PackageNotFoundError:  # imported from its source folder
            typer.echo("unknown")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


app.command("list")(problems.list_problems)
app.command("show")(problems.show)
app.command("fit")(fitting.fit)
app.command("check")(checking.check)
app.command("compare")(checking.compare)
app.command("audit")(auditing.audit)
app.command("expect")(expecting.expect)
app.command("doctor")(doctor.doctor)
app.add_typer(cache.app, name="cache")


def main() -> None:
    """Run the command line."""
    try:
        app()
    except KeyboardInterrupt:  # outside a command, as while modules are imported
        raise SystemExit(130) from None
