"""(d) Seconds to the first step of a fit in a new process, with empty caches and with filled ones."""

import tempfile
import time
from pathlib import Path

from race.processes import PeerError, Row, Worker, new_row, record
from race.settings import Settings

TITLE = "Time to the first step in a new process, normal guide: from the process's start, and from the call of fit"
FOOTNOTES = ("cold: empty cache folders; warm: filled by the cold process. numpyro compiles in each process.",)
MODELS = ("eight_schools", "logistic")


def run(settings: Settings) -> list[Row]:
    """Peers take turns; every round has new cache folders."""
    rows = {}
    for index in range(settings.rounds):
        for model in MODELS[:1] if settings.quick else MODELS:
            for backend in settings.backends:
                with tempfile.TemporaryDirectory(prefix="ppl-models-cache-") as folder:
                    for cache in ("cold", "warm"):
                        work = {"model": model, "cache": cache}
                        row = rows.setdefault((model, cache, backend), new_row(work, backend))
                        settings.say(f"first step: round {index + 1}, {model}, {backend}, {cache}")
                        _attempt(row, "ours", {"model": model, "backend": backend}, folder)
            row = rows.setdefault((model, "numpyro"), new_row({"model": model, "cache": "none"}, "numpyro"))
            settings.say(f"first step: round {index + 1}, {model}, numpyro")
            _attempt(row, "numpyro", {"model": model}, "")
    return list(rows.values())


def _attempt(row: Row, peer: str, task: dict, caches: str) -> None:
    if row["error"]:
        return
    variables = {name: str(Path(caches) / name) for name in ("PPL_MODELS_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")}
    started = time.perf_counter()
    try:
        with Worker(peer, variables=variables if caches else {}) as worker:
            worker.prepare("first_step", **task, guide="normal")
            reply = worker.time(1)
            record(row, {"process": time.perf_counter() - started, **reply})
    except PeerError as error:
        row["error"] = str(error)
