"""Posteriors of other data by an amortised guide, whose parameters serve them as they are."""

import time
from dataclasses import replace

import numpy as np

from ppl_models.engine import EAGER
from ppl_models.errors import GuideError
from ppl_models.inference.fit_result import Fit
from ppl_models.inference.fitting import put_together
from ppl_models.inference.guides import resolve_guide
from ppl_models.inference.preparation import first_guide_run
from ppl_models.inference.prepared import prepare
from ppl_models.inference.ran import Ran
from ppl_models.inference.refitting.spec import RefitSpec
from ppl_models.program import Data, Parameters, build_program
from ppl_models.seeds import child_seed

NOTE = "the amortised guide as it is, not refitted"


class Amortised:
    """The fitted guide at other data.

    Args:
        spec: what made the fit, with its parameters.

    Raises:
        GuideError: the guide has a parameter that the fit has not.
    """

    def __init__(self, spec: RefitSpec):
        self.spec = spec
        self._prepared = prepare(spec.model, spec.data, spec.options)
        program, settings = self._prepared.program, self._prepared.settings
        with program.isolated(seed=child_seed(settings["seed"], "fit"), full_data=False):
            self._resolved = resolve_guide(
                self._prepared.guide, program, {}, self._prepared.memo, settings["init_scale"]
            )
            first_guide_run(self._resolved, program)
            fresh = Parameters.from_store()
        learnt = spec.parameters or {}
        missing = sorted(fresh.values.keys() - learnt.keys())
        if missing:
            raise GuideError(f"amortised: the fit has no parameter '{missing[0]}' of its guide. Pass the guide fitted.")
        values = {name: learnt[name] for name in fresh.values}
        self._parameters = Parameters(values, fresh.supports, fresh.holders)

    def refit(self, data: Data, seed: int) -> Fit:
        """The guide at other data, which may have other shapes than the fit's."""
        started = time.perf_counter()
        program = build_program(
            self._prepared.program.model,  # whose modules the learnt parameters belong to
            data,
            dtype=self._prepared.program.dtype,
            seed=child_seed(seed, "program"),
            device=self._prepared.program.device,
        )
        options = replace(self.spec.options, seed=seed)
        prepared = replace(
            self._prepared, program=program, options=options, settings={**self._prepared.settings, "seed": seed}
        )
        ran = Ran(
            losses=np.zeros(0),
            status=self.spec.status,
            constant_phase=(0, 0),
            note=NOTE,
            backend=EAGER,
            timing={},
            config={"num_particles": 0, "elbo": "", "optimizer": "", "preconditioned": False, "trial_steps": 0},
            evaluations=0,
        )
        guide = self._resolved.guide
        return put_together(prepared, self._resolved, guide, ran, self._parameters, started, 0.0)
