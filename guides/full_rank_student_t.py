"""A multivariate Student-t in the unconstrained space."""

from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.infer.autoguide.guides import AutoContinuous, AutoGuide
from pyro.nn import PyroParam
from torch.distributions import biject_to

from guides.enumeration import hide_enumerated
from guides.family import Family, Model
from guides.polar_t import polar_t, t_log_density
from guides.student_t import INITIAL_DF, LEAST_DF


class PolarMultivariateStudentT(dist.MultivariateStudentT):
    """A multivariate t drawn from standard normals alone, differentiable in df, that remembers its latest draw."""

    _value: torch.Tensor | None = None
    _standard: torch.Tensor | None = None

    def rsample(self, sample_shape: Any = ()) -> torch.Tensor:
        """A reparameterised draw, shape (*sample_shape, *batch_shape, dim)."""
        *shape, dim = self._extended_shape(torch.Size(sample_shape))
        noise = torch.randn((*shape, dim + dim % 2), dtype=self.loc.dtype, device=self.loc.device)
        standard = polar_t(noise, self.df)[..., :dim]
        value = self.loc + (self._unbroadcasted_scale_tril @ standard.unsqueeze(-1)).squeeze(-1)
        self._value, self._standard = value, standard
        return value

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log density in nats, shape (*sample_shape, *batch_shape)."""
        if self._validate_args:
            self._validate_sample(value)
        tril = self._unbroadcasted_scale_tril
        standard = self._standard if value is self._value else None
        if standard is None:
            away = (value - self.loc).unsqueeze(-1)
            standard = torch.linalg.solve_triangular(tril, away, upper=False).squeeze(-1)
        log_scale = tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return t_log_density(standard.square().sum(-1), self.df, self.event_shape[0]) - log_scale


class AutoMultivariateStudentT(AutoContinuous):
    """z = loc + L t, t a standard multivariate t with one learnt df for all latents, L = scale * scale_tril.

    One chi-square is behind all coordinates: far out in one direction all scales are larger. `loc`, `scale` and
    `scale_tril` are those of Pyro's `AutoMultivariateNormal`; df = 2 + exp(parameter), so that the covariance exists.

    Args:
        model: A Pyro model.
        init_loc_fn: Initial value of a site.
        init_scale: Initial scale of the unconstrained latents.
    """

    scale_constraint = constraints.softplus_positive
    scale_tril_constraint = constraints.unit_lower_cholesky
    df_constraint = constraints.greater_than(LEAST_DF)

    def __init__(self, model: Model, *, init_loc_fn: Any, init_scale: float = 0.1):
        super().__init__(model, init_loc_fn=init_loc_fn)
        self._init_scale = init_scale

    def _setup_prototype(self, *args: Any, **kwargs: Any) -> None:
        super()._setup_prototype(*args, **kwargs)
        self.loc = torch.nn.Parameter(self._init_loc())
        self.scale = PyroParam(torch.full_like(self.loc, self._init_scale), self.scale_constraint)
        self.scale_tril = PyroParam(torch.eye(self.latent_dim).to(self.loc), self.scale_tril_constraint)
        self.df = PyroParam(self.loc.new_tensor(max(INITIAL_DF, float(self.latent_dim))), self.df_constraint)

    def get_posterior(self, *args: Any, **kwargs: Any) -> PolarMultivariateStudentT:
        """The multivariate t over all latents, unconstrained and in one vector."""
        scale: Any = self.scale  # PyroParams, which type checkers do not see through
        df: Any = self.df
        return PolarMultivariateStudentT(df, self.loc, scale[..., None] * self.scale_tril)

    @torch.no_grad()
    def median(self, *args: Any, **kwargs: Any) -> Any:
        """The median of each latent, by site."""
        parts: Any = self._unpack_latent(self.loc.detach().clone())
        return {site["name"]: biject_to(site["fn"].support)(value) for site, value in parts}


def _build(model: Model, init_loc_fn: Any, init_scale: float) -> AutoGuide:
    return AutoMultivariateStudentT(hide_enumerated(model), init_loc_fn=init_loc_fn, init_scale=init_scale)


FULL_RANK_STUDENT_T = Family(
    name="full_rank_student_t",
    summary="A multivariate Student-t in the unconstrained space, dense, with one learnt degrees of freedom (over 2).",
    cite="Domke and Sheldon (2018), Importance weighting and variational inference",
    build=_build,
)
