"""(d) Seconds to the first step of a fit in a new process, with empty caches and with filled ones."""

import tempfile
import time
from pathlib import Path

from race.processes import PeerError, Row, Worker, new_row, record
from race.settings import Settings

TITLE = "Time to the first step in a new process, normal guide: from the process's start, and from the call of fit"
FOOTNOTES = ("cold: empty cache folders; warm: filled by the cold process. numpyro compiles in each process.",)
MODELS = ("eight_schools", "logistic")
"""Backends but the first are timed on the first model alone: compiling takes long."""


def run(settings: Settings) -> list[Row]:
    """Peers take turns; every round has new cache folders."""
    first, *others = settings.backends
    tasks = [(model, first) for model in MODELS] + [(MODELS[0], backend) for backend in others]
    if settings.quick:
        tasks = tasks[:1]
    rows: dict[tuple[str, str, str], Row] = {}

    def attempt(index: int, model: str, cache: str, peer: str, task: dict, caches: str = "") -> None:
        settings.say(f"first step: round {index + 1}, {model}, {peer}, {cache}")
        row = rows.setdefault((model, cache, peer), new_row({"model": model, "cache": cache}, peer))
        _attempt(row, "ours" if caches else peer, {"model": model, "guide": "normal", **task}, caches)

    for index in range(settings.rounds):
        for model, backend in tasks:
            with tempfile.TemporaryDirectory(prefix="ppl-models-cache-") as folder:
                for cache in ("cold", "warm"):
                    attempt(index, model, cache, backend, {"backend": backend}, folder)
        for model in dict.fromkeys(model for model, _ in tasks):
            attempt(index, model, "none", "numpyro", {})
    return list(rows.values())


def _attempt(row: Row, peer: str, task: dict, caches: str) -> None:
    if row["error"]:
        return
    variables = {name: str(Path(caches) / name) for name in ("PPL_MODELS_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")}
    started = time.perf_counter()
    try:
        with Worker(peer, variables=variables if caches else {}) as worker:
            worker.prepare("first_step", **task)
            reply = worker.time(1)
            record(row, {"process": time.perf_counter() - started, **reply})
    except PeerError as error:
        row["error"] = str(error)
