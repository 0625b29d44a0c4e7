"""nutpie on a C function: its compiled PyMC models take raw pointers, and so can ours.

These are private names of nutpie; where one is missing, or does not take what it took, the public callback serves.
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from ppl_models.engine import CompiledDensity
from ppl_models.engine.native.library import Pool

StartFunction = Callable[[int], np.ndarray]
PRIVATE_NAMES = ("LogpFunc", "ExpandFunc", "PyMcModel", "PyVariable", "PySampler")


def native_interface() -> bool:
    """Whether this nutpie has what `native_model` needs."""
    import nutpie
    from nutpie.compiled_pyfunc import PyFuncModel
    from nutpie.sample import CompiledModel

    names: Any = getattr(nutpie, "_lib", None)
    return (
        all(hasattr(names, name) for name in PRIVATE_NAMES)
        and hasattr(names.PyVariable, "new_variables")
        and hasattr(names.PySampler, "from_pymc")
        and dataclasses.is_dataclass(CompiledModel)
        and [field.name for field in dataclasses.fields(CompiledModel)] == ["dims"]
        and list(inspect.signature(PyFuncModel._make_sampler).parameters)[1:]
        == ["settings", "init_mean", "cores", "progress_type", "store"]
    )


def native_model(density: CompiledDensity, pool: Pool, start: StartFunction) -> Any:
    """A model for `nutpie.sample` whose density and expansion are C functions.

    Args:
        density: what the pool was made of.
        pool: the C functions, with memory for as many threads as there will be.
        start: starting point of a chain, from its seed.
    """
    import nutpie
    from nutpie.sample import CompiledModel

    lib: Any = getattr(nutpie, "_lib")  # noqa: B009 (private)
    num_dims = density.program.num_dims

    @dataclasses.dataclass(frozen=True)
    class NativeModel(CompiledModel):
        @property
        def n_dim(self) -> int:
            return num_dims

        @property
        def shapes(self) -> dict[str, tuple[int, ...]]:
            return {"flat": (num_dims,)}

        @property
        def coords(self) -> dict[str, Any]:
            return {}

        def _make_sampler(self, settings: Any, init_mean: Any, cores: int, progress_type: Any, store: Any) -> Any:
            return lib.PySampler.from_pymc(settings, cores, self._make_model(init_mean), progress_type, store)

        def _make_model(self, init_mean: Any) -> Any:
            sizes: dict[str, int] = {}  # filled by the next call
            variables = lib.PyVariable.new_variables(["flat"], ["float64"], [[num_dims]], sizes, {})
            return lib.PyMcModel(
                lib.LogpFunc(pool.density, pool.user_data, pool),
                lib.ExpandFunc(num_dims, num_dims, pool.expand, pool.user_data, pool),
                variables,
                num_dims,
                sizes,
                {},
                start,
                None,
            )

    return NativeModel(dims={})
