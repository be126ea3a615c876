"""Traps: what a cell reads or writes besides its arguments. Equal to the loop, or a clear error; never silence."""

import copy
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from same import assert_all_close, assert_same, assert_same_or_error, raises_at, weighted_sum
from small import WIDTH, UseModel, vectors
from torch import nn

import bale
from bale.errors import BaleError

FACTOR = 2.0
TABLE = [1.0, 2.0]
SETTINGS = SimpleNamespace(factor=2.0)


def linear() -> nn.Linear:
    return nn.Linear(WIDTH, WIDTH)


class Cell(nn.Module):
    """A linear layer and `body(self, h)`."""

    def __init__(self, body, **attributes):
        super().__init__()
        self.linear = linear()
        self.body = body
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x):
        return self.body(self, self.linear(x))


def one_cell(body, **attributes):
    return UseModel(lambda m, x: m.cell(x), cell=Cell(body, **attributes))


def equal_across(model, changes, samples=None):
    """After each of `changes` (made between outer calls) the batched model is the loop."""
    samples = samples or vectors(3)
    batched = bale.batch(model, check="always")
    for change in changes:
        change()
        outputs, loop = batched(samples), [model(s) for s in samples]
        assert_all_close(outputs, loop)
        parameters = list(model.parameters())
        got = torch.autograd.grad(weighted_sum(outputs), parameters, allow_unused=True)
        wanted = torch.autograd.grad(weighted_sum(loop), parameters, allow_unused=True)
        assert_all_close([g for g in got if g is not None], [g for g in wanted if g is not None])


def or_clear(run, *says):
    """`run` holds the law or raises a BaleError."""
    try:
        run()
    except BaleError as error:
        assert any(word in str(error) for word in says), error


# Attributes.


@pytest.mark.parametrize(
    "values",
    [(2.0, 3.0, 2.0), (1, 1.0, True), ("a", "b"), ((1, 2), (3, 4)), (0.0, -0.0)],
    ids=["floats", "equal numbers", "strings", "tuples", "zeros"],
)
def test_an_attribute_that_changes_between_calls(values):
    def body(self, h):
        if isinstance(self.knob, str):
            return h + len(self.knob) if self.knob == "a" else h * 5
        knob = self.knob[0] if isinstance(self.knob, tuple) else self.knob
        return torch.atan2(torch.full_like(h, knob), h) * knob

    model = one_cell(body, knob=values[0])
    equal_across(model, [lambda v=v: setattr(model.cell, "knob", v) for v in values])


def test_an_attribute_of_a_child_that_changes_between_calls():
    model = UseModel(lambda m, x: m.cell(x), cell=nn.Sequential(linear(), nn.LeakyReLU(0.1)))
    equal_across(model, [lambda v=v: setattr(model.cell[1], "negative_slope", v) for v in (0.1, 0.7, 0.1)])


def test_a_list_attribute_that_is_changed_in_place_between_calls():
    model = one_cell(lambda self, h: h * sum(self.knobs), knobs=[1.0])
    equal_across(model, [lambda: None, lambda: model.cell.knobs.append(4.0), lambda: model.cell.knobs.clear()])


def test_a_dict_attribute_that_is_changed_in_place_between_calls():
    model = one_cell(lambda self, h: h * self.knobs["a"], knobs={"a": 1.0})
    equal_across(model, [lambda v=v: self_set(model.cell.knobs, "a", v) for v in (2.0, 3.0)])


def self_set(mapping, key, value):
    mapping[key] = value


def test_an_object_attribute_that_is_changed_in_place_between_calls():
    settings = SimpleNamespace(factor=2.0)
    model = one_cell(lambda self, h: h * self.settings.factor, settings=settings)
    or_clear(
        lambda: equal_across(model, [lambda v=v: setattr(settings, "factor", v) for v in (2.0, 3.0)]),
        "settings",
        "differs",
        "other values",
    )


