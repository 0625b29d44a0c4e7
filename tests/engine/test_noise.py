"""Noise as an input: what the tape serves, and the indices of subsampled plates."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from randomness import seeded
from scipy import stats

from ppl_models.engine.noise import NoiseTape, SubsampleTape, draw_subsamples
from ppl_models.program.batching import OutOfPlaceRandomness

NORMAL = torch.linspace(-2.0, 2.0, 12, dtype=torch.float64)
UNIFORM = torch.linspace(0.05, 0.95, 12, dtype=torch.float64)
LOC = torch.tensor([1.0, 2.0], dtype=torch.float64)
SCALE = torch.tensor([[0.5], [3.0]], dtype=torch.float64)

NORMAL_CALLS = {
    "sizes": lambda: torch.randn(2, 3),
    "tuple": lambda: torch.randn((2, 3)),
    "keyword": lambda: torch.randn(size=(2, 3), dtype=torch.float64),
    "like": lambda: torch.randn_like(torch.ones(2, 3)),
    "size": lambda: torch.randn(torch.Size([2, 3])),
    "torch.normal": lambda: torch.normal(torch.zeros(2, 3), torch.ones(3)),
    "in place": lambda: torch.empty(2, 3).normal_(),
}
UNIFORM_CALLS = {
    "sizes": lambda: torch.rand(2, 3),
    "tuple": lambda: torch.rand([2, 3]),
    "like": lambda: torch.rand_like(torch.ones(2, 3), dtype=torch.float64),
    "in place": lambda: torch.empty(2, 3).uniform_(),
}


@pytest.fixture(autouse=True)
def _double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def on_tape(call):
    tape = NoiseTape(NORMAL, UNIFORM)
    with tape, OutOfPlaceRandomness():
        return call(), tape


@pytest.mark.parametrize("call", NORMAL_CALLS.values(), ids=NORMAL_CALLS)
def test_standard_normal_numbers_come_from_the_tape(call):
    found, tape = on_tape(call)
    assert torch.equal(found, NORMAL[:6].reshape(2, 3))
    assert (tape.num_normal, tape.num_uniform) == (6, 0)


@pytest.mark.parametrize("call", UNIFORM_CALLS.values(), ids=UNIFORM_CALLS)
def test_standard_uniform_numbers_come_from_the_tape(call):
    found, tape = on_tape(call)
    assert torch.equal(found, UNIFORM[:6].reshape(2, 3))
    assert (tape.num_normal, tape.num_uniform) == (0, 6)


def test_numbers_are_served_once_and_in_order():
    found, _ = on_tape(lambda: (torch.randn(3), torch.rand(2), torch.randn(()), torch.randn(2, 2), torch.rand(1)))
    served = torch.cat([found[0], found[2].reshape(1), found[3].reshape(4)])
    assert torch.equal(served, NORMAL[:8])
    assert torch.equal(torch.cat([found[1], found[4]]), UNIFORM[:3])


@pytest.mark.parametrize(
    "call",
    [
        lambda: torch.normal(LOC, SCALE),
        lambda: torch.normal(LOC, std=SCALE),
        lambda: torch.normal(std=SCALE, mean=LOC),
        lambda: dist.Normal(LOC, SCALE).rsample(),
    ],
)
def test_normal_draws_are_shifted_and_scaled(call):
    assert torch.equal(on_tape(call)[0], LOC + SCALE * NORMAL[:4].reshape(2, 2))


def test_dtypes_are_those_asked_for():
    found, _ = on_tape(lambda: (torch.randn(2, dtype=torch.float32), torch.rand_like(torch.ones(2).float())))
    assert [one.dtype for one in found] == [torch.float32, torch.float32]


def test_other_distributions_are_transformed_uniforms():
    found, _ = on_tape(lambda: dist.Exponential(torch.full((3,), 2.0)).rsample())
    np.testing.assert_allclose(found, stats.expon(scale=0.5).ppf(UNIFORM[:3]), rtol=1e-12)
    found, _ = on_tape(lambda: dist.Cauchy(LOC, 3.0).rsample())
    np.testing.assert_allclose(found, stats.cauchy(LOC, 3.0).ppf(UNIFORM[:2]), rtol=1e-12)


def test_draws_that_are_neither_keep_torchs_generator():
    def call():
        return torch._standard_gamma(LOC), torch.poisson(LOC), torch.normal(0.0, 1.0, (2,)), torch.randperm(5)

    with seeded(3):
        wanted = call()
    with seeded(3):
        found, tape = on_tape(call)
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))
    assert (tape.num_normal, tape.num_uniform) == (0, 0)


def test_without_numbers_the_tape_counts_and_draws_nothing():
    tape = NoiseTape()
    with tape:
        normal, uniform = torch.randn(2, 3, dtype=torch.float32), torch.rand(5)
    assert (tape.num_normal, tape.num_uniform) == (6, 5)
    assert (normal.dtype, float(normal.abs().max())) == (torch.float32, 0.0)
    assert uniform.eq(0.5).all()


def rows(seen):
    """A model and a guide with a subsampled plate, a whole one and one that is given its indices."""

    def program():
        with pyro.plate("some", 10, subsample_size=4) as indices:
            seen.append(indices)
            pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("all", 3), pyro.plate("whole", 5, subsample_size=5, dim=-2):
            pass
        with pyro.plate("given", 8, subsample=torch.tensor([1, 2])):
            pass

    return program


def test_subsamples_are_served_by_name_and_noted():
    seen, tape = [], SubsampleTape({"some": torch.tensor([7, 1, 9, 2])})
    with seeded(), pyro.poutine.block(), tape:
        rows(seen)()
    assert seen[0].tolist() == [7, 1, 9, 2]
    assert tape.sizes == {"some": (10, 4)}


def test_a_smaller_subsample_gets_the_first_indices():
    seen, tape = [], SubsampleTape({"some": torch.tensor([7, 1, 9, 2, 0])})
    with seeded(), pyro.poutine.block(), tape:
        rows(seen)()
    assert seen[0].tolist() == [7, 1, 9, 2]


def test_a_subsample_that_is_not_served_draws_its_own():
    seen, tape = [], SubsampleTape()
    with seeded(), pyro.poutine.block(), tape:
        rows(seen)()
    assert len(set(seen[0].tolist())) == 4
    assert tape.sizes == {"some": (10, 4)}


def test_subsamples_have_no_repetition():
    with seeded():
        drawn = draw_subsamples([(6, 6), (20, 5), (1_000_000, 3)], 200)
    assert [tuple(one.shape) for one in drawn] == [(200, 6), (200, 5), (200, 3)]
    for indices, size in zip(drawn, (6, 20, 1_000_000), strict=True):
        assert indices.dtype == torch.int64
        assert all(len(set(row)) == len(row) and min(row) >= 0 and max(row) < size for row in indices.tolist())


def test_subsamples_follow_torchs_seed():
    def drawn(seed):
        with seeded(seed):
            return torch.cat(draw_subsamples([(50, 10), (50, 10)], 5))

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    assert not torch.equal(*drawn(1).chunk(2))


NUM_DRAWS = 20_000
FALSE_ALARM = 1e-6


def limit(degrees):
    return stats.chi2(degrees).isf(FALSE_ALARM)


@pytest.mark.statistical
@pytest.mark.parametrize(("size", "wanted", "bins"), [(12, 5, 12), (12, 11, 12), (20_000, 3, 20)])
def test_every_index_and_every_pair_is_as_likely(size, wanted, bins):
    with seeded(5):
        (drawn,) = draw_subsamples([(size, wanted)], NUM_DRAWS)
    counts = torch.bincount(drawn.reshape(-1) * bins // size, minlength=bins).double()
    share = wanted / size
    # Counts of a draw without replacement covary; their projection on sum zero has this variance.
    variance = NUM_DRAWS * (size / bins) * share * (1 - share) * size / (size - 1)
    assert float(((counts - counts.mean()) ** 2).sum() / variance) < limit(bins - 1)
    for position in (0, wanted - 1):
        places = torch.bincount(drawn[:, position] * bins // size, minlength=bins).double()
        assert float(((places - NUM_DRAWS / bins) ** 2).sum() / (NUM_DRAWS / bins)) < limit(bins - 1)
    steps = (drawn[:, 1] - drawn[:, 0]) % size  # uniform over all but zero
    moved = torch.bincount((steps - 1) * (bins - 1) // (size - 1), minlength=bins - 1).double()
    expected = NUM_DRAWS / (bins - 1)
    assert float(((moved - expected) ** 2).sum() / expected) < limit(bins - 2)
