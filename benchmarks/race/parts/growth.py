"""(e) How the time of an SVI step grows with rows, latents and particles."""

from dataclasses import replace

from race.parts.svi_steps import entrants
from race.processes import Crew, Row, take_turns
from race.settings import Settings

TITLE = "Growth of an SVI step: normal guide, Adam, float64, one thread"
FOOTNOTES = (
    "pyro's particles are vectorised, on a form of the model that broadcasts; ours and numpyro's model is X @ b.",
)
ROWS = (100, 1_000, 10_000, 100_000, 1_000_000)
LATENTS = (10, 100, 1_000, 10_000, 100_000)
PARTICLES = (1, 16, 128, 1_024)


def run(settings: Settings) -> list[Row]:
    """Each size in its own race, over the first backend only."""
    settings = replace(settings, backends=settings.backends[:1], target=settings.target / 2)
    rows = []
    with Crew() as crew:
        for work, task in _tasks(1 if settings.quick else None):
            task = {"guide": "normal", "sizes": {}, "particles": 1, **task}
            rows += take_turns(crew, work, entrants(settings, task), settings)
    return rows


def _tasks(most: int | None) -> list[tuple[dict, dict]]:
    return [
        *(
            ({"model": "logistic", "grows": "rows", "size": n}, {"model": "logistic", "sizes": {"rows": n}})
            for n in ROWS[:most]
        ),
        *(
            (
                {"model": "normal_means", "grows": "latents", "size": n},
                {"model": "normal_means", "sizes": {"latents": n}},
            )
            for n in LATENTS[:most]
        ),
        *(
            ({"model": model, "grows": "particles", "size": n}, {"model": model, "particles": n})
            for model in ("eight_schools", "logistic")
            for n in PARTICLES[:most]
        ),
    ]
