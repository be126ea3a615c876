"""Traps: batch normalisation, parametrised weights, and modules held in odd places."""

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from same import assert_all_close, assert_same, assert_same_or_error, observe, weighted_sum
from small import WIDTH, UseModel, sequences, vectors
from torch import nn

import bale
from bale.errors import BaleError


def linear() -> nn.Linear:
    return nn.Linear(WIDTH, WIDTH)


# Batch normalisation in training.


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        pytest.param(lambda: nn.BatchNorm2d(2), (1, 2, 3, 3), id="BatchNorm2d"),
        pytest.param(lambda: nn.BatchNorm2d(2, momentum=None), (1, 2, 3, 3), id="cumulative average"),
        pytest.param(lambda: nn.BatchNorm1d(3), (4, 3), id="BatchNorm1d over rows"),
        pytest.param(
            lambda: nn.Sequential(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.ReLU()), (1, 2, 3, 3), id="inside"
        ),
        pytest.param(lambda: nn.BatchNorm2d(2, track_running_stats=False), (1, 2, 3, 3), id="without statistics"),
        pytest.param(lambda: nn.InstanceNorm2d(2, track_running_stats=True), (1, 2, 3, 3), id="InstanceNorm2d"),
    ],
)
def test_batch_norm_in_training_is_the_loop_or_an_error_that_names_it(make, shape):
    plain = UseModel(lambda m, x: m.norm(x), norm=make())
    start = copy.deepcopy(plain.state_dict())
    xs = [torch.randn(shape, requires_grad=True) for _ in range(4)]
    wanted = observe(lambda: [plain(x) for x in xs], plain, xs)
    state = copy.deepcopy(plain.state_dict())
    for policy in bale.POLICIES:
        plain.load_state_dict(start)
        try:
            got = observe(lambda policy=policy: bale.batch(plain, policy=policy)(xs), plain, xs)
        except BaleError as error:
            assert "norm" in str(error)
            continue
        assert_all_close(got.outputs, wanted.outputs)
        assert_all_close(got.gradients, wanted.gradients)
        assert_all_close(plain.state_dict(), state)


def test_batch_norm_in_a_recurrence_keeps_the_order_of_the_loop():
    def use(model, xs):
        h = torch.zeros(1, 2, 3)
        for x in xs:
            h = torch.tanh(model.norm(h * 0.5 + x.view(1, 1, 3)))
        return h

    plain = UseModel(use, norm=nn.BatchNorm1d(2))
    twin = copy.deepcopy(plain)
    samples = sequences((2, 3, 1), grad=False)
    assert_all_close(bale.batch(twin)(samples), [plain(s) for s in samples])
    assert_all_close(twin.state_dict(), plain.state_dict())


def test_batch_norm_switched_to_eval_after_training():
    plain = UseModel(lambda m, x: m.norm(x), norm=nn.BatchNorm1d(2))
    twin = copy.deepcopy(plain)
    batched = bale.batch(twin)
    xs = [torch.randn(1, 2, 3) for _ in range(3)]
    for mode in (True, False, True, False):
        plain.train(mode)
        batched.train(mode)
        assert_all_close(batched(xs), [plain(x) for x in xs])
        assert_all_close(twin.state_dict(), plain.state_dict())


def test_spectral_norm_in_training_is_the_loop_or_an_error_that_names_it():
    plain = UseModel(lambda m, x: m.cell(x), cell=nn.utils.parametrizations.spectral_norm(linear()))
    twin = copy.deepcopy(plain)
    xs = vectors(3, grad=False)
    with torch.no_grad():
        try:
            got = bale.batch(twin)(xs)
        except BaleError as error:
            assert "cell" in str(error)
            return
        assert_all_close(got, [plain(x) for x in xs])
        assert_all_close(twin.state_dict(), plain.state_dict())


def test_spectral_norm_in_eval():
    model = UseModel(lambda m, x: m.cell(x), cell=nn.utils.parametrizations.spectral_norm(linear())).eval()
    assert_same(model, vectors(3))


# Parametrised and oddly held weights.


def test_weight_norm_by_parametrization():
    model = UseModel(lambda m, x: torch.tanh(m.cell(m.cell(x))), cell=nn.utils.parametrizations.weight_norm(linear()))
    assert_same(model, vectors(3))


def test_weight_norm_of_the_old_style():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cell = nn.utils.weight_norm(linear())
    assert_same(UseModel(lambda m, x: torch.tanh(m.cell(m.cell(x))), cell=cell), vectors(3))


def test_weight_norm_of_the_old_style_after_a_step():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cell = nn.utils.weight_norm(linear())
    model, xs = UseModel(lambda m, x: m.cell(x), cell=cell), vectors(3)
    batched = bale.batch(model, check="always")
    for _ in range(3):
        assert_all_close(batched(xs), [model(x) for x in xs])
        with torch.no_grad():
            model.cell.weight_g.mul_(1.5)