@pytest.mark.parametrize("check", ["new", "off"])
def test_an_object_attribute_that_is_changed_in_place_is_noticed_without_checks(check):
    settings = SimpleNamespace(factor=2.0)
    model = one_cell(lambda self, h: h * self.settings.factor, settings=settings)
    batched, xs = bale.batch(model, check=check), vectors(3)
    for factor in (2.0, 3.0, 4.0, 5.0):
        settings.factor = factor
        assert_all_close(batched(xs), [model(x) for x in xs])


def test_a_plain_tensor_attribute_that_is_changed_in_place_between_calls():
    model = one_cell(lambda self, h: h * self.mask, mask=torch.ones(WIDTH))
    equal_across(model, [lambda: None, lambda: model.cell.mask.mul_(3), lambda: model.cell.mask.zero_()])


def test_a_numpy_attribute_that_is_changed_in_place_between_calls():
    model = one_cell(lambda self, h: h * torch.from_numpy(self.mask), mask=np.ones(WIDTH))
    batched, xs = bale.batch(model, check="off"), vectors(3)
    for factor in (1.0, 2.0, 3.0):
        model.cell.mask[:] = factor
        assert_all_close(batched(xs), [model(x) for x in xs])


def test_a_class_attribute_that_changes_between_calls():
    class Scaled(nn.Module):
        factor = 1.0

        def __init__(self):
            super().__init__()
            self.linear = linear()

        def forward(self, x):
            return self.linear(x) * self.factor

    model = UseModel(lambda m, x: m.cell(x), cell=Scaled())
    equal_across(model, [lambda v=v: setattr(Scaled, "factor", v) for v in (1.0, 2.0, 1.0)])


def test_a_forward_replaced_between_calls():
    model = UseModel(lambda m, x: m.cell(x), cell=linear())

    def replace():
        model.cell.forward = lambda x: x * model.cell.bias

    equal_across(model, [lambda: None, replace])


def test_a_forward_replaced_on_the_class_between_calls(monkeypatch):
    class Mine(nn.Linear):
        pass

    model = UseModel(lambda m, x: m.cell(x), cell=Mine(WIDTH, WIDTH))
    change = lambda: monkeypatch.setattr(Mine, "forward", lambda self, x: x * self.bias)  # noqa: E731
    equal_across(model, [lambda: None, change])


