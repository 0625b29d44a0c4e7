"""`ppl-models audit`."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ppl_models.cli.fitting import fit_problem
from ppl_models.cli.naming import resolve_guide
from ppl_models.cli.output import command, console, print_json, quiet_stdout, tell
from ppl_models.cli.problems import Json

if TYPE_CHECKING:
    from ppl_models.catalogue import Problem
    from ppl_models.inference import Fit
    from ppl_models.workflow.audit.audit_result import Audit

PREFERRED = ("handwritten", "amortized")


@command
def audit(
    name: Annotated[str, typer.Argument(help="A problem with a latent for each row, as `list` names it.")],
    guide: Annotated[
        str | None, typer.Option(help="An amortised guide of the problem; handwritten or amortized if not given.")
    ] = None,
    fit: Annotated[
        Path | None, typer.Option(help="A fit that `fit --save` wrote; fitted anew if not given.", exists=True)
    ] = None,
    rows: Annotated[int, typer.Option(help="Rows to audit one by one.")] = 100,
    mcmc: Annotated[bool, typer.Option("--mcmc/--no-mcmc", help="Look for each row's exact posterior.")] = True,
    max_steps: Annotated[int | None, typer.Option(help="Most SVI steps of the fit; the library chooses.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    output: Annotated[Path, typer.Option(help="Folder of the HTML page.")] = Path("out"),
    as_json: Json = False,
) -> None:
    """Audit an autoencoder: is q(z | x) any good, datum by datum, and is the model? Writes an HTML page."""
    with quiet_stdout(as_json):
        from ppl_models.catalogue import load
        from ppl_models.options import check_count
        from ppl_models.report import write_audit
        from ppl_models.workflow.audit.auditing import audit as run_audit

        problem = load(name)
        chosen = guide or next((each for each in PREFERRED if each in problem.guides), PREFERRED[-1])
        check_count("rows", rows)
        _check_amortised(problem, chosen)
        fitted = _fitted(problem, chosen, fit, max_steps, seed)
        found = run_audit(fitted, num_rows=rows, mcmc=mcmc, seed=seed)
        file_name = re.sub(r"[^\w.-]+", "_", problem.name).strip(".") or "audit"
        path = write_audit(
            found, output / f"{file_name}_audit.html", title=problem.title, name=problem.name, cite=problem.cite
        )
    if as_json:
        print_json(_document(problem, chosen, found, path))
        return
    out = console()
    out.print(repr(found), markup=False, soft_wrap=True)
    out.print(f"report: {path}", markup=False, soft_wrap=True)


def _check_amortised(problem: "Problem", name: str) -> None:
    """Families know the rows of their fit alone, which is a matter of minutes to find out."""
    from ppl_models.errors import OptionError

    resolve_guide(problem, name)
    if name not in problem.guides:
        own = ", ".join(problem.guides) or "none"
        raise OptionError(
            f"audit {problem.name}: guide '{name}' has parameters for each row of its own data; wanted an amortised "
            f"guide of the problem (it has: {own})."
        )


def _fitted(problem: "Problem", name: str, path: Path | None, max_steps: int | None, seed: int) -> "Fit":
    from ppl_models.workflow import load_fit

    if path is not None:
        spec = resolve_guide(problem, name)
        return load_fit(path, problem.model, problem.data, guide=spec, coords=problem.coords, dims=problem.dims)
    tell(f"note: fitting {problem.name} with guide '{name}'; --fit FILE takes one that `fit --save FILE` wrote.")
    return fit_problem(problem, name, seed, {"max_steps": max_steps})


def _document(problem: "Problem", guide: str, found: "Audit", path: Path) -> dict[str, Any]:
    rate, distortion, elbo = found.point.errors
    return {
        "problem": problem.name,
        "guide": guide,
        "verdict": found.verdict,
        "reasons": list(found.reasons),
        "summary": list(found.summary),
        "rate": found.point.rate,
        "rate_se": rate,
        "distortion": found.point.distortion,
        "distortion_se": distortion,
        "elbo": found.point.elbo,
        "elbo_se": elbo,
        "collapse": found.units.collapse,
        "units": [{"unit": str(name), **dict(row)} for name, row in found.units.table.iterrows()],
        "checks": [
            {
                "name": check.name,
                "value": check.value,
                "mcse": check.mcse,
                "limit": check.limit,
                "passed": check.passed,
                "detail": check.detail,
                "advice": check.advice,
            }
            for check in found.checks
        ],
        "rows": [{"row": int(str(label)), **dict(row)} for label, row in found.table.iterrows()],
        "seconds": dict(found.seconds),
        "report": str(path),
    }
