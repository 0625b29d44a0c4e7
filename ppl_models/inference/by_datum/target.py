"""The unconstrained log density of each datum's own latents, for many points and all data at once."""

from collections.abc import Mapping, Sequence

import torch

from ppl_models.engine.backends import AUTO, COMPILERS
from ppl_models.engine.native.native import Native
from ppl_models.inference.draws import unconstrained
from ppl_models.inference.evidence.prior_likelihood import split_of
from ppl_models.inference.evidence.tempered_path import PriorStart, TemperedPath
from ppl_models.program import Program, find_rows, with_data

CHUNK = 4
"""Points of every datum in one call of compiled code; other numbers are cut and filled up to it."""
MANY = 64
"""Points in one call of interpreted operations, where there are so many: each call costs, whatever it holds."""
WORTH_COMPILING = 3_000
"""Numbers in one run of the model over all its rows; fewer are computed before a compiler has begun."""


class DatumTarget:
    """Log p(x_i, z_i) of every datum i, with the log Jacobian of unconstrained z_i, and its gradient.

    All data stand in one call of the model; the gradient of the sum over the data is each one's own. Make it, and call
    it, inside `program.isolated()`.

    Args:
        program: the model with its data; one plate must hold every site.
        backend: "auto" compiles where it can and the data are more than a few, and otherwise runs traced operations;
            "native" and "inductor" compile; "eager" runs the model itself.
        chunk: points of every datum in one call.

    Attributes:
        num_data: how many data there are.
        num_dims: unconstrained latents of one datum.
        units: their names.
        prior: the path from the prior that holds the same densities.

    Raises:
        OptionError: a site stands outside of the plate, or discrete sites are summed out.
        ModelError: the model has no density of continuous latents.
    """

    def __init__(self, program: Program, backend: str = AUTO, chunk: int = CHUNK):
        start = PriorStart(program, split_of(program, by_datum=True))
        compiled = backend == AUTO and program.size_hint >= WORTH_COMPILING and _can_compile(program)
        self.prior = TemperedPath(program, start, chunk, Native.name if compiled else backend)
        if compiled and self.prior.density.backend != Native.name:
            self.prior = TemperedPath(program, start, chunk, AUTO)
        self.program = program
        self._many: TemperedPath | None = None
        self._interpreted = self.backend not in COMPILERS
        self._given = backend
        self._asked = AUTO if compiled else backend
        self.num_data, self.num_dims = start.split.order.shape
        self.units = unit_names(program, start.split.axes)

    @property
    def backend(self) -> str:
        """What computes it."""
        return self.prior.density.backend

    def __call__(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Log densities in nats, shape (point, datum), and gradients, at points of shape (point, datum, dim).

        -inf, and zero, where there is none.
        """
        path = self.prior
        if self._interpreted and len(points) >= MANY:
            self._many = path = self._many or TemperedPath(self.program, self.prior.start, MANY, self._asked)
        states = path.at(points)
        return states.first + states.second, states.first_slope + states.second_slope

    def take(self, index: torch.Tensor) -> "DatumTarget":
        """The same for some of the data, in the order of the index."""
        arguments = find_rows(self.program).take(self.program.arguments, index.cpu())
        data = arguments.args or dict(arguments.kwargs)
        return DatumTarget(with_data(self.program, data), self._given)

    def tensor(self, values: object) -> torch.Tensor:
        """Numbers in the program's dtype, on its device."""
        return torch.as_tensor(values, dtype=self.program.dtype, device=self.program.device)

    def generator(self, seed: int) -> torch.Generator:
        """A generator on the program's device."""
        return torch.Generator(device=self.program.device).manual_seed(seed)

    def blocks_of(self, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Unconstrained points (point, datum, dim) of constrained draws by site, each of shape (point, *event)."""
        return self.prior.blocks(self.tensor(unconstrained(self.program, values)))


def _can_compile(program: Program) -> bool:
    return program.device.type == "cpu" and Native().available() is None


def unit_names(program: Program, axes: Sequence[int]) -> tuple[str, ...]:
    """Names of one datum's unconstrained latents, in the order of its block."""
    names = []
    for name, (_, shape) in program.slices.items():
        site = program.sites[name]
        num_batch = len(site.shape) - site.event_dim
        inside = torch.Size(size for axis, size in enumerate(shape) if axis - num_batch not in axes)
        if not inside:
            names.append(name)
            continue
        for place in torch.cartesian_prod(*(torch.arange(size) for size in inside)).reshape(-1, len(inside)).tolist():
            names.append(f"{name}[{', '.join(map(str, place))}]")
    return tuple(names)
