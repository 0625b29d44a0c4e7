"""Where a gradient is taken: a free expectation E_q[f], or a model with its guide, at given parameters."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from torch.distributions import constraints

from ppl_models.errors import OptionError, PPLError, first_line
from ppl_models.program import Program, isolated
from ppl_models.program.estimators import Estimator, Expected, Reparameterised
from ppl_models.program.estimators.drawing import Target, draw
from ppl_models.program.estimators.expected import SITE, Distribution, base_of, guide_of
from ppl_models.program.nodes import nodes_of

ALONE = "q"
"""Name of a parameter that has none."""
Parameters = Mapping[str, torch.Tensor] | torch.Tensor


@dataclass(frozen=True)
class Setting:
    """What is differentiated, and where.

    Attributes:
        target: the expectation, or the model with its data.
        guide: what draws for an estimator.
        enter: a Pyro world with the parameters in its store; takes a seed.
        size_hint: about how many numbers one draw holds.
    """

    target: Target
    guide: Callable[[Estimator], Callable[..., Any]]
    enter: Callable[[int], Any]
    size_hint: int

    def holders(self) -> dict[str, torch.Tensor]:
        """The tensors that hold the parameters, by name; in their world."""
        return {name: one for name, one in pyro.get_param_store().named_parameters() if one.requires_grad}

    def check(self, estimator: Estimator) -> None:
        """Refuse an estimator that cannot serve; in the world.

        Raises:
            OptionError: the message names one that can.
        """
        with plainly(self.target):
            estimator.check(self.target, self.guide(estimator))

    def ignored(self) -> list[str]:
        """Parameters on which neither the draws nor the density of q depend; in the world. Of a model none is said."""
        if not isinstance(self.target, Expected):
            return []
        holders = self.holders()
        with plainly(self.target), torch.enable_grad():
            node = nodes_of(draw(self.target, self.guide(Reparameterised())))[SITE]
            found = node["value"].sum() if node["value"].requires_grad else torch.zeros(())
            with suppress(NotImplementedError):
                found = found + node["fn"].log_prob(node["value"].detach()).sum()
            if not found.requires_grad:
                return list(holders)
            slopes = torch.autograd.grad(found, list(holders.values()), allow_unused=True)
        return [name for name, slope in zip(holders, slopes, strict=True) if slope is None]


def free_setting(
    function: Callable[[torch.Tensor], torch.Tensor],
    q: Callable[[Any], Distribution],
    parameters: Parameters,
    *,
    log_density: bool = False,
) -> Setting:
    """The expectation of a function under a distribution.

    Args:
        function: takes one draw of q, of its batch and event shape; returns a scalar.
        q: takes the parameters as they are given; returns a distribution of torch's or Pyro's.
        parameters: floating tensors by name, or one tensor.
        log_density: whether the function is a log joint density in nats, and the bound E[f(z) - log q(z)] is meant.

    Raises:
        OptionError: the parameters are no floating tensors, q gives no distribution, or f no scalar.
    """
    alone, values = _checked(parameters)
    first = next(iter(values.values()))
    target = Expected(function, first.dtype, log_density)
    names = None if alone else tuple(values)

    @contextmanager
    def enter(seed: int) -> Iterator[None]:
        with isolated(seed=seed, dtype=first.dtype, device=first.device):
            for name, value in values.items():
                pyro.param(name, value)
            yield

    def guide(estimator: Estimator) -> Callable[[], Any]:
        return guide_of(q, names, pathwise=estimator.pathwise)

    with enter(0), torch.no_grad():
        numbers = _try_once(target, q, guide_of(q, names, pathwise=False), pyro.param(ALONE) if alone else values)
    return Setting(target, guide, enter, numbers + sum(value.numel() for value in values.values()))


def model_setting(program: Program, guide: Callable[..., Any]) -> Setting:
    """A model with its guide, at the parameters that the program carries."""
    return Setting(program, lambda _: guide, lambda seed: program.isolated(seed=seed), program.size_hint)


@contextmanager
def plainly(target: Target) -> Iterator[None]:
    """Faults of a free expectation are said of f and q, which have neither a guide nor sites.

    Raises:
        OptionError: f or q failed, left torch, or is none that an estimator serves.
    """
    if not isinstance(target, Expected):
        yield
        return
    try:
        yield
    except OptionError as error:
        said = str(error)
        for sites in (f"the guide's site '{SITE}'", f"the guide's sites {SITE}"):
            said = said.replace(sites, "q")
        raise OptionError(said) from error
    except PPLError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {first_line(error)}"
        if any(words in str(error) for words in ("numpy()", "storage")):
            raise OptionError(
                f"f, q: left torch, as for NumPy ({said}). Gradients go through both, and many draws at once: write "
                "them with torch functions, such as torch.exp for np.exp."
            ) from error
        raise OptionError(
            f"f, q: failed where draws or gradients were taken ({said}). Both must work at every draw, with torch "
            "functions."
        ) from error


def _refuse_invalid(made: Distribution) -> None:
    """Raise where a parameter of a distribution is out of its range, which may be found when it draws, or never."""
    base = base_of(made)
    for name, constraint in base.arg_constraints.items():
        if constraints.is_dependent(constraint) or name not in base.__dict__:
            continue
        value = base.__dict__[name]
        inside = constraint.check(value)
        if not bool(inside.all()):
            first = value[~inside].reshape(-1)[0] if inside.shape == value.shape else value.reshape(-1)[0]
            raise OptionError(
                f"q: {type(base).__name__} has {name} {float(first):.6g} at these parameters, wanted {constraint}. Map "
                "the parameter into that range, as by exp() or softplus."
            )


def _checked(parameters: Parameters) -> tuple[bool, dict[str, torch.Tensor]]:
    alone = not isinstance(parameters, Mapping)
    values: dict[str, Any] = {ALONE: parameters} if alone else dict(parameters)
    if not values:
        raise OptionError("parameters: found none, wanted a tensor, or a dict of tensors by name.")
    for name, value in values.items():
        where = "parameters" if alone else f"parameters[{name!r}]"
        if not isinstance(value, torch.Tensor) or not value.dtype.is_floating_point:
            found = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
            raise OptionError(f"{where}: found {found}, wanted a floating tensor.")
        if not bool(torch.isfinite(value).all()):
            raise OptionError(f"{where}: not finite.")
    wide = torch.float32
    for value in values.values():
        wide = torch.promote_types(wide, value.dtype)
    return alone, {name: value.detach().to(wide) for name, value in values.items()}


def _try_once(target: Expected, q: Callable[[Any], Distribution], guide: Callable[[], Any], parameters: Any) -> int:
    """How many numbers a draw holds; q and f are run once, so that their faults are said plainly."""
    try:
        made = q(parameters)
    except PPLError:
        raise
    except Exception as error:
        raise OptionError(f"q: failed at these parameters ({type(error).__name__}: {first_line(error)}).") from error
    if not isinstance(made, torch.distributions.Distribution):
        raise OptionError(f"q: found {type(made).__name__}, wanted parameters -> a distribution of torch's or Pyro's.")
    _refuse_invalid(made)
    with plainly(target):
        drawn = nodes_of(draw(target, guide))[SITE]["value"]
    try:
        value = target.value(drawn)
    except PPLError:
        raise
    except Exception as error:
        raise OptionError(
            f"f: failed at one draw of shape {tuple(drawn.shape)} ({type(error).__name__}: {first_line(error)})."
        ) from error
    if value.shape != ():
        raise OptionError(
            f"f: one draw of shape {tuple(drawn.shape)} gave a tensor of shape {tuple(value.shape)}, wanted a scalar. "
            "f takes one draw; sum over what belongs together."
        )
    return drawn.numel()
