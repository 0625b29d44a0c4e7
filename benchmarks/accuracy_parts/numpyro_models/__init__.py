"""The problems of `benchmarks.posteriordb` in NumPyro, written as a user of NumPyro would write them.

`log densities agree up to a constant` is what `benchmarks/accuracy.py --check` and the tests look at.
"""

from benchmarks.accuracy_parts.numpyro_models.registry import load, names

__all__ = ["load", "names"]
