"""(c) NUTS, four chains of 1,000 + 1,000: seconds of the whole run once all is compiled, and ESS per second."""

from race.processes import Crew, Entrant, Row, take_turns
from race.settings import Settings

TITLE = "NUTS, 4 chains x (1,000 + 1,000), float64, up to two cores; smallest bulk ESS; gradients of the draws alone"
FOOTNOTES = (
    "ours: ppl.sample less the compile_seconds that it reports; its checks of R-hat and ESS are in the figure. "
    "_default aims at an acceptance of 0.9, ours at 0.8 as all the others do.",
    "numpyro: a run after the one that compiled, vectorized or parallel chains (4 host devices).",
    "pymc_nutpie: nutpie.sample after building, compiling (Numba) and one run.",
    "pyro: one chain of (100 + 100), seconds and gradients times 40 (so its ESS is of 100 draws); nothing excluded.",
)
MODELS = ("eight_schools", "logistic")
PYRO_LENGTH = 100


def run(settings: Settings) -> list[Row]:
    """Each model in turn."""
    rows = []
    with Crew() as crew:
        for model in MODELS[:1] if settings.quick else MODELS:
            rows += take_turns(crew, {"model": model}, _entrants(settings, model), settings)
    return rows


def _entrants(settings: Settings, model: str) -> list[Entrant]:
    length = 200 if settings.quick else 1_000
    task = {"model": model, "chains": 4, "warmup": length, "draws": length}
    short = 20 if settings.quick else PYRO_LENGTH
    pyro = {"model": model, "chains": 1, "warmup": short, "draws": short, "scale": 4 * length / short}
    return [
        Entrant("ours", "ours", "nuts", {**task, "target_accept": 0.8}),
        Entrant("ours_default", "ours", "nuts", {**task, "target_accept": None}),
        Entrant("numpyro_vectorized", "numpyro", "nuts", {**task, "chain_method": "vectorized"}, threads=2),
        Entrant("numpyro_parallel", "numpyro", "nuts", {**task, "chain_method": "parallel"}, threads=2),
        Entrant("pymc_nutpie", "pymc", "nuts", task),
        Entrant("pyro", "pyro", "nuts", pyro),
    ]
