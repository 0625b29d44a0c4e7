"""`ppl-models check` and `ppl-models compare`."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ppl_models.cli.naming import all_guides, resolve_guide
from ppl_models.cli.output import command, console, print_json, quiet_stdout
from ppl_models.cli.problems import Json
from ppl_models.cli.study import Settings, Study, study

if TYPE_CHECKING:
    from ppl_models.catalogue import Problem
    from ppl_models.report.evidence import Evidence

DEFAULT_GUIDES = ("normal", "full_rank", "handwritten")
REJECTED = 3

Baseline = Annotated[bool, typer.Option("--baseline/--no-baseline", help="Judge against MCMC draws.")]
OWN = "The problem's own if not given."
Chains = Annotated[int, typer.Option(help="Chains of the baseline.")]
Warmup = Annotated[int | None, typer.Option(help=f"Warm-up draws per chain, thrown away. {OWN}")]
Draws = Annotated[int | None, typer.Option(help=f"Draws kept per chain. {OWN}")]
TargetAccept = Annotated[
    float | None, typer.Option(help=f"Acceptance that warm-up aims at; nearer to 1 for funnels. {OWN}")
]
Kernel = Annotated[str, typer.Option(help="Kernel of the baseline: nutpie or pyro_nuts.")]
Backend = Annotated[str, typer.Option(help="What computes the log density: auto, inductor or eager.")]
MaxSteps = Annotated[int | None, typer.Option(help="Most SVI steps of a fit; the library chooses.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]


@command
def check(
    names: Annotated[list[str], typer.Argument(help="Problems, as `list` names them.", metavar="NAME...")],
    guide: Annotated[
        list[str] | None, typer.Option(help="A guide of the problem or an automatic family; repeat for several.")
    ] = None,
    baseline: Baseline = True,
    chains: Chains = 4,
    warmup: Warmup = None,
    draws: Draws = None,
    target_accept: TargetAccept = None,
    kernel: Kernel = "nutpie",
    backend: Backend = "auto",
    max_steps: MaxSteps = None,
    seed: Seed = 0,
    output: Annotated[Path, typer.Option(help="Folder of the HTML reports.")] = Path("out"),
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 when a fit is rejected.")] = False,
    as_json: Json = False,
) -> None:
    """Fit guides to problems, judge every fit, and write one HTML report per problem.

    The guides are normal, full_rank and handwritten unless --guide names others. Exit code 1 when a guide could not be
    fitted, 3 with --strict when a fit is rejected; the verdict changes nothing else.
    """
    with quiet_stdout(as_json):
        from ppl_models.catalogue import load

        problems = [load(name) for name in dict.fromkeys(names)]
        for problem in problems:
            _refuse_networks(problem, "check", baseline=baseline, named=bool(guide))
        wanted = list(dict.fromkeys(guide or DEFAULT_GUIDES))
        for problem in problems:  # a mistyped name must not cost a minute
            for name in wanted:
                resolve_guide(problem, name)
        _check_folder(output)
        sampling = {"chains": chains, "warmup": warmup, "draws": draws, "target_accept": target_accept}
        settings = Settings(
            sample={**sampling, "kernel": kernel, "backend": backend} if baseline else None,
            fit={"max_steps": "auto" if max_steps is None else max_steps},
            seed=seed,
        )
        documents, studies, baselines = [], [], {}
        for problem in problems:
            found = study(problem, wanted, settings, baselines=baselines)
            path = _write(found, output) if found.judged else None
            studies.append(found)
            documents.append(_document(found, path))
            if not as_json:
                _print(found, path)
    if as_json:
        print_json({"problems": documents})
    if any(found.failures for found in studies):
        raise typer.Exit(1)
    if strict and any(verdict.verdict == "reject" for found in studies for _, verdict in found.judged.values()):
        raise typer.Exit(REJECTED)


@command
def compare(
    name: Annotated[str, typer.Argument(help="A problem, as `list` names it.")],
    guide: Annotated[
        list[str] | None, typer.Option(help="Compare these alone; repeat. All families and own guides if not given.")
    ] = None,
    baseline: Baseline = True,
    chains: Chains = 4,
    warmup: Warmup = None,
    draws: Draws = None,
    target_accept: TargetAccept = None,
    kernel: Kernel = "nutpie",
    backend: Backend = "auto",
    max_steps: MaxSteps = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Fit every automatic family and the problem's own guides, and rank them by their ELBO."""
    with quiet_stdout(as_json):
        from ppl_models.catalogue import load

        problem = load(name)
        _refuse_networks(problem, "compare", baseline=baseline, named=bool(guide))
        wanted = list(dict.fromkeys(guide or all_guides(problem)))
        for one in wanted:
            resolve_guide(problem, one)
        sampling = {"chains": chains, "warmup": warmup, "draws": draws, "target_accept": target_accept}
        settings = Settings(
            sample={**sampling, "kernel": kernel, "backend": backend} if baseline else None,
            fit={"max_steps": "auto" if max_steps is None else max_steps},
            seed=seed,
        )
        found = study(problem, wanted, settings, predictions=False)
    if as_json:
        print_json(_document(found, None))
        return
    from ppl_models.report.tables import verdict_table

    out = console()
    out.print(verdict_table(found.evidence, title=problem.title, failures=found.failures, sort_by_elbo=True))
    out.print(_stages(found), style="dim")


