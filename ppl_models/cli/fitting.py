"""`ppl-models fit`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ppl_models.cli.naming import resolve_guide
from ppl_models.cli.output import command, console, on_terminal, print_json, quiet_stdout
from ppl_models.cli.problems import Json

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from ppl_models.catalogue import Problem
    from ppl_models.inference import Fit


@command
def fit(
    name: Annotated[str, typer.Argument(help="A problem, as `list` names it.")],
    guide: Annotated[str, typer.Option(help="A guide of the problem, or an automatic family.")] = "handwritten",
    max_steps: Annotated[int | None, typer.Option(help="Most SVI steps; the library chooses.")] = None,
    step_size: Annotated[float | None, typer.Option(help="First step size of Adam; the library looks for one.")] = None,
    num_particles: Annotated[int | None, typer.Option(help="ELBO particles per step; the library chooses.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    draws: Annotated[int, typer.Option(help="Draws of the fit, for the summary and --output.")] = 4_000,
    output: Annotated[Path | None, typer.Option(help="Write the draws to this NetCDF file.")] = None,
    save: Annotated[Path | None, typer.Option(help="Write the fit to this file, for ppl_models.load_fit.")] = None,
    as_json: Json = False,
) -> None:
    """Fit one guide to a problem, and summarise its draws. It does not judge the fit: see `check`."""
    with quiet_stdout(as_json):
        from ppl_models.catalogue import load
        from ppl_models.options import check_count
        from ppl_models.posterior import to_netcdf

        problem = load(name)
        resolve_guide(problem, guide)  # a mistyped name comes before the other options
        check_count("draws", draws, least=2)
        given = {"max_steps": max_steps, "step_size": step_size, "num_particles": num_particles}
        fitted = fit_problem(problem, guide, seed, given)
        tree = fitted.sample(draws, seed=seed)
        summary = _summary(tree)
        saved = {
            "output": None if output is None else str(to_netcdf(tree, output)),
            "save": None if save is None else str(fitted.save(save)),
        }
    if as_json:
        losses = fitted.losses
        print_json(
            {
                "problem": problem.name,
                "guide": guide,
                "status": fitted.status,
                "note": fitted.note,
                "steps": fitted.steps,
                "objective": fitted.objective,
                "elbo": -float(losses[-100:].mean())
                if len(losses) and not fitted.objective.startswith("objective (")
                else None,
                "backend": fitted.backend,
                "seconds": fitted.seconds,
                "config": dict(fitted.config),
                "summary": _records(summary),
                **saved,
            }
        )
        return
    from ppl_models.report.tables import summary_table

    out = console()
    out.print(repr(fitted), markup=False)
    out.print()
    out.print(summary_table(summary, title=f"{draws:,} draws"))
    for path in filter(None, saved.values()):
        out.print(f"written: {path}", soft_wrap=True, markup=False)


def fit_problem(problem: "Problem", guide: str, seed: int, given: Mapping[str, Any]) -> "Fit":
    """Fit a guide to a problem with the problem's own options.

    Args:
        problem: what is fitted.
        guide: one of its guides, or an automatic family.
        seed: of everything random.
        given: options that come before the problem's; None for those not given.
    """
    from ppl_models.workflow import fit as fit_model

    options = {option: value for option, value in given.items() if value is not None}
    found = fit_model(
        problem.model,
        problem.data,
        guide=resolve_guide(problem, guide),
        init_scale=problem.initial_scale,
        seed=seed,
        coords=problem.coords,
        dims=problem.dims,
        progress=on_terminal(),
        **{**problem.fit_options(guide), **options},
    )
    if found.status == "interrupted":
        raise KeyboardInterrupt
    return found


def _summary(tree: "xr.DataTree") -> "pd.DataFrame":
    """Mean, sd and quantiles of every scalar parameter."""
    import numpy as np
    import pandas as pd

    from ppl_models.diagnostics.labelled import labelled_draws

    found = labelled_draws(tree["posterior"].to_dataset())
    values = found.values.reshape(-1, len(found.labels))
    low, median, high = np.quantile(values, [0.05, 0.5, 0.95], axis=0)
    columns = {"mean": values.mean(axis=0), "sd": values.std(axis=0, ddof=1), "5 %": low, "50 %": median, "95 %": high}
    return pd.DataFrame(columns, index=pd.Index(found.labels, name="parameter"))


def _records(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    return [{"parameter": str(label), **dict(row)} for label, row in frame.iterrows()]
