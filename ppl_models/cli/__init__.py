"""The command line: `ppl-models --help`."""

from ppl_models.cli.app import app, main

__all__ = ["app", "main"]
