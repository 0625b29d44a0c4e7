"""(f) Peak memory of a fit in a new process."""

import tempfile
from pathlib import Path

from race.processes import PeerError, Row, Worker, new_row, record
from race.settings import Settings

TITLE = "Peak memory of a fit of 200 steps (MiB): the whole process, and beyond what it held before the fit"
FOOTNOTES = (
    "cold: with compiling, in empty cache folders (the compiler's own processes not counted); warm: from the cache.",
)
COUNT = 200
MOST_ROUNDS = 3
"""Memory hardly varies, and every round compiles."""
FITS = {
    "logistic": ("fit", {"model": "logistic", "guide": "normal", "sizes": {}}),
    "hierarchical": ("fit", {"model": "hierarchical", "guide": "normal", "sizes": {}}),
    "autoencoder": ("autoencoder_fit", {"batch": 128, "batches": 20}),
}


def run(settings: Settings) -> list[Row]:
    """Peers take turns, each in a new process every time."""
    rows: dict[tuple[str, str], Row] = {}
    backend = settings.backends[0]
    for index in range(min(settings.rounds, MOST_ROUNDS)):
        for model in tuple(FITS)[:1] if settings.quick else FITS:
            settings.say(f"memory: round {index + 1}, {model}")
            row = rows.setdefault((model, "pyro"), new_row({"model": model, "cache": "none"}, "pyro"))
            _attempt(row, "pyro", {}, {})
            with tempfile.TemporaryDirectory(prefix="ppl-models-cache-") as folder:
                names = ("PPL_MODELS_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")
                for cache in ("cold", "warm"):
                    row = rows.setdefault((model, cache), new_row({"model": model, "cache": cache}, backend))
                    _attempt(row, "ours", {"backend": backend}, {name: str(Path(folder) / name) for name in names})
    return list(rows.values())


def _attempt(row: Row, peer: str, task: dict, variables: dict[str, str]) -> None:
    if row["error"]:
        return
    job, fixed = FITS[row["work"]["model"]]
    try:
        with Worker(peer, variables=variables) as worker:
            before = worker.prepare(job, **fixed, **task, count=COUNT)["memory"]
            reply = worker.time(1)
    except PeerError as error:
        row["error"] = str(error)
        return
    if not before:
        row["error"] = "this system does not tell a process's memory"
        return
    peak = reply["memory"]["peak"]
    record(row, {"peak": peak, "beyond": peak - before["now"], "note": reply.get("note", "")})