def test_a_method_that_a_cell_calls_replaced_between_calls(monkeypatch):
    class Mine(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = linear()

        def act(self, h):
            return h.tanh()

        def forward(self, x):
            return self.act(self.linear(x))

    model = UseModel(lambda m, x: m.cell(x), cell=Mine())
    equal_across(model, [lambda: None, lambda: monkeypatch.setattr(Mine, "act", lambda self, h: h.exp())])


def test_a_buffer_written_between_calls():
    model = one_cell(lambda self, h: h * self.scale)
    model.cell.register_buffer("scale", torch.ones(1))
    equal_across(model, [lambda v=v: model.cell.scale.fill_(v) for v in (2.0, 3.0)])


def test_an_attribute_that_changes_between_cell_calls_in_one_forward():
    def use(model, x):
        out = []
        for k in (1.0, 2.0, 3.0, 1.0):
            model.cell.knob = k
            out.append(model.cell(x))
        return out

    model = UseModel(use, cell=Cell(lambda self, h: h * self.knob, knob=0.0))
    assert_same(model, vectors(3))
    assert model.cell.knob == 1.0


def test_an_attribute_that_differs_per_sample():
    def use(model, sample):
        k, x = sample
        model.cell.knob = k
        return model.cell(x)

    model = UseModel(use, cell=Cell(lambda self, h: h * self.knob, knob=0))
    assert_same(model, list(enumerate(vectors(4))))
    assert model.cell.knob == 3


def test_a_list_attribute_that_is_changed_in_place_in_one_forward():
    def use(model, x):
        out = []
        for k in (1.0, 2.0):
            model.cell.knobs[0] = k
            out.append(model.cell(x))
        return out

    model = UseModel(use, cell=Cell(lambda self, h: h * self.knobs[0], knobs=[0.0]))
    assert_same_or_error(model, vectors(3), "knobs")


def test_an_object_attribute_that_is_changed_in_place_in_one_forward():
    def use(model, x):
        out = []
        for k in (1.0, 2.0):
            model.cell.settings.factor = k
            out.append(model.cell(x))
        return out

    model = UseModel(use, cell=Cell(lambda self, h: h * self.settings.factor, settings=SimpleNamespace(factor=0.0)))
    assert_same_or_error(model, vectors(3), check="off")


def test_an_optional_branch_switched_by_an_attribute_in_one_forward():
    def use(model, x):
        model.cell.deep = False
        h = model.cell(x)
        model.cell.deep = True
        return model.cell(h)

    def body(self, h):
        return self.linear(h).tanh() if self.deep else h

    assert_same(UseModel(use, cell=Cell(body, deep=False)), vectors(3))


def test_a_weight_changed_in_place_in_one_forward():
    def use(model, x):
        h = model.cell(x)
        with torch.no_grad():
            model.cell.linear.weight.mul_(1.1)
        return h

    model = UseModel(use, cell=Cell(lambda self, h: h))
    with torch.no_grad():
        wanted = [copy.deepcopy(model)]
        loop = [wanted[0](x) for x in vectors(3)]
        try:
            got = bale.batch(model)(vectors(3))
        except BaleError as error:
            assert any(word in str(error) for word in ("in place", "changed", "writes")), error
        else:
            assert_all_close(got, loop)


# Closures and globals.


def test_a_closure_that_changes_between_calls():
    factor = 2.0

    def body(self, h):
        return h * factor

    def change(value):
        nonlocal factor
        factor = value

    equal_across(one_cell(body), [lambda v=v: change(v) for v in (2.0, 3.0, 2.0)])


def test_a_global_that_changes_between_calls(monkeypatch):
    model = one_cell(lambda self, h: h * FACTOR)
    changes = [lambda v=v: monkeypatch.setitem(globals(), "FACTOR", v) for v in (2.0, 3.0, 2.0)]
    equal_across(model, changes)


def test_a_global_of_a_helper_that_changes_between_calls(monkeypatch):
    def helper(h):
        return h * FACTOR

    model = one_cell(lambda self, h: helper(h))
    equal_across(model, [lambda v=v: monkeypatch.setitem(globals(), "FACTOR", v) for v in (2.0, 3.0, 2.0)])


@pytest.mark.parametrize("check", ["always", "off"])
def test_a_global_list_or_object_that_changes_between_calls(check):
    model = one_cell(lambda self, h: h * TABLE[0] + SETTINGS.factor)
    batched, xs = bale.batch(model, check=check), vectors(3)
    for k in range(4):
        TABLE[0] = float(k)
        SETTINGS.factor = 2.0 * k
        assert_all_close(batched(xs), [model(x) for x in xs])


def test_a_default_argument_that_changes_between_calls():
    def forward(x, factors=[2.0]):  # noqa: B006
        return x * factors[0]

    class Mine(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(WIDTH))

        def forward(self, x):
            return forward(x) * self.weight

    model = UseModel(lambda m, x: m.cell(x), cell=Mine())
    batched, xs = bale.batch(model, check="off"), vectors(3)
    for factor in (2.0, 3.0):
        forward.__defaults__[0][0] = factor
        assert_all_close(batched(xs), [model(x) for x in xs])


def test_a_closure_that_changes_in_one_forward():
    box = {"factor": 1.0}
    factor = 1.0

    def body(self, h):
        return h * factor

    def use(model, x):
        nonlocal factor
        out = []
        for k in (1.0, 2.0, 3.0):
            factor = k
            out.append(model.cell(x) + box["factor"])
        return out

    assert_same_or_error(UseModel(use, cell=Cell(body)), vectors(3), "factor", check="off")


def test_a_global_that_changes_in_one_forward(monkeypatch):
    monkeypatch.setitem(globals(), "FACTOR", 1.0)

    def use(model, x):
        out = []
        for k in (1.0, 2.0, 3.0):
            globals()["FACTOR"] = k
            out.append(model.cell(x))
        return out

    assert_same_or_error(UseModel(use, cell=Cell(lambda self, h: h * FACTOR)), vectors(3), "FACTOR", check="off")


def test_a_marked_function_whose_closure_changes_between_calls():
    factor = 2.0

    @bale.cell
    def scale(h):
        return h * factor

    def change(value):
        nonlocal factor
        factor = value

    model = UseModel(lambda m, x: scale(m.cell(x)), cell=linear())
    equal_across(model, [lambda v=v: change(v) for v in (2.0, 3.0, 2.0)])


def test_a_marked_function_whose_closure_changes_in_one_forward():
    factor = 2.0

    @bale.cell
    def scale(h):
        return h * factor

    def use(model, x):
        nonlocal factor
        out = []
        for k in (1.0, 2.0):
            factor = k
            out.append(scale(model.cell(x)))
        return out

    assert_same_or_error(UseModel(use, cell=linear()), vectors(3), "factor", check="off")


def test_a_tensor_in_a_closure_that_is_changed_in_place_between_calls():
    mask = torch.ones(WIDTH)
    model = one_cell(lambda self, h: h * mask)
    equal_across(model, [lambda: None, lambda: mask.mul_(3), lambda: mask.zero_()])


def test_a_tensor_in_a_closure_that_is_changed_in_place_in_one_forward():
    mask = torch.ones(WIDTH)

    def use(model, x):
        out = []
        for k in (1.0, 2.0):
            mask.fill_(k)
            out.append(model.cell(x).detach())
        return out

    assert_same_or_error(UseModel(use, cell=Cell(lambda self, h: h * mask)), vectors(3), "in place", check="off")


def test_a_tensor_with_gradients_in_the_closure_of_a_cell():
    loose = torch.randn(WIDTH, requires_grad=True)
    model, xs = one_cell(lambda self, h: h * loose), vectors(3)
    got = torch.autograd.grad(weighted_sum(bale.batch(model)(xs)), loose)
    assert_all_close(got, torch.autograd.grad(weighted_sum([model(x) for x in xs]), loose))


def test_an_environment_read_at_call_time(monkeypatch):
    import os

    model = one_cell(lambda self, h: h * float(os.environ["BALE_TEST_FACTOR"]))
    changes = [lambda v=v: monkeypatch.setenv("BALE_TEST_FACTOR", v) for v in ("2", "3")]
    or_clear(lambda: equal_across(model, changes), "environ", "other values", "differs")


# Python's and numpy's random numbers.


def drawing(body):
    def seed():
        random.seed(3)
        np.random.seed(3)  # noqa: NPY002

    model = UseModel(lambda m, xs: [m.cell(x) for x in xs], cell=Cell(body))
    samples = [vectors(n, seed=n) for n in (2, 3, 1)]
    seed()
    wanted = [model(s) for s in samples]
    after = random.random(), np.random.rand()  # noqa: NPY002
    for policy in bale.POLICIES:
        batched = bale.batch(model, policy=policy, check="always")
        for _ in range(2):
            seed()
            assert_all_close(batched(samples), wanted)
            assert (random.random(), np.random.rand()) == after  # noqa: NPY002


def test_pythons_random_in_a_cell():
    drawing(lambda self, h: h * random.random())


def test_a_coin_of_pythons_random_in_a_cell():
    drawing(lambda self, h: h if random.random() < 0.5 else h.tanh())


def test_numpys_random_in_a_cell():
    drawing(lambda self, h: h + np.random.standard_normal())  # noqa: NPY002


def test_a_generator_object_in_a_cell():
    generator = np.random.default_rng(0)
    model, xs = one_cell(lambda self, h: h * self.generator.random(), generator=generator), vectors(3)
    state = generator.bit_generator.state
    wanted = [model(x) for x in xs]
    generator.bit_generator.state = state
    or_clear(lambda: assert_all_close(bale.batch(model)(xs), wanted), "generator", "differs", "other values")


def test_a_random_object_in_a_cell():
    rng = random.Random(0)
    model, xs = one_cell(lambda self, h: h * self.rng.random(), rng=rng), vectors(3)
    state = rng.getstate()
    wanted = [model(x) for x in xs]
    rng.setstate(state)
    or_clear(lambda: assert_all_close(bale.batch(model)(xs), wanted), "rng", "differs", "other values")


def test_pythons_random_in_a_marked_cell_is_refused():
    model, xs = one_cell(lambda self, h: h * random.random()), vectors(3)
    bale.cell(model.cell)
    with pytest.raises(BaleError, match="random"):
        bale.batch(model)(xs)


def test_the_time_in_a_cell(monkeypatch):
    import itertools
    import time

    ticks = itertools.count()
    monkeypatch.setattr(time, "monotonic_ns", lambda: next(ticks))
    model = one_cell(lambda self, h: h * (time.monotonic_ns() * 0 + 1))
    assert_same_or_error(model, vectors(3))


# Counters and lists.


def counting(body, attribute, **attributes):
    """The outputs and the attribute are the loop's, whether the count lives in the cell or not."""
    plain = UseModel(lambda m, xs: [m.cell(x) for x in xs], cell=Cell(body, **attributes))
    twin = copy.deepcopy(plain)
    samples = [vectors(n, grad=False, seed=n) for n in (2, 3, 1)]
    batched = bale.batch(twin, check="always")
    for _ in range(2):
        assert_all_close(batched(samples), [plain(s) for s in samples])
        got, wanted = getattr(twin.cell, attribute), getattr(plain.cell, attribute)
        if isinstance(wanted, (list, dict)):
            assert_all_close(got, wanted)
        else:
            assert got == wanted


def count_up(self, h):
    self.count += 1
    return h


def count_and_use(self, h):
    self.count += 1
    return h * self.count


def append_number(self, h):
    self.seen.append(len(self.seen))
    return h * len(self.seen)


def append_value(self, h):
    self.seen.append(h.detach())
    return h


def remember_value(self, h):
    self.memory["last"] = h.detach()
    return h


def use_the_last(self, h):
    h = h if self.last is None else h + self.last.detach()
    self.last = h
    return h


def test_a_counter_in_a_cell():
    counting(count_up, "count", count=0)


def test_a_counter_that_the_cell_uses():
    counting(count_and_use, "count", count=0)


def test_a_list_that_a_cell_appends_to():
    counting(append_number, "seen", seen=[])


def test_a_list_of_values_that_a_cell_appends_to():
    counting(append_value, "seen", seen=[])


def test_a_dict_of_values_that_a_cell_writes():
    counting(remember_value, "memory", memory={})


def test_a_value_kept_from_the_last_call_of_a_cell():
    plain = UseModel(lambda m, xs: [m.cell(x) for x in xs], cell=Cell(use_the_last, last=None))
    twin = copy.deepcopy(plain)
    samples = [vectors(n, grad=False, seed=n) for n in (2, 3, 1)]
    batched = bale.batch(twin, check="always")
    for _ in range(2):
        assert_all_close(batched(samples), [plain(s) for s in samples])
        assert_all_close(twin.cell.last, plain.cell.last)


def test_a_counter_in_a_closure():
    count = 0

    def body(self, h):
        nonlocal count
        count += 1
        return h * count

    model, xs = one_cell(body), vectors(4)
    wanted = [model(x) for x in xs]
    count = 0
    assert_all_close(bale.batch(model, check="off")(xs), wanted)
    assert count == 4


def test_a_counter_in_a_global_list():
    calls = []

    def body(self, h):
        calls.append(1)
        return h * len(calls)

    model, xs = one_cell(body), vectors(4)
    wanted = [model(x) for x in xs]
    calls.clear()
    assert_all_close(bale.batch(model, check="off")(xs), wanted)
    assert len(calls) == 4


def test_a_counter_buffer():
    def body(self, h):
        self.steps += 1
        return h * self.steps

    plain = UseModel(lambda m, xs: [m.cell(x) for x in xs], cell=Cell(body))
    plain.cell.register_buffer("steps", torch.zeros(1))
    twin = copy.deepcopy(plain)
    samples = [vectors(n, grad=False, seed=n) for n in (2, 3, 1)]
    for policy in bale.POLICIES:
        with torch.no_grad():
            assert_all_close(bale.batch(twin, policy=policy)(samples), [plain(s) for s in samples])
        assert torch.equal(twin.cell.steps, plain.cell.steps)


def test_a_counter_on_the_root():
    def use(model, x):
        model.count += 1
        return model.cell(x) * model.count

    plain = UseModel(use, cell=linear())
    plain.count = 0
    twin = copy.deepcopy(plain)
    assert_all_close(bale.batch(twin)(vectors(4)), [plain(x) for x in vectors(4)])
    assert twin.count == 4


def test_a_cache_on_the_model_shares_values_between_samples():
    def use(model, words):
        out = []
        for word in words:
            if word not in model.cache:
                model.cache[word] = torch.tanh(model.words(torch.tensor(word)))
            out.append(model.cache[word])
        return sum(out)

    plain = UseModel(use, words=nn.Embedding(5, WIDTH))
    samples = [[1, 2], [2, 2, 3], [1]]

    def run(forward):
        plain.cache = {}
        outputs = forward(samples)
        return outputs, torch.autograd.grad(weighted_sum(outputs), plain.words.weight)

    wanted = run(lambda ss: [plain(s) for s in ss])
    batched = bale.batch(plain)
    got = run(batched)
    assert_all_close(got, wanted)
    assert batched.last.nodes <= 3 + 3 + 6  # three words, three tanh, and the additions of Python's sum


def test_a_cache_on_the_model_holds_tensors_after_the_call():
    def use(model, word):
        if model.first is None:
            model.first = model.words(torch.tensor(word))
        return model.first + model.words(torch.tensor(word))

    model = UseModel(use, words=nn.Embedding(5, WIDTH))
    model.first = None
    outputs = bale.batch(model)([1, 2, 3])
    assert type(model.first) is torch.Tensor
    assert_all_close(model.first, model.words.weight[1])
    assert_all_close(outputs, [model.first + model.words.weight[k] for k in (1, 2, 3)])


def test_a_value_in_an_outside_dict_is_an_error_at_its_next_use_not_a_wrong_number():
    cache = {}

    def use(model, word):
        if word not in cache:
            cache[word] = model.words(torch.tensor(word))
        return cache[word] * 2

    batched = bale.batch(UseModel(use, words=nn.Embedding(5, WIDTH)))
    batched([1, 2, 1])
    with pytest.raises(BaleError, match="earlier call"):
        batched([1, 2])


# Constants that change after they were used.


def test_a_tensor_of_the_sample_that_changes_after_use():
    def use(model, x):
        x = x.clone()
        h = model.start + x
        x.mul_(2)
        return h, model.start + x

    model = UseModel(use, start=nn.Parameter(torch.ones(WIDTH)))
    assert_same_or_error(model, vectors(3, grad=False), "in place")


def test_a_scratch_tensor_that_every_sample_fills():
    scratch = torch.zeros(WIDTH)

    def use(model, number):
        scratch.fill_(number)
        return model.start + scratch

    model = UseModel(use, start=nn.Parameter(torch.ones(WIDTH)))
    assert_same_or_error(model, [1.0, 2.0, 3.0], "in place")


def test_a_scratch_tensor_written_through_data():
    """`.data` bumps no version, so that only a copy could notice: known to be the hardest trap."""
    scratch = torch.zeros(WIDTH)

    def use(model, number):
        scratch.data.fill_(number)
        return model.start + scratch

    model = UseModel(use, start=nn.Parameter(torch.ones(WIDTH)))
    assert_same_or_error(model, [1.0, 2.0, 3.0], "in place")


def test_a_scratch_tensor_over_a_numpy_array():
    array = np.zeros(WIDTH)
    scratch = torch.from_numpy(array)

    def use(model, number):
        array[:] = number
        return model.start + scratch

    model = UseModel(use, start=nn.Parameter(torch.ones(WIDTH)))
    assert_same_or_error(model, [1.0, 2.0, 3.0], "in place")


def test_a_list_that_is_emptied_after_stacking():
    def use(model, xs):
        rows = [model.cell(x) for x in xs]
        stacked = torch.stack(rows)
        rows.clear()
        return stacked.sum(0)

    assert_same(UseModel(use, cell=linear()), [vectors(2), vectors(3)])


# Backward hooks, equal-sized layers, and a value-dependent `if`.


def test_backward_hooks_on_a_cell():
    def use(model, xs):
        h = torch.zeros(WIDTH)
        for x in xs:
            h = torch.tanh(model.cell(h + x))
        return h

    for register in ("register_full_backward_hook", "register_full_backward_pre_hook"):
        model, calls = UseModel(use, cell=linear()), []

        def hook(module, *grads, calls=calls):
            calls.append(1)
            return tuple(g * 0.5 if g is not None else None for g in grads[0])

        getattr(model.cell, register)(hook)
        samples = [vectors(n, seed=n) for n in (2, 3, 1)]
        assert_same(model, samples)
        assert len(calls) == 6 * (1 + len(bale.POLICIES))


def test_a_backward_hook_added_between_calls():
    model, xs = UseModel(lambda m, x: m.cell(x), cell=linear()), vectors(3)
    batched = bale.batch(model)
    batched(xs)
    model.cell.register_full_backward_hook(lambda module, into, out: tuple(g * 2 for g in into))
    got = torch.autograd.grad(weighted_sum(batched(xs)), xs)
    assert_all_close(got, torch.autograd.grad(weighted_sum([model(x) for x in xs]), xs))


def test_a_backward_hook_on_a_child_of_a_cell():
    model = UseModel(lambda m, x: m.cell(x), cell=nn.Sequential(linear(), nn.Tanh()))
    model.cell[0].register_full_backward_hook(lambda module, into, out: tuple(g * 2 for g in into))
    assert_same(model, vectors(3))


def test_a_tensor_hook_registered_inside_a_cell():
    class Hooked(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = linear()

        def forward(self, x):
            h = self.linear(x)
            if h.requires_grad:
                h.register_hook(lambda g: g.clamp(-0.6, 0.6))
            return h * 2

    assert_same_or_error(UseModel(lambda m, x: m.cell(x), cell=Hooked()), vectors(3), "hook")


def test_layers_of_equal_size_keep_their_own_weights():
    layers = nn.ModuleList(linear() for _ in range(4))

    def use(model, xs):
        h = torch.zeros(WIDTH)
        for k, x in enumerate(xs):
            h = torch.tanh(model.layers[k % 4](h + x))
        return h

    assert assert_same(UseModel(use, layers=layers), [vectors(n, seed=n) for n in (1, 5, 3)]).last.types >= 4


def test_layers_of_equal_size_and_equal_weights_keep_their_own_gradients():
    first = linear()
    model = UseModel(lambda m, x: m.b(m.a(x)), a=first, b=copy.deepcopy(first))
    assert_same(model, vectors(3))


def test_a_value_dependent_if_inside_a_cell_names_its_line():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = linear()

        def forward(self, x):
            h = self.linear(x)
            if h.sum() > 0:  # <- if inside a cell
                return h * 2
            return h

    model = UseModel(lambda m, x: m.cell(x), cell=Branching())
    with raises_at(bale.errors.ValueReadError, __file__, "if inside a cell", sample=0):
        bale.batch(model)(vectors(4))


class BranchingOnConstant(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = linear()

    def forward(self, x):
        return self.linear(x) * 2 if x.sum() > 0 else self.linear(x)


def halve(model, x):
    h = model.cell(x)
    while x.norm() > 0.5:
        x = x / 2
        h = model.cell(h)
    return h


def test_a_value_dependent_if_on_a_constant_inside_a_cell():
    """The sample's own tensors are known while its forward runs: Python may look at them."""
    model = UseModel(lambda m, x: m.cell(x), cell=BranchingOnConstant())
    assert_same(model, vectors(6, grad=False))
    assert_same_or_error(model, vectors(6), "sample 0")


def test_a_while_loop_until_a_constant_is_small():
    assert_same(UseModel(halve, cell=linear()), vectors(5, grad=False))
    assert_same_or_error(UseModel(halve, cell=linear()), vectors(5), "sample 0")
