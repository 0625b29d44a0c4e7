"""The tracer: a graph does what the function does, whatever the values; what a graph cannot hold is refused."""

import pytest
import torch

from ppl_models.engine.tracing import trace
from ppl_models.errors import CaptureError

HELD = torch.linspace(-1.0, 2.0, 4, dtype=torch.float64)


def vector(seed):
    return torch.randn(4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def matrix(seed):
    return torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(100 + seed))


def traced(function, seed=0):
    return trace(function, lambda: (vector(seed), matrix(seed)))


def positive(y):
    return y @ y.mT + torch.eye(4, dtype=y.dtype)


def arithmetic(x, y):
    return (torch.where(x > 0, x.exp(), -x) @ y + 2, x.float() / 3, (y > x) & (x > 0), x.new_tensor(2.0) * x)


def in_place(x, y):
    z = x * 1
    z.add_(y[0]).mul_(2)[1] = 5.0
    z[2:] += x[:2]
    return (z, z.clamp_(min=0.5).sum())


def input_in_place(x, y):
    before = x.sum()
    x.copy_(x + y[0])
    y.diagonal().mul_(2.0)
    return (before, x.sum())


def views(x, y):
    z = y.clone()
    z.view(2, 8)[1].mul_(3.0)
    z.mT[0].add_(x)
    a, b = z.split(2)
    return (a.mT.reshape(-1), b.diagonal(), x.view(2, 2).permute(1, 0).flatten(), z.unfold(0, 2, 1), z[::2, 1:3])


def several_results(x, y):
    values, order = torch.sort(x, descending=True)
    sign, log_size = torch.linalg.slogdet(y)
    q, r = torch.linalg.qr(y)
    return (values, order, sign, log_size, q, r, *y.unbind(), *torch.max(y, 1), *x.chunk(2), *torch.frexp(x))


def indexing(x, y):
    rows = torch.tensor([0, 3, 3])
    z = torch.zeros_like(y).index_add(0, rows, y[:3])
    z[torch.tensor([True, False, True, False])] = x
    return (z, y.gather(1, x.argsort()[:, None]), y[rows, 1], torch.zeros_like(x).scatter_add(0, rows, x[:3]))


def filled_buffer(x, y):
    path = torch.zeros(4, dtype=x.dtype)
    for step in range(4):
        path[step] = x[step] + (0.9 * path[step - 1] if step else y[0, 0])
    return (path, path.cumsum(0))


def buffer_from_python(x, y):
    path = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=x.dtype)
    path[1:3] *= x[0]
    return (path,)


def buffer_changed_after_it_was_read(x, y):
    mask = torch.ones(4, dtype=x.dtype)
    mask[0] = 0.0
    first = x * mask
    mask[1] = 0.0
    return (first, x * mask, mask)


def buffer_filled_with_draws(x, y):
    return (x * torch.empty(4, dtype=x.dtype).bernoulli_(0.5), torch.nn.functional.dropout(y, 0.5))


def own_draws(x, y):
    return (torch._standard_gamma(x.exp()), torch.poisson(y.exp()) * x)


def gradient(x, y):
    def function(x):
        return (torch.linalg.solve_triangular(torch.linalg.cholesky(positive(y)), x[:, None], upper=False) ** 2).sum()

    slope, value = torch.func.grad_and_value(function)(x)
    return (slope, value, torch.func.jacrev(torch.func.grad(function))(x))


def gradient_with_buffer(x, y):
    return (torch.func.grad(lambda z: (filled_buffer(z, y)[0] ** 2).sum())(x),)


def gradient_with_dropout(x, y):
    return (torch.func.grad(lambda z: torch.nn.functional.dropout(z.exp(), 0.5).sum())(x),)


def vectorised_gradient(x, y):
    def density(row):
        factor = torch.linalg.cholesky(torch.outer(row, row) + torch.eye(4, dtype=row.dtype))
        return (factor.diagonal().log() * HELD).sum() + torch.logsumexp(row, 0)

    return (torch.func.vmap(torch.func.grad(density))(y), torch.func.vmap(density)(y).mean() * x)


def factorisation(x, y):
    return (
        torch.linalg.cholesky(positive(y)),
        torch.linalg.inv(y),
        torch.linalg.solve(y, x),
        torch.logdet(positive(y)),
    )


