"""The loops for a matrix times a vector: every layout, with a broadcast start, against NumPy."""

import ctypes
import itertools

import numpy as np
import pytest

from ppl_models.engine import cpp_compiler
from ppl_models.engine.native.build import build
from ppl_models.engine.native.source import DRIVERS

pytestmark = [pytest.mark.native, pytest.mark.skipif(cpp_compiler() is None, reason="there is no C++ compiler")]

WRAPPER = """
extern "C" void {name}({real}* out, int64_t os, {real}* start, int64_t ss, {real}* matrix, int64_t rs, int64_t cs,
                       {real}* vector, int64_t vs, int64_t rows, int64_t columns, {real} beta, {real} alpha) {{
  matrix_times_vector<{real}>(out, os, start, ss, matrix, rs, cs, vector, vs, rows, columns, beta, alpha);
}}
"""
DTYPES = {"double": np.float64, "float": np.float32}


@pytest.fixture(scope="module")
def functions(tmp_path_factory):
    source = "#include <cstdint>\n" + DRIVERS["vectors.hpp"].read_text()
    source += "".join(WRAPPER.format(name=f"product_{real}", real=real) for real in DTYPES)
    path = tmp_path_factory.mktemp("vectors") / "vectors.so"
    path.write_bytes(build(source))
    library = ctypes.CDLL(str(path))
    found = {}
    for real, number in (("double", ctypes.c_double), ("float", ctypes.c_float)):
        found[real] = getattr(library, f"product_{real}")
        tensor = [ctypes.c_void_p, ctypes.c_int64]
        matrix = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]
        found[real].argtypes = [*tensor, *tensor, *matrix, *tensor, ctypes.c_int64, ctypes.c_int64, number, number]
        found[real].restype = None
    return found


def strided(array):
    return array.ctypes.data, *(stride // array.itemsize for stride in array.strides)


SHAPES = [(1, 1), (1, 9), (4, 4), (5, 3), (13, 20), (20, 13), (1000, 7), (7, 1000)]


@pytest.mark.parametrize("real", DTYPES)
@pytest.mark.parametrize("order", ["rows", "columns", "neither"])
def test_every_layout_gives_numpys_product(functions, real, order):
    rng = np.random.default_rng(1)
    for (rows, columns), spread, beta in itertools.product(SHAPES, (1, 3), (0.0, 1.0, 0.5)):
        whole = rng.normal(size=(2 * rows, 2 * columns)).astype(DTYPES[real])
        matrix = {
            "rows": whole[:rows, :columns],
            "columns": np.asfortranarray(whole[:rows, :columns]),
            "neither": whole[::2, ::2],
        }[order]
        vector = rng.normal(size=columns * spread).astype(DTYPES[real])[::spread]
        start = rng.normal(size=rows * spread).astype(DTYPES[real])[::spread]
        out = np.full(rows * spread, np.nan, DTYPES[real])[::spread]
        functions[real](*strided(out), *strided(start), *strided(matrix), *strided(vector), rows, columns, beta, 2.0)
        wanted = beta * start.astype(float) + 2.0 * matrix.astype(float) @ vector.astype(float)
        scale = beta * np.abs(start) + 2.0 * np.abs(matrix).astype(float) @ np.abs(vector) + 1e-30
        assert np.all(np.abs(out - wanted) <= columns * np.finfo(DTYPES[real]).eps * scale + 1e-30)


def test_start_may_be_one_number_and_is_not_read_where_it_does_not_count(functions):
    matrix, vector = np.arange(12.0).reshape(4, 3), np.array([1.0, -1.0, 2.0])
    out, start = np.empty(4), np.array([10.0])
    functions["double"](out.ctypes.data, 1, start.ctypes.data, 0, *strided(matrix), *strided(vector), 4, 3, 1.0, 1.0)
    assert np.array_equal(out, 10.0 + matrix @ vector)
    start[0] = np.nan
    functions["double"](out.ctypes.data, 1, start.ctypes.data, 0, *strided(matrix), *strided(vector), 4, 3, 0.0, 1.0)
    assert np.array_equal(out, matrix @ vector)
