"""Independent Student-t distributions in the unconstrained space, each with its own degrees of freedom."""

from contextlib import ExitStack
from operator import attrgetter
from typing import Any, NoReturn

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions import constraints
from pyro.distributions.util import sum_rightmost
from pyro.infer.autoguide import AutoGuide, AutoNormal
from pyro.infer.autoguide.utils import deep_setattr
from pyro.nn import PyroModule, PyroParam
from torch.distributions import biject_to

from guides.enumeration import hide_enumerated
from guides.family import CREATE_PLATES, Family, Model
from guides.polar_t import polar_t, t_log_density

LEAST_DF = 2.0
"""Degrees of freedom stay above this, so that the variance exists."""
INITIAL_DF = 10.0


class PolarStudentT(dist.StudentT):
    """A Student-t drawn from standard normals alone, differentiable in df, that remembers its latest draw."""

    _value: torch.Tensor | None = None
    _standard: torch.Tensor | None = None

    def rsample(self, sample_shape: Any = ()) -> torch.Tensor:
        """A reparameterised draw, shape (*sample_shape, *batch_shape)."""
        df: Any = self.df
        shape = self._extended_shape(torch.Size(sample_shape))
        noise = torch.randn((*shape, 2), dtype=df.dtype, device=df.device)
        standard = polar_t(noise, df)[..., 0]
        value = self.loc + self.scale * standard
        self._value, self._standard = value, standard
        return value

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log density in nats, shape (*sample_shape, *batch_shape)."""
        if self._validate_args:
            self._validate_sample(value)
        scale: Any = self.scale
        drawn = self._standard if value is self._value else None
        standard: Any = (value - self.loc) / scale if drawn is None else drawn
        return t_log_density(standard.square(), self.df, 1) - scale.log()


class AutoStudentT(AutoNormal):
    """z = loc + scale * t, each t its own Student-t; loc, scale and df are learnt for every unconstrained latent.

    Laid out like Pyro's `AutoNormal`, with `dfs` beside `locs` and `scales`, and as much at home in subsampled plates.
    df = 2 + exp(parameter) stays above 2, so that the variance exists; it is not bounded above, where the family is
    the mean-field normal.
    """

    df_constraint = constraints.greater_than(LEAST_DF)

    def _setup_prototype(self, *args: Any, **kwargs: Any) -> None:
        super()._setup_prototype(*args, **kwargs)
        self.dfs = PyroModule()
        for name, event_dim in self._event_dims.items():
            df = torch.full_like(attrgetter(name)(self.locs).detach(), INITIAL_DF)
            deep_setattr(self.dfs, name, PyroParam(df, self.df_constraint, event_dim))

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        """Sample every latent of the model.

        Args:
            args: the model's.
            kwargs: the model's.

        Returns:
            Constrained values by site.
        """
        if self.prototype_trace is None:
            self._setup_prototype(*args, **kwargs)
        plates = self._create_plates(*args, **kwargs)
        trace: Any = self.prototype_trace
        result = {}
        for name, site in trace.iter_stochastic_nodes():
            with ExitStack() as stack:
                for frame in site["cond_indep_stack"]:
                    if frame.vectorized:
                        stack.enter_context(plates[frame.name])
                result[name] = self._sample_site(name, site["fn"])
        return result

    def _sample_site(self, name: str, prior: Any) -> torch.Tensor:
        loc, scale = self._get_loc_and_scale(name)
        unconstrained = pyro.sample(
            name + "_unconstrained",
            PolarStudentT(attrgetter(name)(self.dfs), loc, scale).to_event(self._event_dims[name]),
            infer={"is_auxiliary": True},
        )
        transform = biject_to(prior.support)
        value = transform(unconstrained)
        log_density: Any = 0.0
        if poutine.get_mask() is not False:
            log_density = transform.inv.log_abs_det_jacobian(value, unconstrained)
            log_density = sum_rightmost(log_density, log_density.dim() - value.dim() + prior.event_dim)
        return pyro.sample(name, dist.Delta(value, log_density=log_density, event_dim=prior.event_dim))

    def quantiles(self, quantiles: Any, *args: Any, **kwargs: Any) -> NoReturn:
        """Not to be had in closed form.

        Raises:
            NotImplementedError: always; the quantiles of draws are.
        """
        raise NotImplementedError("student_t: quantiles have no closed form. Take those of the guide's draws.")


def _build(model: Model, init_loc_fn: Any, init_scale: float, **options: Any) -> AutoGuide:
    return AutoStudentT(hide_enumerated(model), init_loc_fn=init_loc_fn, init_scale=init_scale, **options)


STUDENT_T = Family(
    name="student_t",
    summary="Independent Student-t's in the unconstrained space, degrees of freedom (over 2) learnt: heavy tails.",
    cite="Liang et al. (2022), Fat-tailed variational inference with anisotropic tail adaptive flows",
    build=_build,
    options={"create_plates": CREATE_PLATES},
)
