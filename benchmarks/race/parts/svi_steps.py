"""(a) Seconds of one SVI step: one particle, Adam, float64, one thread."""

from race.processes import Crew, Entrant, Row, take_turns
from race.settings import Settings

TITLE = "SVI step: 1 particle, Adam, float64, one thread; Pyro with validation off, NumPyro's loop compiled"
MODELS = ("eight_schools", "logistic", "hierarchical", "horseshoe", "gaussian_process")
GUIDES = ("normal", "full_rank")
SMALL = ("eight_schools", "logistic")
"""Models whose step Pyro spends on its own bookkeeping."""


def run(settings: Settings) -> list[Row]:
    """Every model with every guide."""
    models, guides = (SMALL, GUIDES[:1]) if settings.quick else (MODELS, GUIDES)
    rows = []
    with Crew() as crew:
        for model in models:
            for guide in guides:
                work = {"model": model, "guide": guide}
                rows += take_turns(crew, work, entrants(settings, {**work, "sizes": {}, "particles": 1}), settings)
    return rows


def entrants(settings: Settings, task: dict) -> list[Entrant]:
    """This library's backends, NumPyro and Pyro on one task."""
    task = {**task, "target": settings.target}
    ours = [Entrant(name, "ours", "steps", {**task, "backend": name}) for name in settings.backends]
    return [*ours, Entrant("numpyro", "numpyro", "steps", task), Entrant("pyro", "pyro", "steps", task)]