FUNCTIONS = [
    arithmetic,
    in_place,
    input_in_place,
    views,
    several_results,
    indexing,
    filled_buffer,
    buffer_from_python,
    buffer_changed_after_it_was_read,
    buffer_filled_with_draws,
    own_draws,
    gradient,
    gradient_with_buffer,
    gradient_with_dropout,
    vectorised_gradient,
    factorisation,
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_a_graph_gives_the_functions_numbers(function):
    with torch.random.fork_rng(devices=[]):
        module, constants, _ = traced(function)
        for seed in range(1, 4):
            ours, theirs = (vector(seed), matrix(seed)), (vector(seed), matrix(seed))
            torch.manual_seed(seed)
            with torch.no_grad():
                found = module(*ours, *constants)
            torch.manual_seed(seed)
            wanted = function(*theirs)
            torch.testing.assert_close(found, tuple(wanted), rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(ours, theirs, rtol=0.0, atol=0.0)


def test_what_a_function_holds_is_lifted_once_as_it_is():
    module, constants, _ = traced(lambda x, y: (torch.func.grad(lambda x: (x * HELD).sum())(x), x + HELD, y * HELD))
    assert len(constants) == 1
    assert constants[0] is HELD
    assert [node.name for node in module.graph.find_nodes(op="placeholder")] == ["input_0", "input_1", "constant_0"]


def test_what_depends_on_no_input_is_computed_once():
    module, constants, _ = traced(lambda x, y: (x * torch.linalg.norm(HELD.exp()), x + HELD, HELD.sum() * x))
    assert "exp" not in str(module.graph)
    assert "sum" not in str(module.graph)
    assert len(constants) == 3


def test_results_may_be_inputs_or_constants():
    module, constants, _ = traced(lambda x, y: (x, HELD, torch.ones(2)))
    assert module(vector(0), matrix(0), *constants)[1] is HELD


def test_what_is_not_used_is_left_out():
    module, constants, _ = traced(lambda x, y: (y * HELD, x.sum())[1:])
    assert constants == []
    assert [str(node.target) for node in module.graph.nodes if node.op == "call_function"] == ["aten.sum.default"]


def test_random_operations_are_named():
    with torch.random.fork_rng(devices=[]):
        assert traced(own_draws)[2] == ["aten._standard_gamma", "aten.poisson"]
        assert traced(arithmetic)[2] == []


def test_constants_may_be_read_at_any_time():
    def function(x, y):
        later = x * HELD
        return (later * float(HELD.max()) if bool(HELD[0] < 0) else later,)

    module, constants, _ = traced(function)
    torch.testing.assert_close(module(vector(1), matrix(1), *constants)[0], vector(1) * HELD * 2.0)


READERS = {
    "item": lambda x, y: (x * x[0].item(),),
    "float": lambda x, y: (x * float(y.sum()),),
    "int": lambda x, y: (x * int(x.argmax()),),
    "if": lambda x, y: (x if x[0] > 0 else y[0],),
    "while": lambda x, y: (x * max(x),),
    "nonzero": lambda x, y: (x[torch.nonzero(x > 0)],),
    "equal": lambda x, y: (x * torch.equal(x, y[0]),),
    "range": lambda x, y: (x * len(range(x.argmax())),),
    "of a buffer": lambda x, y: (x * float(filled_buffer(x, y)[0][1]),),
    "inside grad": lambda x, y: (torch.func.grad(lambda x: x.sum() if x[0] > 0 else -x.sum())(x),),
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_reading_a_value_is_refused(reader):
    with pytest.raises(CaptureError, match=r"reads the value of a tensor \(aten\..*torch\.where"):
        traced(reader)


def test_after_a_refusal_torch_is_as_before():
    with pytest.raises(CaptureError):
        traced(READERS["item"])
    assert float(torch.ones(2).sum()) == 2.0


def test_a_failed_factorisation_becomes_nan():
    module, constants, _ = traced(lambda x, y: (torch.linalg.cholesky(y), torch.linalg.inv(y * x[0])))
    factor, inverse = module(vector(0), -positive(matrix(1)), *constants)
    assert factor.isnan().all()
    assert inverse.isfinite().all()
    factor, inverse = module(torch.zeros_like(vector(0)), positive(matrix(1)), *constants)
    assert factor.isfinite().all()
    assert inverse.isnan().all()


def test_one_failed_factorisation_of_several_spoils_no_other():
    both = torch.stack([positive(matrix(0)), -positive(matrix(0))])
    module, constants, _ = trace(lambda y: (torch.func.vmap(torch.linalg.cholesky)(y),), lambda: (both,))
    (found,) = module(both, *constants)
    torch.testing.assert_close(found[0], torch.linalg.cholesky(both[0]))
    assert found[1].isnan().all()


HELD_CHANGES = {
    "itself": lambda x, held: held.add_(x),
    "a view": lambda x, held: held[1:].copy_(x[1:]),
    "without the inputs": lambda x, held: held.add_(1.0),
}


@pytest.mark.parametrize("change", HELD_CHANGES.values(), ids=HELD_CHANGES)
def test_tensors_that_outlive_the_function_are_not_changed(change):
    held = torch.zeros(4, dtype=torch.float64)
    with pytest.raises(CaptureError, match="outlives one step"):
        traced(lambda x, y: (x * held, change(x, held)))
    assert not held.any()


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
def test_sparse_tensors_are_refused():
    sparse = torch.eye(4, dtype=torch.float64)
    for kind in (sparse.to_sparse(), sparse.to_sparse_csr()):
        with pytest.raises(CaptureError, match=r"layout torch\.sparse"):
            traced(lambda x, y, kind=kind: (torch.mv(kind, x),))
        with pytest.raises(CaptureError, match=r"layout torch\.sparse"):
            trace(lambda given, x: (torch.mv(given, x),), lambda kind=kind: (kind, vector(0)))
