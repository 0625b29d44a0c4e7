"""Minibatches of an unmodified model: every batch stands for all rows, whatever its size."""

from dataclasses import replace

import pyro
import pyro.distributions as dist
import pyro.poutine as poutine
import pytest
import torch
from pyro.poutine.util import site_is_subsample

from ppl_models.errors import ModelError
from ppl_models.program import build_program, find_rows, isolated
from ppl_models.program.elbo import program_log_ratio
from ppl_models.program.estimators import ImportanceWeighted
from ppl_models.program.feeds import Resident, ResidentFeed
from ppl_models.program.row_scale import RowScale, row_scale

NUM_ROWS, SIZE = 11, 4


def model(x, offset=None):
    weight = pyro.sample("weight", dist.Normal(0.0, 2.0))
    with pyro.plate("datum", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(weight * z, 0.7).to_event(1), obs=x)


def guide(x, offset=None):
    centre = pyro.param("centre", torch.tensor(0.3))
    pyro.sample("weight", dist.Normal(centre, 0.5))
    with pyro.plate("datum", len(x)):
        pyro.sample("z", dist.Normal(0.4 * x, 0.6).to_event(1))


def local_model(x):
    with pyro.plate("datum", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z, 0.7).to_event(1), obs=x)


def scaling_itself(x):
    with pyro.plate("datum", NUM_ROWS, subsample_size=len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z, 0.7).to_event(1), obs=x)


def scaled_by_hand(x):
    with poutine.scale(scale=NUM_ROWS / len(x)), pyro.plate("datum", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z, 0.7).to_event(1), obs=x)


def scaled_wrongly(x):
    with poutine.scale(scale=0.5 * len(x)), pyro.plate("datum", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z, 0.7).to_event(1), obs=x)


def local_guide(x):
    with pyro.plate("datum", len(x)):
        pyro.sample("z", dist.Normal(0.4 * x, 0.6).to_event(1))


def scaled_local_guide(x):
    with poutine.scale(scale=NUM_ROWS / len(x)):
        local_guide(x)


def rows_of_data(count=NUM_ROWS):
    return torch.randn(count, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


class Fixed(pyro.poutine.messenger.Messenger):
    """Gives guide sites their values by name."""

    def __init__(self, values):
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg):
        if not msg["is_observed"] and not site_is_subsample(msg) and msg["name"] in self.values:
            msg["value"], msg["done"] = self.values[msg["name"]], True


@pytest.mark.parametrize("size", [1, SIZE, NUM_ROWS, 40])
def test_the_batches_of_an_epoch_average_to_the_full_loss(size):
    """An exact replay: the same noise in every row, odd last batches weighted by their rows."""
    x = rows_of_data()
    program = build_program(model, {"x": x})
    rows = find_rows(program)
    feed = ResidentFeed(Resident(rows, program.arguments), size, seed=1, device=torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(NUM_ROWS, 2, generator=generator, dtype=torch.float64)
    weight = torch.tensor(0.8, dtype=torch.float64)
    with program.isolated(seed=0, full_data=False):
        with Fixed({"weight": weight, "z": z}):
            full = -program_log_ratio(program, guide)
        total, seen = 0.0, []
        with RowScale("datum", NUM_ROWS):
            for _ in range(feed.num_steps):
                (index,) = feed.take(1)
                seen.append(index)
                with Fixed({"weight": weight, "z": z[index]}):
                    batch = replace(program, arguments=feed.resident.take(index))
                    total = total - len(index) / NUM_ROWS * program_log_ratio(batch, guide)
    assert sorted(torch.cat(seen).tolist()) == list(range(NUM_ROWS))
    assert feed.counts == [len(index) for index in seen]
    torch.testing.assert_close(total, full, rtol=1e-10, atol=0.0)


def test_importance_weights_are_scaled_outside_of_their_logarithm():
    """Weights for each datum: batches average to the full bound at the same noise."""
    program = build_program(local_model, {"x": rows_of_data()})
    rows, estimator = find_rows(program), ImportanceWeighted(num_importance=3)
    draws = torch.randn(3, NUM_ROWS, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def loss(index):
        here = replace(program, arguments=rows.take(program.arguments, index))
        terms = []
        for z in draws:
            with Fixed({"z": z[index]}):
                terms.append(estimator.particle(here, local_guide))
        return estimator.combine({name: torch.stack([one[name] for one in terms]) for name in terms[0]})

    with program.isolated(seed=0, full_data=False), RowScale("datum", NUM_ROWS):
        full = loss(torch.arange(NUM_ROWS))
        parts = [torch.arange(start, min(start + SIZE, NUM_ROWS)) for start in range(0, NUM_ROWS, SIZE)]
        total = sum(len(index) / NUM_ROWS * loss(index) for index in parts)
    torch.testing.assert_close(total, full, rtol=1e-10, atol=0.0)


def test_each_epoch_has_an_order_of_its_own_that_the_seed_repeats():
    program = build_program(model, {"x": rows_of_data()})
    resident = Resident(find_rows(program), program.arguments)
    one, two = (ResidentFeed(resident, SIZE, seed=5, device=torch.device("cpu")) for _ in range(2))
    first = torch.cat([one.take(1)[0] for _ in range(3)])
    second = torch.cat([one.take(1)[0] for _ in range(3)])  # goes on into the next epoch by itself
    two.begin(1)
    assert one.epoch == 1
    assert not torch.equal(first, second)
    assert torch.equal(second, torch.cat([two.take(2).reshape(-1), two.take(2)[0]]))


def scale_for(model, guide, count=SIZE):
    x = rows_of_data()
    program = build_program(model, {"x": x})
    rows = find_rows(program)
    batches = tuple((rows.take(program.arguments, slice(0, n)), n) for n in (count, count - 1))
    with program.isolated(seed=0, full_data=False):
        return row_scale({"guide": guide, "model": program.model}, "datum", NUM_ROWS, batches)


def test_a_plain_model_is_scaled():
    assert isinstance(scale_for(model, guide), RowScale)


def test_a_plate_with_a_subsample_size_is_not_scaled_twice():
    handler = scale_for(scaling_itself, local_guide)
    assert handler is not None  # the guide needs it, and the model's plate counts for all already
    with isolated(seed=0), handler:
        trace = poutine.trace(scaling_itself).get_trace(rows_of_data()[:SIZE])
    assert trace.nodes["x"]["scale"] == pytest.approx(NUM_ROWS / SIZE, rel=1e-12)


def test_a_model_that_scales_itself_by_hand_is_left_alone():
    assert scale_for(scaled_by_hand, scaled_local_guide) is None


@pytest.mark.parametrize("faulty", [(scaled_wrongly, local_guide), (scaled_by_hand, local_guide)])
def test_other_scales_are_refused(faulty):
    with pytest.raises(ModelError, match="its scale depends on the number of rows"):
        scale_for(*faulty)
