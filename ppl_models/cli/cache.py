"""`ppl-models cache info` and `ppl-models cache clear`."""

import importlib.util
from pathlib import Path
from types import ModuleType

import typer

import ppl_models
from ppl_models.cli.output import command, console, print_json, tell
from ppl_models.cli.problems import Json

MB = 2**20

app = typer.Typer(help="Look at, or clear, the cache of compiled code.", no_args_is_help=True)


@app.command()
@command
def info(as_json: Json = False) -> None:
    """Say where the cache is, what it holds and what bounds it."""
    cache = _module().Cache()
    entries, num_bytes = cache.size()
    reason = cache.unusable()
    if as_json:
        print_json(
            {
                "folder": str(cache.directory),
                "entries": entries,
                "bytes": num_bytes,
                "max_bytes": cache.max_bytes,
                "off": reason,
            }
        )
        return
    _say(f"folder   {cache.directory}")
    _say(f"entries  {entries:,}")
    _say(f"size     {num_bytes / MB:,.1f} MB")
    _say(f"bound    {cache.max_bytes / MB:,.1f} MB")
    if reason is not None:
        _say(f"off      {reason}")


@app.command()
@command
def clear(as_json: Json = False) -> None:
    """Remove everything from the cache; models are compiled anew when they are next used."""
    cache = _module().Cache()
    entries, num_bytes = cache.clear()
    left, _ = cache.size()
    if as_json:
        print_json({"folder": str(cache.directory), "entries": entries, "bytes": num_bytes, "left": left})
    else:
        _say(f"removed {_counted(entries)}, {num_bytes / MB:,.1f} MB, from {cache.directory}")
    if left:
        tell(f"note: {_counted(left)} left in {cache.directory}: not yours to remove, or added just now.")


def _counted(entries: int) -> str:
    return "1 entry" if entries == 1 else f"{entries:,} entries"


def _say(line: str) -> None:
    console().print(line, markup=False, soft_wrap=True)


def _module() -> ModuleType:
    # The engine's package imports torch, which takes seconds; this one file of it needs nothing.
    path = Path(ppl_models.__file__).parent / "engine" / "cache.py"
    spec = importlib.util.spec_from_file_location("ppl_models_cache_alone", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
