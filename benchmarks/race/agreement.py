"""Whether all peers run the same models: log joint densities at the same points, up to a constant."""

from rich.table import Table

from race.processes import PeerError, Worker

MODELS = {
    "eight_schools": ("numpyro", "pymc"),
    "logistic": ("numpyro", "pymc"),
    "hierarchical": ("numpyro",),
    "horseshoe": ("numpyro",),
    "gaussian_process": ("numpyro",),
    "normal_means": ("numpyro",),
}
"""Who is compared with Pyro."""
POINTS = 4
TOLERANCE = 1e-9


def check() -> Table:
    """Compare at prior draws; the table says agree, DIFFER or failed."""
    table = Table(
        "model", "peer", "largest relative difference", "", title="Log densities beside Pyro's, up to a constant"
    )
    with Worker("pyro") as pyro:
        for model, peers in MODELS.items():
            pyro.prepare("prior", model=model, count=POINTS)
            points = pyro.time(1)["points"]
            pyro.prepare("log_density", model=model, points=points)
            wanted = pyro.time(1)["log_density"]
            for name in peers:
                try:
                    with Worker(name) as worker:
                        worker.prepare("log_density", model=model, points=points)
                        difference = relative_difference(worker.time(1)["log_density"], wanted)
                except PeerError as error:
                    table.add_row(model, name, "", f"failed: {error}")
                else:
                    word = "agree" if difference <= TOLERANCE else "[bold]DIFFER[/bold]"
                    table.add_row(model, name, f"{difference:.2g}", word)
    return table


def relative_difference(found: list[float], wanted: list[float]) -> float:
    """Largest disagreement about how the density changes from the first point, relative to its size.

    Args:
        found: log densities of a peer in nats, one per point.
        wanted: those that it is compared with.
    """
    scale = max(abs(value) for value in wanted)
    return max(abs((a - found[0]) - (b - wanted[0])) for a, b in zip(found, wanted, strict=True)) / scale
