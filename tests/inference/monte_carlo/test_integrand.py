import numpy as np
import pytest
import torch

from ppl_models.errors import DataError
from ppl_models.inference.monte_carlo.integrand import Integrand
from tests.randomness import seeded

with seeded(1):
    DRAWS = torch.randn(500)


@pytest.mark.parametrize(
    "function",
    [
        torch.exp,
        lambda z: np.exp(z.numpy()),
        lambda z: torch.stack([z, z**2], -1),
        lambda z: z[:, None, None].expand(-1, 2, 3),
        lambda z: torch.exp(z).requires_grad_(),
    ],
)
def test_tensors_and_arrays_are_taken(function):
    values = Integrand(function)(DRAWS)
    assert len(values) == 500
    assert values.is_floating_point()
    assert not values.requires_grad


def test_truth_values_and_whole_numbers_become_floating():
    np.testing.assert_array_equal(Integrand(lambda z: z > 0)(DRAWS), (DRAWS > 0).double())
    assert Integrand(lambda z: (z > 0).long())(DRAWS).dtype == torch.float64


def test_draws_by_name():
    found = Integrand(lambda d: d["a"] + d["b"].sum(-1))({"a": DRAWS, "b": DRAWS[:, None]})
    np.testing.assert_allclose(found, 2 * DRAWS)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda z: z.mean(), ["shape ()", "(500, ...)", "Do not average"]),
        (lambda z: z[:7], ["shape (7,)"]),
        (lambda z: 3.0, ["returned float", "tensor"]),
        (lambda z: torch.complex(z, z), ["complex"]),
        (lambda z: ["a"] * len(z), ["returned list"]),
        (lambda z: z[:, None] * z[None, :], ["depends on how many draws there are", "(32,) for each of 32"]),
        (lambda z: z @ z @ z, ["raised RuntimeError", "(500,)"]),
    ],
)
def test_what_is_no_value_for_each_draw_is_refused(function, words):
    with pytest.raises(DataError) as error:
        Integrand(function)(DRAWS)
    for word in words:
        assert word in str(error.value)


def test_what_is_not_finite_is_counted_and_shown_with_its_draw():
    count = int((DRAWS < 0).sum())
    first = float(DRAWS[DRAWS < 0][0])
    with pytest.raises(DataError, match=f"{count} of 500 values are not finite") as error:
        Integrand(torch.log)(DRAWS)
    assert f"nan at draw {first:.6g}" in str(error.value)
    with pytest.raises(DataError, match="the first is inf"):
        Integrand(lambda z: torch.where(z > 2, torch.inf, z))(DRAWS)
    with pytest.raises(DataError, match="1 of 500 values"):  # infinities that cancel in a sum
        Integrand(lambda z: torch.stack([z, -z], 1).index_fill(0, torch.tensor(3), torch.inf))(DRAWS)


def test_a_sum_that_overflows_is_no_fault():
    assert torch.isfinite(Integrand(lambda z: z.double() * 0 + 1e308)(DRAWS)).all()


@pytest.mark.parametrize(
    "function",
    [
        lambda z: torch.cumsum(z, 0),
        lambda z: z * torch.arange(len(z)),
        lambda z: z - z.mean(),
        lambda z: z / z.std(),
        lambda z: torch.sort(z).values,
        lambda z: z.roll(1),
        lambda z: torch.stack([z, z - z[0]], 1),
    ],
)
def test_values_that_depend_on_other_draws_are_refused(function):
    with pytest.raises(DataError, match="depends on the other draws or on their order"):
        Integrand(function)(DRAWS)


def test_a_function_that_is_random_by_itself_is_taken():
    with seeded(2):
        Integrand(lambda z: z + torch.randn_like(z))(DRAWS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_is_no_dependence(dtype):
    with seeded(3):
        draws = torch.randn(4_097, 9, dtype=dtype)
        matrix = torch.randn(9, 9, dtype=dtype)
    Integrand(lambda x: torch.einsum("ni,ij,nj->n", x, matrix, x))(draws)


def test_a_shape_that_changes_is_refused():
    integrand = Integrand(lambda z: z if len(z) > 100 else z[:, None])
    integrand._probed = True
    integrand(DRAWS)
    with pytest.raises(DataError, match=r"shape \(\) at first, then \(1,\)"):
        integrand(DRAWS[:50])
    with pytest.raises(DataError, match="wanted a function of draws"):
        Integrand(3)


def test_messages_name_the_argument_and_the_variables_that_there_are():
    with pytest.raises(DataError, match="event: 1 of 500 values are not finite"):
        Integrand(lambda z: z.index_fill(0, torch.tensor(3), torch.nan), what="event")(DRAWS)
    with pytest.raises(DataError, match="f: unknown variable 'm'; the valid ones, nearest first: mu, tau"):
        Integrand(lambda d: d["m"])({"tau": DRAWS, "mu": DRAWS})