def _refuse_networks(problem: "Problem", verb: str, *, baseline: bool, named: bool) -> None:
    """Refuse a model that is learnt, unless single guides are asked for without MCMC, which would not learn it."""
    import torch

    from ppl_models.errors import OptionError

    model = problem.model
    learnt = isinstance(model, torch.nn.Module) and any(each.requires_grad for each in model.parameters())
    if learnt and (baseline or not named):
        raise OptionError(
            f"{verb} {problem.name}: its model has networks to learn, which a baseline by MCMC does not learn, and "
            f"latents of each row. Judge its inference row by row with `ppl-models audit {problem.name}`, or name "
            f"guides and leave the baseline out: `ppl-models {verb} {problem.name} --guide handwritten --no-baseline`."
        )


def _check_folder(folder: Path) -> None:
    from ppl_models.errors import FileError

    nearest = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    if nearest.exists() and not nearest.is_dir():
        raise FileError(f"--output {folder}: {nearest} is a file, wanted a folder. Name another one.")


def _write(found: Study, folder: Path) -> Path:
    from ppl_models.report.html import write_page

    problem = found.problem
    # names are free text, and one may come from another package
    file_name = re.sub(r"[^\w.-]+", "_", problem.name).strip(".") or "report"
    with found.timed("report"):
        return write_page(
            folder / f"{file_name}.html",
            found.evidence,
            baseline=found.baseline,
            title=problem.title,
            name=problem.name,
            cite=problem.cite,
            seconds=found.seconds,
            failures=found.failures,
        )


def _print(found: Study, path: Path | None) -> None:
    from rich.text import Text

    from ppl_models.report.tables import verdict_table, verdict_text

    out = console()
    out.print(
        verdict_table(found.evidence, title=f"{found.problem.name}: {found.problem.title}", failures=found.failures)
    )
    for evidence in found.evidence:
        verdict = evidence.verdict
        out.print(Text.assemble((f"{evidence.name}: ", "bold"), verdict_text(verdict.verdict), ". "), end="")
        out.print(Text(" ".join(verdict.reasons)))
    out.print()
    out.print(_stages(found), style="dim")
    if path is not None:
        out.print(f"report: {path}", soft_wrap=True)
    out.print()


def _stages(found: Study) -> str:
    return "time: " + ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in found.seconds.items())


def _document(found: Study, path: Path | None) -> dict[str, Any]:
    return {
        "name": found.problem.name,
        "title": found.problem.title,
        "report": None if path is None else str(path),
        "baseline": _baseline_document(found),
        "guides": [
            *(_guide_document(evidence) for evidence in found.evidence),
            *({"guide": name, "error": reason} for name, reason in found.failures.items()),
        ],
        "seconds": found.seconds,
    }


def _guide_document(evidence: "Evidence") -> dict[str, Any]:
    fitted = evidence.fit
    return {
        "guide": evidence.name,
        "status": fitted.status,
        "note": fitted.note,
        "steps": fitted.steps,
        "backend": fitted.backend,
        "seconds": fitted.seconds,
        "elbo": evidence.elbo[0],
        "elbo_mcse": evidence.elbo[1],
        **evidence.verdict.to_json(),
    }


def _baseline_document(found: Study) -> dict[str, Any] | None:
    import json

    if found.baseline is None:
        return None
    attrs = found.baseline.attrs
    kept = ("kernel", "backend", "backend_note", "compile_seconds", "sampling_time")
    return {
        **{key: attrs[key] for key in kept if key in attrs},
        "gates": json.loads(attrs.get("gates", "{}")),
        "config": json.loads(attrs.get("config", "{}")),
    }
