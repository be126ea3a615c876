"""In-place operations on a lazy value mean what they mean in torch, for every name that holds it, or are refused."""

import pytest
import torch
import torch.nn.functional as F
from same import assert_same, raises_at
from small import WIDTH, Use, UseList, UseModel, sequences, vectors
from torch import nn

import bale
from bale.errors import TraceError


def statements(code):
    """A function of (h, x) from statements that end in the name `out`."""

    def use(h, x):
        names = {"h": h, "x": x, "torch": torch, "F": F, "nn": nn}
        exec(code, names)
        return names["out"]

    return use


@pytest.mark.parametrize(
    "code",
    [
        "h += x; out = h",
        "h -= 1; out = h",
        "h *= x; out = h",
        "h /= 2.5; out = h",
        "h.add_(x); out = h",
        "h.mul_(2).add_(x); out = h",
        "h.tanh_(); out = h",
        "h.relu_(); out = h",
        "h.sub_(x, alpha=2); out = h",
        "h.clamp_(min=0); out = h",
        "h.zero_(); out = h",
        "h.fill_(2.0); out = h",
        "h.copy_(x); out = h",
        "h.masked_fill_(x > 0, 0.5); out = h",
        "h.neg_().exp_(); out = h",
        "h.addcmul_(x, x, value=2); out = h",
        "torch.relu_(h); out = h",
        "F.relu(h, inplace=True); out = h",
        "F.relu_(h); out = h",
        "F.leaky_relu(h, 0.1, inplace=True); out = h",
        "F.dropout(h, 0.5, training=False, inplace=True); out = h",
        "nn.ReLU(inplace=True)(h); out = h",
        "h.unsqueeze_(0); out = h",
        "h.pow_(2); out = h",
        "h **= 2; out = h",
    ],
)
def test_in_place(code):
    assert_same(Use(statements(code)), vectors(4))


@pytest.mark.parametrize(
    "code",
    [
        "other = h; h += x; out = (h, other)",
        "box = [h]; box[0] += x; out = (h, box)",
        "before = h.tanh(); h += x; out = (before, h)",
        "before = h * 2; h.mul_(3); out = (before, h)",
        "later = [h]; h.add_(1); h.add_(1); out = (later, h.tanh())",
        "copy = h.clone(); copy += 1; out = (h, copy)",
        "copy = h + 0; h += x; out = (h, copy)",
        "detached = h.clone().detach(); h += x; out = (h, detached)",
    ],
)
def test_other_names_for_the_value_see_the_change(code):
    assert_same(Use(statements(code)), vectors(4))


def test_a_running_sum_in_place():
    def use(hs, xs):
        total = hs[0].clone()
        for h in hs[1:]:
            total += h
        return total, hs

    assert_same(UseList(use), sequences())


def test_an_in_place_module_of_the_model():
    model = UseModel(lambda m, x: m.act(m.cell(x)), cell=nn.Linear(WIDTH, WIDTH), act=nn.ReLU(inplace=True))
    assert_same(model, vectors(4))


def test_an_in_place_module_changes_what_it_is_given():
    def use(model, x):
        h = model.cell(x)
        model.act(h)
        return h

    assert_same(UseModel(use, cell=nn.Linear(WIDTH, WIDTH), act=nn.ReLU(inplace=True)), vectors(4))


def test_in_place_inside_a_cell():
    class Cell(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(WIDTH, WIDTH)

        def forward(self, x):
            h = self.linear(x)
            h += x
            h[0] = h[0] * 2
            h.tanh_()
            return h

    batched = assert_same(UseModel(lambda m, x: m.cell(x), cell=Cell()), vectors(4))
    assert batched.last.types == 1


def test_a_sequential_with_in_place_activations_is_one_cell():
    net = nn.Sequential(nn.Linear(WIDTH, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
    assert assert_same(UseModel(lambda m, x: m.net(x), net=net), vectors(4)).last.types == 1


def test_a_cell_that_writes_into_its_argument():
    class Cell(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(WIDTH, WIDTH)

        def forward(self, h):
            h += 1
            return self.linear(h)

    def use(model, x):
        h = model.first(x)
        return model.cell(h), h

    assert_same(UseModel(use, first=nn.Linear(WIDTH, WIDTH), cell=Cell()), vectors(4))


# What would be written elsewhere too is refused, at the line that writes.


def write_to_a_row(h, x):
    row = h[0]
    row += 1  # <- row
    return h


def write_under_a_view(h, x):
    view = h.view(1, 3)
    h += 1  # <- base
    return view


def assign_an_element(h, x):
    h[0] = 1.0  # <- element
    return h


def assign_into_a_tensor(h, x):
    out = torch.zeros(2, 3)
    out[0] = h  # <- tensor
    return out


def add_to_a_tensor(h, x):
    total = torch.zeros(3)
    total += h  # <- total
    return total


def write_with_out(h, x):
    out = torch.zeros(3)
    torch.add(h, x, out=out)  # <- out
    return out


def assign_to_a_slice(h, x):
    h[:2] += x[:2]  # <- slice
    return h


@pytest.mark.parametrize(
    ("use", "marker"),
    [
        (write_to_a_row, "row"),
        (write_under_a_view, "base"),
        (assign_an_element, "element"),
        (assign_into_a_tensor, "tensor"),
        (write_with_out, "out"),
        (assign_to_a_slice, "slice"),
    ],
)
def test_writes_that_are_seen_elsewhere_are_refused_where_they_happen(use, marker):
    with raises_at(TraceError, __file__, marker, sample=0):
        bale.batch(Use(use))(vectors(3))


def test_adding_to_a_tensor_made_here():
    """`total = torch.zeros(3); total += h` is common code; either it works or its line is named."""
    try:
        bale.batch(Use(add_to_a_tensor))(vectors(3))
    except TraceError:
        with raises_at(TraceError, __file__, "total", sample=0):
            bale.batch(Use(add_to_a_tensor))(vectors(3))
    else:
        assert_same(Use(add_to_a_tensor), vectors(3))


def test_a_view_that_nobody_holds_any_more_does_not_forbid_writing():
    def use(h, x):
        total = h[0] + h.view(1, 3).sum()
        h += 1
        return h, total

    assert_same(Use(use), vectors(3))


def test_writing_into_the_samples_own_tensor_is_not_lost():
    def use(model, x):
        x = x.clone()
        h = model.start * 2 + x
        x += 1
        return h, model.cell(x)

    model = UseModel(use, cell=nn.Linear(WIDTH, WIDTH), start=nn.Parameter(torch.ones(WIDTH)))
    try:
        assert_same(model, vectors(3, grad=False))
    except TraceError as error:
        assert "in place" in str(error)


def test_a_shape_that_does_not_fit_is_refused_as_in_torch():
    def use(h, x):
        h += torch.ones(2, 3)
        return h

    with pytest.raises(RuntimeError, match="broadcast shape"):
        bale.batch(Use(use))(vectors(2))


def test_a_dtype_that_does_not_fit_is_refused_as_in_torch():
    def use(h, x):
        count = (h > 0).long()
        count += 0.5
        return count

    with pytest.raises(RuntimeError, match="can't be cast"):
        Use(use)(vectors(1)[0])
    with pytest.raises(RuntimeError, match="can't be cast"):
        bale.batch(Use(use))(vectors(2))
