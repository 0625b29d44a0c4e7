"""Long NUTS runs of the catalogue's problems: their moments and some of their draws, kept in a folder."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

import ppl_models as ppl
from ppl_models.catalogue import Problem
from ppl_models.files import write_whole

CHAINS, KEPT = 4, 1_000
NUM_DRAWS: Mapping[str, int] = {"digits_ppca": 40_000}
"""Draws of a chain, by problem."""
DEFAULT_DRAWS = 10_000
LEAST_ESS, MOST_RHAT = 5_000.0, 1.01
"""Below, means are known to worse than 0.014 sd, and no class can be told."""
SEED = 12


def reference(problem: Problem, log_scale: tuple[str, ...], folder: Path) -> Mapping[str, np.ndarray]:
    """The reference of a problem, made where the folder does not hold it.

    Returns:
        `mean.NAME`, `sd.NAME` of all draws, and `draws.NAME`, shape (chain, kept draw, *shape), for every latent and
        deterministic; the moments are of the logarithm for the parameters of `log_scale`.

    Raises:
        RuntimeError: NUTS did not get as far as a reference must.
    """
    source = ppl.load(problem.baseline) if problem.baseline else problem
    path = folder / f"{source.name}.npz"
    if not path.is_file():
        made = _made(source, log_scale)
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda temporary: _save(temporary, made))
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def _save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def _made(problem: Problem, log_scale: tuple[str, ...]) -> dict[str, np.ndarray]:
    draws = NUM_DRAWS.get(problem.name, DEFAULT_DRAWS)
    options = {**problem.sampling, "draws": draws, "chains": CHAINS}
    tree = ppl.sample(problem.model, problem.data, seed=SEED, **options)
    _check(problem.name, tree.attrs["gates"])
    found = {}
    for name, array in tree["posterior"].data_vars.items():
        values = array.to_numpy().astype(float)
        scored = np.log(values) if name in log_scale else values
        found[f"mean.{name}"] = scored.mean(axis=(0, 1))
        found[f"sd.{name}"] = np.where(np.ptp(scored, axis=(0, 1)) == 0.0, 0.0, scored.std(axis=(0, 1), ddof=1))
        found[f"draws.{name}"] = values[:, :: draws // KEPT]
    return found


def _check(name: str, gates: str) -> None:
    found = {gate: of["value"] for gate, of in json.loads(gates).items()}
    rhat, ess = found["R-hat"], found["bulk ESS"]
    if rhat is None or ess is None or rhat > MOST_RHAT or ess < LEAST_ESS:
        raise RuntimeError(f"{name}: NUTS gave R-hat {rhat} and bulk ESS {ess}, wanted {MOST_RHAT} and {LEAST_ESS}.")