def test_orthogonal_parametrization():
    model = UseModel(lambda m, x: m.cell(m.cell(x)), cell=nn.utils.parametrizations.orthogonal(linear()))
    assert_same(model, vectors(3))


class Symmetric(nn.Module):
    def forward(self, weight):
        return weight + weight.T


def test_a_parametrization_of_the_users_own():
    cell = linear()
    nn.utils.parametrize.register_parametrization(cell, "weight", Symmetric())
    assert_same(UseModel(lambda m, x: m.cell(x) @ m.cell.weight, cell=cell), vectors(3))


def test_weights_computed_by_a_network():
    def use(model, x):
        weight = model.maker(x).view(WIDTH, WIDTH)
        return F.linear(torch.tanh(model.cell(x)), weight)

    assert_same(UseModel(use, cell=linear(), maker=nn.Linear(WIDTH, WIDTH**2)), vectors(3))


def test_module_list_dict_and_sequential():
    def use(model, sample):
        kind, x = sample
        h = model.by_name[kind](x)
        for layer in model.layers:
            h = torch.tanh(layer(h))
        return model.tail(h), model.layers[-1](h), model.tail[0](h), len(model.layers)

    model = UseModel(
        use,
        by_name=nn.ModuleDict({"a": linear(), "b": linear()}),
        layers=nn.ModuleList([linear(), linear()]),
        tail=nn.Sequential(linear(), nn.ReLU()),
    )
    assert_same(model, list(zip("abba", vectors(4), strict=True)))


def test_parameter_list_and_dict():
    def use(model, sample):
        kind, x = sample
        h = x
        for weight in model.weights:
            h = torch.tanh(weight @ h)
        return h + model.start[kind] + model.weights[0].sum()

    model = UseModel(
        use,
        weights=nn.ParameterList([nn.Parameter(torch.randn(3, 3)) for _ in range(2)]),
        start=nn.ParameterDict({"a": nn.Parameter(torch.randn(3)), "b": nn.Parameter(torch.randn(3))}),
    )
    assert_same(model, list(zip("abba", vectors(4), strict=True)))


def test_parameter_list_inside_a_cell():
    class Listed(nn.Module):
        def __init__(self):
            super().__init__()
            self.weights = nn.ParameterList([nn.Parameter(torch.randn(3, 3)) for _ in range(3)])

        def forward(self, x):
            for weight in self.weights:
                x = torch.tanh(weight @ x)
            return x

    assert_same(UseModel(lambda m, x: m.cell(x), cell=Listed()), vectors(4))


class Hidden(nn.Module):
    """A module with modules that are not registered."""

    def __init__(self):
        super().__init__()
        self.layers = [nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)]
        self.named = {"out": nn.Linear(WIDTH, WIDTH)}

    def forward(self, x):
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return self.named["out"](x)


def unregistered_gradients(model, hidden, forward):
    loose = [p for layer in [*hidden.layers, hidden.named["out"]] for p in layer.parameters()]
    outputs = forward(vectors(3))
    return outputs, torch.autograd.grad(weighted_sum(outputs), loose)


def test_unregistered_modules_in_a_plain_list_of_a_cell():
    model = UseModel(lambda m, x: m.cell(x), cell=Hidden())
    got = unregistered_gradients(model, model.cell, bale.batch(model, check="always"))
    assert_all_close(got, unregistered_gradients(model, model.cell, lambda xs: [model(x) for x in xs]))


def test_unregistered_modules_in_a_plain_list_of_the_root():
    model = Hidden()
    got = unregistered_gradients(model, model, bale.batch(model, check="always"))
    assert_all_close(got, unregistered_gradients(model, model, lambda xs: [model(x) for x in xs]))


def test_unregistered_modules_switched_between_calls():
    """An unregistered module does not follow train(); its own attributes still count."""
    model = UseModel(lambda m, x: m.cell(x), cell=Hidden())
    model.cell.layers.append(nn.LeakyReLU(0.1))
    batched, xs = bale.batch(model, check="off"), vectors(3)
    for slope in (0.1, 0.9):
        model.cell.layers[-1].negative_slope = slope
        assert_all_close(batched(xs), [model(x) for x in xs])


def test_a_module_in_a_closure():
    hidden = linear()
    model, xs = UseModel(lambda m, x: hidden(m.cell(x)), cell=linear()), vectors(3)
    got, loop = bale.batch(model)(xs), [model(x) for x in xs]
    assert_all_close(got, loop)
    wanted = torch.autograd.grad(weighted_sum(loop), hidden.weight)
    assert_all_close(torch.autograd.grad(weighted_sum(got), hidden.weight), wanted)


def test_a_module_made_in_the_forward():
    def use(model, x):
        return nn.Softmax(0)(model.cell(x)) + nn.Tanh()(model.cell(x))

    assert_same(UseModel(use, cell=linear()), vectors(3))


def test_a_function_of_torch_func_on_a_value():
    model = UseModel(lambda m, x: torch.func.functional_call(m.cell, {"bias": x}, (x,)), cell=linear())
    assert_same_or_error(model, vectors(3), "sample 0")
