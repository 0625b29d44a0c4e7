"""Values that a model keeps in Python: what is seen of them."""

import torch

from ppl_models.engine.python_state import changed_name, python_state

counter = 0


def uses_a_global():
    return counter


def change(function, do):
    before = python_state(function)
    do()
    return changed_name(before, python_state(function))


def test_counters_in_closures_lists_globals_and_modules_are_seen():
    count, calls = 0, []

    def model():
        nonlocal count
        count += 1
        calls.append(1)
        return count

    def only_list():
        calls.append(1)

    class Module(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.steps, self.weights = 0, torch.zeros(2)

        def forward(self):
            self.steps += 1

    module = Module()

    def count_up():
        globals()["counter"] += 1

    assert change(model, model) in ("count", "calls")
    assert change(only_list, only_list) == "calls"
    assert change(uses_a_global, count_up) == "counter"
    assert change(module, module) == "steps"
    assert change(module.forward, module) == "steps"
    assert change(lambda: model(), model) in ("count", "calls")


def test_what_stays_is_not_accused():
    scale, sizes, table = 2.0, [1, 2], {"a": 1}

    def model():
        return scale, sizes, table, torch.ones(3)

    assert change(model, model) is None


def test_functions_that_call_each_other_end():
    def one():
        return other

    def other():
        return one

    assert change(one, other) is None
