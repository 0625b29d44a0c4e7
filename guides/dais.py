"""Differentiable annealed importance sampling: a normal moved towards the posterior by learnt Hamiltonian steps."""

import math
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.distributions.util import eye_like
from pyro.infer.autoguide.guides import AutoContinuous, AutoGuide
from pyro.nn import PyroParam

from guides.enumeration import hide_enumerated, is_enumerated
from guides.errors import FamilyOptionError, UnsuitableModelError
from guides.family import Family, Model, require_positive_integer
from guides.plates import Walk
from guides.supports import fixed_support, site_at, transforms_at
from guides.unconstrained_density import UnconstrainedDensity

BASES = ("auto", "diagonal", "dense")


class AutoAnnealed(AutoContinuous):
    """Uncorrected Hamiltonian annealing from a normal to the posterior, as a guide.

    With z the unconstrained latents, L the root of the base's covariance and v = L⁻¹(z - loc), a draw is made so:

        v_0 ~ N(0, I),  r_0 ~ N(0, I),
        r'_k = c r_(k-1) + sqrt(1 - c²) e_k,  e_k ~ N(0, I)        (k = 2, ..., K; r'_1 = r_0),
        (v_k, r_k) = T_k(v_(k-1), r'_k)                            (k = 1, ..., K),

    where T_k is one leapfrog step for the density q_0^(1 - b_k) p^(b_k), p the model's joint density. The steps are not
    corrected; T_k preserves volume, whatever the gradient. Refreshing is reversible for N(0, I): its density satisfies
    m(r' | r) N(r) = m(r | r') N(r'). Take for the backward process, given v_K ~ p and r_K ~ N(0, I), the inverse steps
    with the refreshments m(r_(k-1) | r'_k). The ratio of the two joint densities is then

        w = p(x, z_K) N(r_K) / (q_0(z_0) N(r_0)) · Π_(k=2..K) m(r_(k-1) | r'_k) / m(r'_k | r_(k-1))
          = p(x, z_K) / q_0(z_0) · Π_(k=1..K) N(r_k) / N(r'_k),

    since each factor of the product is N(r_(k-1)) / N(r'_k). So E[w] = p(x) exactly, log w is an ELBO on the extended
    space, and the importance weights of draws are right. The guide's sites are z_0 and the noise (r_0, e_2, ..., e_K),
    the path's end with a log density that puts Π N(r'_k) / N(r_k) in the place of the noise's own, all auxiliary, and
    the latents: the density of all sites is p(x, z_K) / w. The latents' own density has no closed form.

    Learnt are the base, one step size per coordinate of v, the refreshment c and the schedule 0 < b_1 < ... < b_K < 1.
    The gradient runs through the steps, that is through the Hessian of log p. With plates that Pyro subsamples, steps
    and ELBO share the indices; the weights stay right, but noise of the gradient keeps the bound from closing
    (Zhang et al. 2021, section 5).

    Args:
        model: A Pyro model; its enumerated sites are summed out in the steps.
        init_loc_fn: Initial value of a site.
        init_scale: Initial scale of the base, unconstrained.
        num_steps: K.
        base: "diagonal", "dense" for a base with all covariances, or "auto": dense up to `LARGEST_DENSE` latents.

    Geffner and Domke (2021), MCMC variational inference via uncorrected Hamiltonian annealing; Zhang, Hsu, Li, Finn and
    Grosse (2021), Differentiable annealed importance sampling and the perils of gradient noise.
    """

    follows_supports = True
    scale_constraint = constraints.softplus_positive
    LARGEST_DENSE = 200
    INIT_STEP_SIZE, MAX_STEP_SIZE = 0.2, 1.0
    INIT_REFRESHMENT = 0.5

    def __init__(
        self,
        model: Callable[..., Any],
        *,
        init_loc_fn: Callable[..., Any],
        init_scale: float = 0.1,
        num_steps: int = 4,
        base: str = "auto",
    ):
        super().__init__(hide_enumerated(model), init_loc_fn=init_loc_fn)
        self._full_model = (model,)  # in a tuple, so that a module is not registered as a part of the guide
        self._init_scale = init_scale
        self._num_steps = num_steps
        self._base = base

    def _setup_prototype(self, *args: Any, **kwargs: Any) -> None:
        super()._setup_prototype(*args, **kwargs)
        prototype: Any = self.prototype_trace
        self._supports = {name: fixed_support(s["fn"].support) for name, s in prototype.iter_stochastic_nodes()}
        self.loc = torch.nn.Parameter(self._init_loc())
        self._require_whole_plates(frozenset())
        seen = self._walk(args, kwargs).elements
        self._plate_names = tuple(seen)
        self._require_whole_plates(frozenset(name for name, found in seen.items() if found.indices is not None))
        self._nesting = self._enumerated_nesting(args, kwargs)
        self.scale = PyroParam(torch.full_like(self.loc, self._init_scale), self.scale_constraint)
        if self._base == "dense" or (self._base == "auto" and 1 < self.latent_dim <= self.LARGEST_DENSE):
            self.scale_tril = PyroParam(eye_like(self.loc, self.latent_dim), constraints.unit_lower_cholesky)
        size = torch.full_like(self.loc, self.INIT_STEP_SIZE)
        self.step_size = PyroParam(size, constraints.interval(0.0, self.MAX_STEP_SIZE))
        self.schedule_logits = torch.nn.Parameter(self.loc.new_zeros(self._num_steps))
        if self._num_steps > 1:
            self.persistence = PyroParam(self.loc.new_tensor(self.INIT_REFRESHMENT), constraints.interval(0.0, 1.0))

    def _walk(self, args: Any, kwargs: Any, until: Any = None) -> Walk:
        start = self._unpacked(self.loc.detach())
        return Walk(lambda name, _: start[name], until=until).run(self._full_model[0], *args, **kwargs)

    def _require_whole_plates(self, named: frozenset[str]) -> None:
        for name, stack in self._cond_indep_stacks.items():
            for frame in stack:
                if frame.name in named or frame.size != (frame.full_size or frame.size):
                    raise UnsuitableModelError(
                        f"family 'dais': latent '{name}' lies in plate '{frame.name}', which holds a subsample, and "
                        "this family draws all latents at once. Take the family 'hierarchical', or the whole plate."
                    )

    def _enumerated_nesting(self, args: Any, kwargs: Any) -> int | None:
        """How deep the model's plates nest, where it has sites to sum out; None where it has none."""
        start = self._unpacked(self.loc.detach())
        with pyro.poutine.block(), Walk(lambda name, _: start[name]):
            trace = pyro.poutine.trace(self._full_model[0]).get_trace(*args, **kwargs)
        every: Any = trace.nodes
        nodes = [node for node in every.values() if node["type"] == "sample"]
        if not any(is_enumerated(node) for node in nodes):
            return None
        return max((-f.dim for node in nodes for f in node["cond_indep_stack"] if f.vectorized), default=0)

    def _unpacked(self, flat: torch.Tensor) -> dict[str, torch.Tensor]:
        latents: Any = self._unpack_latent(flat)
        return {site["name"]: value for site, value in latents}

    def get_posterior(self, *args: Any, **kwargs: Any) -> Any:
        """The base, where draws begin; not the distribution of the latents."""
        scale: Any = self.scale  # a PyroParam reads as its tensor
        if not hasattr(self, "scale_tril"):
            return dist.Normal(self.loc, scale).to_event(1)
        return dist.MultivariateNormal(self.loc, scale_tril=scale[..., None] * self.scale_tril)

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        """A draw of every latent, by site."""
        if self.prototype_trace is None:
            self._setup_prototype(*args, **kwargs)
        elements = self._walk(args, kwargs, until=self._plate_names).elements if self._plate_names else {}
        drawn = {name for name, found in elements.items() if found.indices is None and found.stand_in is not None}
        shared = {
            name: pyro.plate(name, elements[name].size, subsample_size=elements[name].subsample_size).indices
            for name in sorted(drawn)
        }
        base = self.get_posterior()
        zeros = self.loc.new_zeros(self._num_steps, self.latent_dim)
        standard = dist.Normal(zeros, torch.ones_like(zeros)).to_event(2)
        start = pyro.sample(f"_{self._pyro_name}_start", base, infer={"is_auxiliary": True})
        noise = pyro.sample(f"_{self._pyro_name}_noise", standard, infer={"is_auxiliary": True})
        target = UnconstrainedDensity(self._full_model[0], self._unpacked, shared, self._nesting, args, kwargs)
        end, log_momenta = self._anneal(base, start, noise, target)
        log_noise = _log_normal(noise).sum(-1)
        ratio: Any = log_momenta - log_noise  # Pyro types a log density as one number
        path = dist.Delta(end, log_density=ratio, event_dim=1)
        end = pyro.sample(f"_{self._pyro_name}_end", path, infer={"is_auxiliary": True})
        values = self._unpacked(end)
        transforms = transforms_at(self._full_model[0], self._supports, values, {}, args, kwargs)
        plates = self._create_plates(*args, **kwargs)
        result = {}
        for name, site in self._sites().items():
            with ExitStack() as stack:
                for frame in self._cond_indep_stacks[name]:
                    stack.enter_context(plates[frame.name])
                result[name] = pyro.sample(name, site_at(values[name], transforms[name], site["fn"].event_dim))
        return result

    def _sites(self) -> dict[str, Any]:
        prototype: Any = self.prototype_trace
        return dict(prototype.iter_stochastic_nodes())

    def _anneal(
        self, base: Any, start: torch.Tensor, noise: torch.Tensor, target: UnconstrainedDensity
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The end of the path, and Σ log N(r'_k) - log N(r_k) over its steps, in nats."""
        step, schedule = self._step_and_schedule()
        to_v, to_z, pull_back = _coordinates(base)
        v = to_v(start)
        slope = pull_back(target.gradient(start))
        momentum = noise[..., 0, :]
        log_momenta = torch.zeros_like(momentum[..., 0])
        for k in range(self._num_steps):
            if k > 0:
                persistence: Any = self.persistence
                momentum = persistence * momentum + (1.0 - persistence**2).sqrt() * noise[..., k, :]
            log_momenta = log_momenta + _log_normal(momentum)
            b = schedule[k]
            momentum = momentum + 0.5 * step * (b * slope - (1.0 - b) * v)
            v = v + step * momentum
            slope = pull_back(target.gradient(to_z(v)))
            momentum = momentum + 0.5 * step * (b * slope - (1.0 - b) * v)
            log_momenta = log_momenta - _log_normal(momentum)
        return to_z(v), log_momenta

    def _step_and_schedule(self) -> tuple[Any, torch.Tensor]:
        # the last increment's logit is zero: a common shift of all of them would change nothing
        logits = torch.cat([self.schedule_logits, torch.zeros_like(self.schedule_logits[:1])])
        return self.step_size, torch.softmax(logits, dim=0).cumsum(dim=0)[:-1]


def _coordinates(base: Any) -> tuple[Callable, Callable, Callable]:
    """Functions to v, from v, and of a gradient by z to that by v."""
    if not isinstance(base, dist.MultivariateNormal):
        loc, scale = base.base_dist.loc, base.base_dist.scale
        return lambda z: (z - loc) / scale, lambda v: loc + scale * v, lambda slope: scale * slope
    loc, root = base.loc, base.scale_tril
    return (
        lambda z: torch.linalg.solve_triangular(root, (z - loc).unsqueeze(-1), upper=False).squeeze(-1),
        lambda v: loc + (root @ v.unsqueeze(-1)).squeeze(-1),
        lambda slope: (root.mT @ slope.unsqueeze(-1)).squeeze(-1),
    )


def _log_normal(value: torch.Tensor) -> torch.Tensor:
    """Log density of the standard normal, summed over the last axis."""
    return -0.5 * (value.square() + math.log(2.0 * math.pi)).sum(-1)


def _build(model: Model, init_loc_fn: Any, init_scale: float, num_steps: int = 4, base: str = "auto") -> AutoGuide:
    require_positive_integer("num_steps", num_steps)
    if base not in BASES:
        raise FamilyOptionError(f"option 'base': {base!r}, wanted one of {', '.join(BASES)}.")
    return AutoAnnealed(model, init_loc_fn=init_loc_fn, init_scale=init_scale, num_steps=num_steps, base=base)


DAIS = Family(
    name="dais",
    summary="A normal moved by learnt Hamiltonian steps towards the posterior; weights on an extended space.",
    cite="Geffner and Domke (2021), MCMC variational inference via uncorrected Hamiltonian annealing",
    build=_build,
    options={
        "num_steps": "default 4: number of Hamiltonian steps; each costs a gradient of the model",
        "base": "default 'auto': covariance of the normal at the beginning, 'dense' up to 200 latents, else 'diagonal'",
    },
    follows_supports=AutoAnnealed.follows_supports,
)
