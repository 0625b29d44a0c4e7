"""Draw docs/funnel.png: a mean-field guide and NUTS on the eight schools' funnel."""

from pathlib import Path

import ppl_models as ppl
from ppl_models.files import write_whole
from ppl_models.report import gather
from ppl_models.report.figures import pair_figure

TARGET = Path(__file__).parents[1] / "docs" / "funnel.png"


def main() -> None:
    centred, shifted = ppl.load("eight_schools_centered"), ppl.load("eight_schools_noncentered")
    labels = {"coords": centred.coords, "dims": centred.dims}
    fit = ppl.fit(centred.model, centred.data, guide="normal", seed=1, **labels)
    baseline = ppl.sample(shifted.model, shifted.data, seed=3, **labels)
    verdict = ppl.check(fit, baseline=baseline)
    (evidence,) = gather([(fit, verdict)], baseline, predictions=False)
    figure = pair_figure(evidence.samples, "tau", "theta[Mt. Hermon]")
    write_whole(TARGET, lambda path: figure.savefig(path, dpi=160, bbox_inches="tight"))


if __name__ == "__main__":
    main()
