"""A mixture of normals in the unconstrained space, and the ELBO that draws from each component in turn."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from pyro.distributions import constraints
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide.guides import AutoContinuous, AutoGuide
from pyro.nn import PyroParam

from guides.enumeration import hide_enumerated
from guides.errors import FamilyOptionError
from guides.family import Family, Model, require_positive_integer
from guides.normal_mixture import NormalMixture

MOST_FULL = 50
"""With more latents the components' covariances are diagonal unless asked otherwise."""
SPREAD = 2.0
"""Standard deviation of the components' first locations around the initial one, in initial scales."""
FULL, DIAGONAL = "full", "diagonal"


class AutoNormalMixture(AutoContinuous):
    """z ~ sum_k w_k N(m_k, L_k L_kᵀ), weights, locations and factors learnt.

    Any ELBO of Pyro that has a score function serves it (`Trace_ELBO`, `TraceEnum_ELBO`): the component is drawn at
    random. `StratifiedTrace_ELBO` takes every component in turn instead, which has less noise by far: the weights get
    their gradient without a score function. The components begin apart from one another, or they would stay the same.

    Args:
        model: A Pyro model.
        init_loc_fn: Initial value of a site.
        init_scale: Initial scale of the unconstrained latents, in each component.
        num_components: Number of components.
        covariance: "full" or "diagonal" in each component; None for full up to 50 latents.

    Morningstar et al. (2021), Automatic differentiation variational inference with mixtures.
    """

    scale_constraint = constraints.softplus_positive
    scale_tril_constraint = constraints.unit_lower_cholesky

    def __init__(
        self,
        model: Model,
        *,
        init_loc_fn: Any,
        init_scale: float = 0.1,
        num_components: int = 3,
        covariance: str | None = None,
    ):
        super().__init__(model, init_loc_fn=init_loc_fn)
        self._init_scale = init_scale
        self._num_components = num_components
        self._covariance = covariance
        self._component: int | None = None

    def _setup_prototype(self, *args: Any, **kwargs: Any) -> None:
        super()._setup_prototype(*args, **kwargs)
        count, loc = self._num_components, self._init_loc()
        offsets = SPREAD * self._init_scale * torch.randn(count, len(loc), dtype=loc.dtype, device=loc.device)
        self.locs = torch.nn.Parameter(loc + (offsets if count > 1 else 0.0 * offsets))
        self.scales = PyroParam(torch.full_like(self.locs.detach(), self._init_scale), self.scale_constraint)
        if self._covariance == FULL or (self._covariance is None and len(loc) <= MOST_FULL):
            unit = torch.eye(len(loc)).to(loc).repeat(count, 1, 1)
            self.scale_trils = PyroParam(unit, self.scale_tril_constraint)
        self.weights = PyroParam(torch.full((count,), 1.0 / count).to(loc), constraints.simplex)

    def get_posterior(self, *args: Any, **kwargs: Any) -> NormalMixture:
        """The mixture over all latents, unconstrained and in one vector."""
        factors: Any = self.scales  # PyroParams read as their tensors
        if "scale_trils" in self._pyro_params:
            factors = factors[..., None] * self.scale_trils
        weights: Any = self.weights
        return NormalMixture(weights, self.locs, factors, self._component)

    def strata(self, *args: Any, **kwargs: Any) -> Sequence[tuple[torch.Tensor, Callable[..., Any]]]:
        """The components, to be drawn from one by one: an expectation is the weighted sum of those over the strata.

        Args:
            args: the model's.
            kwargs: the model's.

        Returns:
            Pairs of a weight and a guide. That guide, called with the model's arguments, draws the latents from one
            component, reparameterised, while its density is that of the whole mixture.
        """
        if self.prototype_trace is None:
            self(*args, **kwargs)
        with self._pyro_context:
            weights: Any = self.weights
        return [(weight, self._stratum(number)) for number, weight in enumerate(weights.unbind())]

    def _stratum(self, number: int) -> Callable[..., Any]:
        def stratum(*args: Any, **kwargs: Any) -> Any:
            with self._drawn_from(number):
                return self(*args, **kwargs)

        return stratum

    @contextmanager
    def _drawn_from(self, number: int) -> Iterator[None]:
        before, self._component = self._component, number
        try:
            yield
        finally:
            self._component = before


class StratifiedTrace_ELBO(Trace_ELBO):  # noqa: N801 (named like Pyro's)
    """Pyro's `Trace_ELBO` for a guide with `strata`: sum_k w_k E_k[log p - log q], each component drawn from in turn.

    The gradient is that of the sum itself, weights included, with no score function; every stratum must be
    reparameterised, and the model may have no enumerated site.

        svi = SVI(model, guides.make("mixture", model), Adam({"lr": 0.01}), StratifiedTrace_ELBO())

    Roeder et al. (2017), Sticking the landing, section 5; Morningstar et al. (2021), Automatic differentiation
    variational inference with mixtures.
    """

    def loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        """Negative ELBO estimate in nats."""
        with torch.no_grad():
            return float(self.differentiable_loss(model, guide, *args, **kwargs))

    def loss_and_grads(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        """Negative ELBO estimate in nats; its gradients are added to those of the parameters."""
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        loss.backward(retain_graph=self.retain_graph)
        return float(loss.detach())

    def differentiable_loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Negative ELBO estimate in nats, with its graph; `num_particles` draws of every component."""
        total: Any = 0.0
        for weight, stratum in guide.strata(*args, **kwargs):
            for model_trace, guide_trace in self._get_traces(model, stratum, args, kwargs):
                ratio = model_trace.log_prob_sum() - guide_trace.log_prob_sum()
                total = total - weight * ratio / self.num_particles
        return total


def _build(
    model: Model, init_loc_fn: Any, init_scale: float, num_components: int = 3, covariance: str | None = None
) -> AutoGuide:
    require_positive_integer("num_components", num_components)
    if covariance not in (None, FULL, DIAGONAL):
        raise FamilyOptionError(f"option 'covariance': {covariance!r}, wanted 'full', 'diagonal' or None.")
    return AutoNormalMixture(
        hide_enumerated(model),
        init_loc_fn=init_loc_fn,
        init_scale=init_scale,
        num_components=num_components,
        covariance=covariance,
    )


MIXTURE = Family(
    name="mixture",
    summary="A mixture of normals in the unconstrained space, weights learnt: several modes, or one of any shape.",
    cite="Morningstar et al. (2021), Automatic differentiation variational inference with mixtures",
    build=_build,
    options={
        "num_components": "default 3: number of normals",
        "covariance": 'default None: of each normal, "full" or "diagonal"; full up to 50 latents',
    },
)
