"""(b) Seconds of one step of the autoencoder, float32, on one thread and on two."""

from race.processes import Crew, Entrant, Row, take_turns
from race.settings import Settings

TITLE = (
    "Autoencoder 784-400-20, batch of 128, float32, Adam; all with the ELBO at one sampled code (log q - log p), "
    "batches from the same DataLoader in memory"
)
BATCH = 128


def run(settings: Settings) -> list[Row]:
    """One race for each number of threads."""
    rows = []
    for threads in (1,) if settings.quick else (1, 2):
        with Crew() as crew:
            rows += take_turns(crew, {"threads": threads}, _entrants(settings, threads), settings)
    return rows


def _entrants(settings: Settings, threads: int) -> list[Entrant]:
    task = {"batch": BATCH, "batches": 20, "target": 2.5 * settings.target}
    job = "autoencoder_steps"
    ours = [Entrant(name, "ours", job, {**task, "backend": name}, threads) for name in settings.backends]
    by_hand = Entrant("torch", "torch_loop", job, {**task, "fused": False}, threads)
    fused = Entrant("torch_fused", "torch_loop", job, {**task, "fused": True}, threads)
    return [*ours, by_hand, fused, Entrant("pyro", "pyro", job, task, threads)]
